"""Numbers and times in lists, as docker's tables show them."""

from __future__ import annotations

import time

_AGES = (("second", 60), ("minute", 60), ("hour", 24), ("day", 14), ("week", 9), ("month", 24), ("year", 0))
_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800, "month": 2592000}


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
        return "less than a second ago"
    count = seconds
    for unit, limit in _AGES:
        count = seconds / _SECONDS.get(unit, 31536000)
        if not limit or count < limit:
            break
    number = int(count)
    if unit == "minute" and number == 1:
        return "about a minute ago"
    if unit == "hour" and number == 1:
        return "about an hour ago"
    return f"{number} {unit}{'s' if number != 1 else ''} ago"


def timestamp(when: float) -> str:
    """RFC 3339 in UTC, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(when))


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
