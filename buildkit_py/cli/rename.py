"""``pybuild rename``"""

from __future__ import annotations

from buildkit_py.cli.command import Args, Argument, Command


def run(args: Args) -> int:
    from buildkit_py.engine import Engine, networks
    from buildkit_py.runtime import events

    engine = Engine()
    try:
        container = engine.containers.get(args.text("container"))
        renamed = engine.containers.rename(container, args.text("name").removeprefix("/"))
        networks.renamed(engine, renamed)
        events.write(renamed.path, "rename", renamed.config(), oldName="/" + container.name)
    finally:
        engine.close()
    return 0


COMMAND = Command(
    "rename",
    "Give a container another name.",
    (Argument("container", metavar="CONTAINER"), Argument("name", metavar="NEW-NAME")),
    run,
)
