"""``pybuild kill``"""

from __future__ import annotations

from buildkit_py.cli.command import Args, Argument, Command, option
from buildkit_py.cli.each import with_engine


def run(args: Args) -> int:
    from buildkit_py.engine import containers
    from buildkit_py.runtime.signals import number_of

    signum = number_of(args.text("signal"))
    return with_engine(args.texts("containers"), lambda _, c: containers.kill(c, signum))


COMMAND = Command(
    "kill",
    "Send a signal to containers, KILL by default.",
    (
        option("-s", "--signal", metavar="SIGNAL", default="KILL", help="For example TERM, SIGHUP or 9"),
        Argument("containers", metavar="CONTAINER...", many=True),
    ),
    run,
)
