"""Every command that README.md shows is run, in the order in which it stands there.

A block marked ``console`` holds commands behind ``$ ``; below each is what it prints. All are run in one
folder with the checkout's examples. What stands below a command must occur in its output;
``…`` stands for anything. The make targets are left out: test_demo.py runs one, and this run is the other.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable
from typing import NamedTuple

from tests.support.people import Person
from tests.support.program import REPOSITORY
from tests.support.runner import Pybuild


class Command(NamedTuple):
    text: str
    expected: list[str]


def commands() -> list[Command]:
    found: list[Command] = []
    for block in re.findall(r"^```console\n(.*?)^```", (REPOSITORY / "README.md").read_text(), re.M | re.S):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append(Command(line[2:], []))
            elif line.startswith("> "):
                found[-1] = found[-1]._replace(text=found[-1].text + "\n" + line[2:])
            elif line.strip():
                found[-1].expected.append(line)
    return [command for command in found if not re.match(r"(make|git clone|cd) ", command.text)]


def test_there_are_commands() -> None:
    assert len(commands()) > 8
    assert "make demo" in (REPOSITORY / "README.md").read_text()


def test_every_command(me: Pybuild, host_flags: Callable[[Person], list[str]]) -> None:
    me.copy(REPOSITORY / "examples")
    argv = shlex.join(me.program.argv)
    # The README shows what works with direct access to package indexes; this machine may need its flags.
    flags = shlex.join(host_flags(me.person))
    prelude = (
        f'pybuild() {{ if [ "$1" = build ]; then shift; {argv} build {flags} "$@"; else {argv} "$@"; fi; }}\n'
    )
    for command in commands():
        # Each command is a shell of its own, so that its output is its own; variables don't outlive it.
        done = subprocess.run(
            ["bash", "-c", prelude + command.text],
            cwd=me.folder,
            env=me.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            **me.person.popen(),
        )
        assert done.returncode == 0, f"$ {command.text}\n{done.stdout}"
        for line in command.expected:
            pattern = r"\s+".join(re.escape(word).replace("…", ".*") for word in line.split())
            assert re.search(pattern, done.stdout), f"$ {command.text}\n{line!r} is not in\n{done.stdout}"
