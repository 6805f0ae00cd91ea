"""Signals by name and number, as they are typed and as images name them."""

from __future__ import annotations

import signal

from buildkit_py.errors import UsageError


def number_of(text: str) -> int:
    """``TERM``, ``SIGTERM``, ``term``, ``15``, ``SIGRTMIN+3``. Raises UsageError."""
    name = text.strip().upper().removeprefix("SIG")
    if name.isdigit():
        number = int(name)
    else:
        base, plus, offset = name.partition("+")
        if not plus:
            base, _, offset = name.partition("-")
            offset = "-" + offset if offset else ""
        try:
            number = int(signal.Signals["SIG" + base]) + int(offset or 0)
        except (KeyError, ValueError):
            number = 0
    if not 0 < number < signal.NSIG:
        raise UsageError(f"unknown signal {text!r}", hint="for example TERM, SIGKILL or 9")
    return number
