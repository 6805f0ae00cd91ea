"""pybuild on a terminal of a test's own, as one kind of user."""

from __future__ import annotations

import os
from pathlib import Path

import pexpect

from tests.support.runner import Pybuild


def on_terminal(pybuild: Pybuild, *words: str | Path, size: tuple[int, int] = (24, 80)) -> pexpect.spawn:
    """A command line that was started there. ``size``: rows, columns."""
    argv = [*pybuild.program.argv, *map(str, words)]

    def become() -> None:
        person = pybuild.person
        if person.uid != os.geteuid():
            os.setgroups(os.getgrouplist(person.user, person.gid))
            os.setgid(person.gid)
            os.setuid(person.uid)

    return pexpect.spawn(
        argv[0],
        argv[1:],
        env={**pybuild.environment, "TERM": "xterm"},
        cwd=pybuild.folder,
        encoding="utf-8",
        timeout=30,
        dimensions=size,
        preexec_fn=become,
    )
