"""``pybuild diff``"""

from __future__ import annotations

from buildkit_py.cli.command import Args, Argument, Command


def run(args: Args) -> int:
    import sys

    from buildkit_py.engine import Engine
    from buildkit_py.engine.changes import diff
    from buildkit_py.progress.text import clean

    # The names are the container's: they may not drive a terminal.
    shown = clean if sys.stdout.isatty() else str
    engine = Engine()
    try:
        engine.begin(supervisors=0)
        for kind, path in diff(engine, engine.containers.get(args.text("container"))):
            print(kind, shown(path))
    finally:
        engine.close()
    return 0


COMMAND = Command(
    "diff",
    "Show which files of a container differ from its image's: A added, C changed, D deleted.",
    (Argument("container", metavar="CONTAINER"),),
    run,
)
