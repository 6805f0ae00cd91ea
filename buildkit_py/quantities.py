"""Sizes and durations as people write them.

Both functions raise UsageError; ``option`` says in the message what the value is of.
"""

from __future__ import annotations

from buildkit_py.errors import UsageError

_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
_SECONDS = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def size(text: str, option: str) -> int:
    """Bytes of ``64m``, ``1g``, ``1.5GiB``, ``512``; binary units, as docker's options have them."""
    if not text:
        return 0
    lower = text.strip().lower()
    number = lower.rstrip("abcdefghijklmnopqrstuvwxyz ")
    unit = lower[len(number) :].strip()
    unit = (
        unit.removesuffix("ib") if unit.endswith("ib") else unit.removesuffix("b") if len(unit) > 1 else unit
    )
    try:
        result = int(float(number) * _UNITS[unit])
    except (ValueError, KeyError, OverflowError):
        raise UsageError(f"{option}: '{text}' is not a size", hint="for example 64m or 1g") from None
    if result < 0:
        raise UsageError(f"{option}: '{text}' is negative")
    if result >= 1 << 63:
        raise UsageError(f"{option}: '{text}' is too large")
    return result


def seconds(text: str, option: str) -> float:
    """``24h``, ``1h30m``, ``90s``, ``500ms``, ``7d``: Go's durations and days and weeks; a bare number is
    seconds."""
    result, number, unit = 0.0, "", ""
    # The mark at the end has the last part counted.
    for char in text.strip() + ("s" if text[-1:].isdigit() else "") + "0":
        if char.isalpha() or char == "µ":
            unit += char
            continue
        if unit:
            try:
                result += float(number) * _SECONDS[unit]
            except (ValueError, KeyError):
                result = -1.0
                break
            number = unit = ""
        number += char
    if result < 0 or number != "0" or not text.strip():
        raise UsageError(f"{option}: '{text}' is not a duration", hint="for example 24h or 7d")
    return result
