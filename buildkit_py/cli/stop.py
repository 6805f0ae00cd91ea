"""``pybuild stop``"""

from __future__ import annotations

from buildkit_py.cli import values
from buildkit_py.cli.command import Args, Argument, Command, option
from buildkit_py.cli.each import together

TIME = option("-t", "--timeout", "--time", metavar="SECONDS", help="When to kill it (default 10, -1: never)")
SIGNAL = option("-s", "--signal", metavar="SIGNAL", help="The signal to send first")


def means(args: Args) -> tuple[int | None, float | None]:
    """Signal and timeout as they are typed."""
    from buildkit_py.runtime.signals import number_of

    text, seconds = args.text("signal"), values.whole(args.text("time"), "--timeout")
    return (number_of(text) if text else None), (None if seconds is None else float(seconds))


def run(args: Args) -> int:
    from buildkit_py.engine import Engine, containers

    signum, timeout = means(args)
    engine = Engine()
    try:
        return together(engine, args.texts("containers"), lambda c: containers.stop(c, signum, timeout))
    finally:
        engine.close()


COMMAND = Command(
    "stop",
    "Stop containers: send each its stop signal, and kill it when it takes too long.",
    (SIGNAL, TIME, Argument("containers", metavar="CONTAINER...", many=True)),
    run,
)
