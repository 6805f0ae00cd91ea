"""A thread that works for another one."""

from __future__ import annotations

import _thread
from functools import partial

import pytest

from buildkit_py.network.worker import Worker


def test_it_works_in_a_thread_of_its_own() -> None:
    worker = Worker()
    thread = worker(_thread.get_ident)
    assert thread != _thread.get_ident()
    assert worker(_thread.get_ident) == thread
    assert [worker(partial(pow, n, 2)) for n in range(5)] == [0, 1, 4, 9, 16]


def test_its_error_is_raised_here_and_it_goes_on() -> None:
    worker = Worker()
    with pytest.raises(ZeroDivisionError):
        worker(lambda: 1 // 0)
    assert worker(lambda: "still there") == "still there"
