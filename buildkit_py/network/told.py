"""Warnings about this machine that are given once a store: the file ``network/told`` has a line for each."""

from __future__ import annotations

import os


def once(folder: str, text: str) -> bool:
    """Whether ``text`` was not told before; from now on it was. Raises nothing."""
    path = os.path.join(folder, "told")
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        with open(path, "a+", encoding="utf-8") as f:
            f.seek(0)
            if f"{text}\n" in f.read():
                return False
            f.write(f"{text}\n")
    except OSError:
        pass
    return True
