"""``pybuild port``"""

from __future__ import annotations

from buildkit_py.cli.command import Args, Argument, Command
from buildkit_py.errors import NotFoundError


def run(args: Args) -> int:
    from buildkit_py.engine import Engine
    from buildkit_py.network import record

    engine = Engine()
    try:
        container = engine.containers.get(args.text("container"))
        state = record.load(container.path)
        published = state.ports if state is not None and container.alive() else ()
    finally:
        engine.close()
    wanted = args.text("port")
    if wanted:
        port, _, protocol = wanted.partition("/")
        protocol = protocol or "tcp"
        published = tuple(p for p in published if (str(p.container), p.protocol) == (port, protocol))
        if not published:
            raise NotFoundError(
                f"no port {port}/{protocol} of {args.text('container')} is published",
                hint=f"`pybuild port {args.text('container')}` lists those that are",
            )
    for p in published:
        where = f"[{p.host_ip}]:{p.host}" if ":" in p.host_ip else f"{p.host_ip}:{p.host}"
        print(where if wanted else f"{p.container}/{p.protocol} -> {where}")
    return 0


COMMAND = Command(
    "port",
    "Show where the ports of a container are to be found on this machine.",
    (
        Argument("container", metavar="CONTAINER"),
        Argument("port", metavar="[PORT[/PROTOCOL]]", required=False),
    ),
    run,
)
