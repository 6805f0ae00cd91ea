"""Numbers and times in lists, as docker's tables show them."""

from __future__ import annotations

import time

_DAY = 86400
_AGES = (
    ("second", 1, 60),
    ("minute", 60, 3600),
    ("hour", 3600, 2 * _DAY),
    ("day", _DAY, 14 * _DAY),
    ("week", 7 * _DAY, 60 * _DAY),
    ("month", 30 * _DAY, 730 * _DAY),
    ("year", 365 * _DAY, 1 << 62),
)
"""A unit, its seconds, and for how many seconds it is used: docker's."""


def size(number: int) -> str:
    """Decimal units, three digits: ``4.43MB``."""
    value = float(number)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 999.5 or unit == "TB":
            return f"{value:.3g}{unit}" if unit != "B" else f"{number}B"
        value /= 1000
    raise AssertionError("unreachable")


def age(when: float, now: float | None = None) -> str:
    """``3 hours ago``"""
    seconds = max((time.time() if now is None else now) - when, 0.0)
    if seconds < 1:
        return "Less than a second ago"
    unit, length = next((unit, length) for unit, length, limit in _AGES if seconds < limit)
    number = int(seconds / length)
    if number == 1 and unit in ("minute", "hour"):
        return f"About a{'n' if unit == 'hour' else ''} {unit} ago"
    return f"{number} {unit}{'s' if number != 1 else ''} ago"


def timestamp(when: float) -> str:
    """RFC 3339 in UTC, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(when))


def moment(when: float) -> str:
    """As lists show it: ``2026-11-28 07:40:00 +0000 UTC``, in the local zone."""
    return time.strftime("%Y-%m-%d %H:%M:%S %z %Z", time.localtime(when))


def short(digest: str, whole: bool = False) -> str:
    """The twelve characters by which docker's lists show an id."""
    return digest if whole else digest.partition(":")[2][:12] or digest[:12]


def binary(number: int) -> str:
    """Binary units, four digits: ``1.25GiB``."""
    value = float(number)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            return f"{value:.4g}{unit}" if unit != "B" else f"{number}B"
        value /= 1024
    raise AssertionError("unreachable")
