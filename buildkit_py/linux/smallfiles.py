"""Small files that may not be there: the kernel's in /proc and /sys, the system's in /etc."""

from __future__ import annotations


def read(path: str) -> str:
    """The text; "" where it can't be read."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as f:
            return f.read()
    except OSError:
        return ""
