"""``pybuild export``"""

from __future__ import annotations

import os
import sys

from buildkit_py.cli.command import Args, Argument, Command, option
from buildkit_py.errors import PybuildError, UsageError


def run(args: Args) -> int:
    from buildkit_py.engine import Engine
    from buildkit_py.engine.changes import export

    output = args.text("output")
    if not output and sys.stdout.isatty():
        raise UsageError("a tar on a terminal helps nobody", hint="-o FILE, or pipe it on")
    engine = Engine()
    try:
        engine.begin(supervisors=0)
        container = engine.containers.get(args.text("container"))
        if not output:
            export(engine, container, 1)
            return 0
        try:
            fd = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        except OSError as e:
            raise PybuildError(f"cannot write {output}: {e.strerror}") from e
        try:
            export(engine, container, fd)
        except BaseException:
            os.unlink(output)
            raise
        finally:
            os.close(fd)
    finally:
        engine.close()
    return 0


COMMAND = Command(
    "export",
    "Write the files of a container as a tar; those of its mounts are left out.",
    (
        option("-o", "--output", metavar="FILE", help="Write to a file instead of stdout"),
        Argument("container", metavar="CONTAINER"),
    ),
    run,
    examples=("pybuild export web | tar t", "pybuild export -o web.tar web"),
)
