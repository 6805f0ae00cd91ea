"""Containers on a real terminal: run -it, detach and attach, exec -it, resize; the terminal is put back."""

from __future__ import annotations

import os
import signal
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pexpect

from tests.support.containers import ready, state
from tests.support.runner import Pybuild

PROMPT = "box> "
SHELL = ("-e", f"PS1={PROMPT}", "busybox", "sh")


@contextmanager
def spawn(pybuild: Pybuild, *words: str | Path) -> Iterator[Any]:
    """A command on a terminal of 24 rows and 80 columns, as the pybuild's user."""
    person = pybuild.person

    def become() -> None:
        if person.uid != os.geteuid():
            os.initgroups(person.user, person.gid)
            os.setgid(person.gid)
            os.setuid(person.uid)

    argv = [*pybuild.program.argv, *map(str, words)]
    child = pexpect.spawn(
        argv[0],
        argv[1:],
        env=pybuild.environment,
        cwd=str(pybuild.folder),
        timeout=30,
        preexec_fn=become,
        dimensions=(24, 80),
        encoding="utf-8",
    )
    try:
        yield child
    finally:
        child.close(force=True)


def status(child: Any) -> int:
    child.expect(pexpect.EOF)
    child.wait()
    return int(child.exitstatus if child.exitstatus is not None else -child.signalstatus)


def test_an_interactive_shell_is_kept_when_it_ends(pybuild: Pybuild) -> None:
    with spawn(pybuild, "run", "-it", "--name", "box", *SHELL) as child:
        child.expect_exact(PROMPT)
        child.sendline("stty size; tty; echo made > /file")
        child.expect_exact("24 80")
        child.expect_exact("/dev/console")
        child.expect_exact(PROMPT)
        child.sendline("exit 3")
        assert status(child) == 3
    assert state(pybuild, "box")["ExitCode"] == 3
    with spawn(pybuild, "start", "-ai", "box") as child:
        child.expect_exact(PROMPT)
        child.sendline("cat /file; exit")
        child.expect_exact("made")
        assert status(child) == 0
    assert "stty size" in pybuild("logs", "box").stdout
    pybuild("rm", "box")


def test_detach_attach_and_resize(pybuild: Pybuild) -> None:
    with spawn(pybuild, "run", "-it", "--name", "box", *SHELL) as child:
        before = termios.tcgetattr(child.child_fd)
        child.expect_exact(PROMPT)
        child.send("\x10\x11")
        assert status(child) == 0
        assert before is not None
    assert state(pybuild, "box")["Running"] is True
    with spawn(pybuild, "attach", "box") as child:
        child.sendline("echo back again")
        child.expect_exact("back again\r\n")
        child.expect_exact(PROMPT)
        child.setwinsize(40, 100)
        child.sendline("until stty size | grep '40 100'; do :; done; trap 'echo got it' INT; echo set")
        child.expect_exact("40 100")
        child.expect_exact("set\r\n")
        child.sendintr()
        child.expect_exact("got it")
        child.send("\x10\x11")
        assert status(child) == 0
    assert state(pybuild, "box")["Running"] is True
    with spawn(pybuild, "attach", "--detach-keys", "q,ctrl-x", "box") as child:
        # What only begins like the keys is passed on.
        child.sendline("echo qaqua")
        child.expect_exact("qaqua\r\n")
        child.expect_exact(PROMPT)
        child.send("q\x18")
        assert status(child) == 0
    with spawn(pybuild, "attach", "box") as child:
        child.send("\r")
        child.expect_exact(PROMPT)
        child.sendline("exit 5")
        assert status(child) == 5
    pybuild("rm", "box")


def test_the_terminal_is_put_back(pybuild: Pybuild) -> None:
    """A shell around the command sees the terminal as it was, in all cases."""
    script = 'stty -a | head -3 > "$0.before"; "$@"; stty -a | head -3 > "$0.after"'
    place = pybuild.out / "stty"
    for words in (
        ("run", "--rm", "-it", "busybox", "true"),
        ("run", "--rm", "-it", "busybox", "no-such-command"),
        ("run", "--rm", "-it", "-u", "nobody-knows", "busybox", "true"),
    ):
        person = pybuild.program
        runner = person._replace(argv=("sh", "-c", script, str(place), *person.argv))
        pybuild.program, kept = runner, pybuild.program
        try:
            with spawn(pybuild, *words) as child:
                status(child)
        finally:
            pybuild.program = kept
        assert Path(f"{place}.before").read_text() == Path(f"{place}.after").read_text()


def test_exec_on_a_terminal(pybuild: Pybuild) -> None:
    pybuild("run", "-d", "--name", "box", "busybox", "sh", "-c", "echo ready; sleep 1000")
    ready(pybuild, "box")
    with spawn(pybuild, "exec", "-it", "-e", f"PS1={PROMPT}", "box", "sh") as child:
        child.expect_exact(PROMPT)
        child.sendline("tty; stty size; test -t 0 && echo yes")
        child.expect("/dev/pts/[0-9]+")
        child.expect_exact("24 80")
        child.expect_exact("yes")
        child.setwinsize(50, 120)
        child.sendline("until stty size | grep '50 120'; do :; done")
        child.expect_exact("50 120\r\n")
        child.sendline("exit 9")
        assert status(child) == 9
    pybuild("rm", "-f", "box")


def test_a_terminal_that_is_gone_doesnt_end_the_container(pybuild: Pybuild) -> None:
    with spawn(pybuild, "run", "-it", "--name", "box", *SHELL) as child:
        child.expect_exact(PROMPT)
        child.sendline("trap '' HUP")
        child.expect_exact(PROMPT)
        child.kill(signal.SIGKILL)
        child.expect(pexpect.EOF)
    assert state(pybuild, "box")["Running"] is True
    pybuild("rm", "-f", "box")
