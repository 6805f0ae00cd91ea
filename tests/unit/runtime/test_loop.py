"""Waiting in one thread."""

from __future__ import annotations

import os

from buildkit_py.runtime.loop import Loop


def test_a_wait_that_is_longer_than_poll_knows() -> None:
    loop = Loop()
    heard: list[object] = []
    ours, theirs = os.pipe()
    try:
        loop.after(1e12, lambda: heard.append("timer"))
        loop.watch(ours, lambda events: heard.append(os.read(ours, 1)))
        os.write(theirs, b"x")
        loop.turn()
    finally:
        os.close(ours)
        os.close(theirs)
    assert heard == [b"x"]
