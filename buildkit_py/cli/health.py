"""A container's health check, as it is typed."""

from __future__ import annotations

from buildkit_py.cli import values
from buildkit_py.cli.command import Args, flag, option
from buildkit_py.errors import UsageError
from buildkit_py.request import HealthCheck

_SPANS = ("interval", "timeout", "start_period", "start_interval")


def translate(args: Args) -> HealthCheck:
    """Raises UsageError for values of a wrong form."""
    command = args.text("health_cmd")
    spans = {name: args.text(f"health_{name}") for name in _SPANS}
    retries = values.whole(args.text("health_retries"), "--health-retries") or 0
    if args.flag("no_healthcheck"):
        if command or retries or any(spans.values()):
            raise UsageError("--no-healthcheck and the other health options exclude each other")
        return HealthCheck(("NONE",))
    if retries < 0:
        raise UsageError("--health-retries is negative")
    return HealthCheck(
        ("CMD-SHELL", command) if command else (),
        retries=retries,
        **{name: _span(text, "--health-" + name.replace("_", "-")) for name, text in spans.items()},
    )


def _span(text: str, option: str) -> float:
    seconds = values.seconds(text, option) if text else 0.0
    if 0 < seconds < 0.001:
        raise UsageError(f"{option}: {text} is less than a millisecond")
    return seconds


OPTIONS = (
    option("--health-cmd", metavar="COMMAND", help="Ask by this command whether it is well"),
    option("--health-interval", metavar="DURATION", help="Time between two checks (default 30s)"),
    option("--health-retries", metavar="NUMBER", help="So many failures mean that it is not (default 3)"),
    option("--health-start-interval", metavar="DURATION", help="The interval in the start period"),
    option("--health-start-period", metavar="DURATION", help="Time in which failures don't count"),
    option("--health-timeout", metavar="DURATION", help="A check that takes longer failed (default 30s)"),
    flag("--no-healthcheck", help="Don't check, whatever the image says"),
)
