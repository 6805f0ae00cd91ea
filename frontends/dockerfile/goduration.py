"""Go's durations (``1h2m3.5s``), which HEALTHCHECK takes and image configs count in nanoseconds.

Grammar: time.ParseDuration of Go's standard library; output: Duration.String.
"""

from __future__ import annotations

import re

_UNITS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_PART = r"([0-9]*)(?:\.([0-9]*))?(ns|us|µs|μs|ms|s|m|h)"
"""Compiled when it is used: most Dockerfiles hold no duration."""
_MAX = (1 << 63) - 1


def parse(text: str) -> int:
    """Nanoseconds. Raises ValueError with a message for a person."""
    sign = -1 if text.startswith("-") else 1
    rest = text[1:] if text[:1] in ("-", "+") else text
    if rest == "0":
        return 0
    pattern = re.compile(_PART)
    total = position = 0
    while position < len(rest):
        part = pattern.match(rest, position)
        if part is None or not (part[1] or part[2]):
            break
        unit = _UNITS[part[3]]
        total += int((part[1] or "0")[:20]) * unit
        if part[2]:
            digits = part[2][:18]
            total += int(digits) * unit // 10 ** len(digits)
        position = part.end()
    if not rest or position != len(rest):
        raise ValueError(f"{text!r} is not a duration: expected numbers with units, such as 30s or 1m30s")
    if total > _MAX:
        raise ValueError(f"the duration {text!r} is too long")
    return sign * total


def text_of(nanoseconds: int) -> str:
    """As Go prints it: ``1m30s``, ``1.5s``, ``300ms``, ``0s``."""
    if nanoseconds == 0:
        return "0s"
    sign, n = ("-", -nanoseconds) if nanoseconds < 0 else ("", nanoseconds)
    if n < 1_000_000_000:
        for unit, name in ((1_000_000, "ms"), (1_000, "µs"), (1, "ns")):
            if n >= unit:
                return f"{sign}{_decimal(n, unit)}{name}"
    minutes, rest = divmod(n, 60_000_000_000)
    hours, minutes = divmod(minutes, 60)
    seconds = _decimal(rest, 1_000_000_000) + "s"
    if hours:
        return f"{sign}{hours}h{minutes}m{seconds}"
    return f"{sign}{minutes}m{seconds}" if minutes else sign + seconds


def _decimal(n: int, unit: int) -> str:
    whole, rest = divmod(n, unit)
    if not rest:
        return str(whole)
    return f"{whole}.{str(rest).zfill(len(str(unit)) - 1).rstrip('0')}"
