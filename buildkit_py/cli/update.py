"""``pybuild update``"""

from __future__ import annotations

from buildkit_py.cli import limits, report
from buildkit_py.cli.command import Args, Argument, Command, option
from buildkit_py.errors import UsageError
from buildkit_py.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from buildkit_py.engine import Engine
    from buildkit_py.runtime.container import Container

_FIXED = ("--shm-size", "--strict", "--cgroup-parent")


def run(args: Args) -> int:
    from buildkit_py.cli.each import with_engine
    from buildkit_py.engine.update import update
    from buildkit_py.runtime.restart import parse

    restart = args.text("restart")
    if restart:
        parse(restart)
    given = Args({**{o.name: _nothing(o.is_flag) for o in limits.OPTIONS}, **args.values})
    wanted = limits.translate(given, added=True)
    if not restart and wanted == type(wanted)():
        raise UsageError("nothing is to be changed", hint="name a limit, or --restart")

    def act(engine: Engine, container: Container) -> None:
        late = update(engine, container, wanted, restart)
        if late:
            report.warn(f"{container.name}: {late}")

    return with_engine(args.texts("containers"), act)


def _nothing(is_flag: bool) -> bool | str:
    return False if is_flag else ""


COMMAND = Command(
    "update",
    "Change the limits and the restart policy of containers.",
    (
        *(o for o in limits.OPTIONS if o.flags[-1] not in _FIXED),
        option("--restart", metavar="POLICY", help="no, always, unless-stopped or on-failure[:TIMES]"),
        Argument("containers", metavar="CONTAINER...", many=True),
    ),
    run,
)
