"""Small files that may not be there: the kernel's in /proc and /sys, the system's in /etc."""

from __future__ import annotations


def read(path: str) -> str:
    """The text; "" where it can't be read."""
    try:
        # A carriage return is part of a name.
        with open(path, encoding="utf-8", errors="surrogateescape", newline="\n") as f:
            return f.read()
    except OSError:
        return ""
