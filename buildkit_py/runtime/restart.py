"""Restart policies: whether, and how soon, a container that ended is started again."""

from __future__ import annotations

from buildkit_py.errors import UsageError
from buildkit_py.runtime.state import State

_FIRST = 0.1
_LONGEST = 60.0
_STEADY = 10.0
"""Seconds after which a run counts as one that went well."""


def parse(text: str) -> tuple[str, int]:
    """``no``, ``always``, ``unless-stopped``, ``on-failure[:TIMES]``: the name, and times or 0.

    Raises UsageError.
    """
    name, colon, times = text.partition(":")
    if name not in ("no", "always", "unless-stopped", "on-failure") or (colon and name != "on-failure"):
        raise UsageError(
            f"unknown restart policy {text!r}", hint="no, always, unless-stopped or on-failure[:TIMES]"
        )
    if colon and not times.isdigit():
        raise UsageError(f"the times of the restart policy {text!r} are no number")
    return name, int(times or 0)


def due(policy: str, state: State) -> bool:
    """Whether a container is to run again after the machine was restarted: ``always`` has it so, and
    ``unless-stopped`` where nobody had stopped it. One that never ran is left alone."""
    name, _ = parse(policy or "no")
    if state.live or not state.started:
        return False
    return name == "always" or (name == "unless-stopped" and not state.stopped)


class Policy:
    """``failures``: how many runs in a row were short."""

    def __init__(self, text: str, failures: int = 0) -> None:
        self._name, self._times = parse(text or "no")
        self.failures = failures

    def next(self, status: int, ran: float) -> float:
        """Seconds until the next start after a run of ``ran`` seconds; negative for none."""
        if self._name == "no" or (self._name == "on-failure" and status == 0):
            return -1.0
        if ran >= _STEADY:
            self.failures = 0
        self.failures += 1
        if self._times and self.failures > self._times:
            return -1.0
        return min(_FIRST * 2.0 ** min(self.failures - 1, 20), _LONGEST)
