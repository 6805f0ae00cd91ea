"""``pybuild history logs``"""

from __future__ import annotations

import sys

from buildkit_py.cli.command import Args, Argument, Command
from buildkit_py.cli.history_inspect import BUILD
from buildkit_py.errors import NotFoundError
from buildkit_py.progress.text import LogLines, clean
from buildkit_py.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from buildkit_py.history.record import Build, Step
    from buildkit_py.history.store import History

_CHUNK = 1 << 16


def run(args: Args) -> int:
    from buildkit_py.engine import Engine

    engine = Engine()
    try:
        history = engine.history
        build = history.find(args.text("build"))
        wanted = args.text("step")
        if wanted:
            _one(history, build, find(build, wanted))
        else:
            _all(history, build)
    finally:
        engine.close()
    return 0


def find(build: Build, wanted: str) -> Step:
    """A step by its number, the beginning of its digest, or a part of its name. Raises NotFoundError."""
    if wanted.isdecimal() and 0 < int(wanted) <= len(build.steps):
        return build.steps[int(wanted) - 1]
    digest = "sha256:" + wanted.removeprefix("sha256:")
    for step in build.steps:
        if len(wanted) >= 6 and step.digest.startswith(digest):
            return step
    found = [step for step in build.steps if wanted in step.name]
    if len(found) == 1:
        return found[0]
    why = "no step" if not found else f"{len(found)} steps"
    raise NotFoundError(
        f"{why} of build {build.id} are called '{wanted}'"
        if found
        else f"build {build.id} has no step '{wanted}'",
        hint=f"'pybuild history inspect {build.id}' shows their numbers",
    )


def _one(history: History, build: Build, step: Step) -> None:
    """As it came, to the byte; without what could steer a terminal where stdout is one."""
    path = history.log(build, step)
    if path is None:
        return
    with open(path, "rb") as log:
        if sys.stdout.isatty():
            _lines(log.read(), "")
            return
        while data := log.read(_CHUNK):
            sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def _all(history: History, build: Build) -> None:
    for number, step in enumerate(build.steps, 1):
        path = history.log(build, step)
        if path is None:
            continue
        print(f"#{number} {clean(step.name)}")
        with open(path, "rb") as log:
            _lines(log.read(), f"#{number} ")
        print()


def _lines(data: bytes, prefix: str) -> None:
    lines = LogLines()
    colour = sys.stdout.isatty()
    for line in [*lines.feed(data), *lines.end()]:
        print(prefix + clean(line, colour=colour))


COMMAND = Command(
    "history logs",
    "Print what the steps of a build put out.\n\n"
    "STEP is a number of 'history inspect', the beginning of a digest, or a part of a name; its output alone "
    "is printed, as it came.",
    (BUILD, Argument("step", metavar="[STEP]", required=False)),
    run,
    examples=("pybuild history logs", "pybuild history logs ^1 'RUN make'"),
)
