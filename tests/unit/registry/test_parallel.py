from __future__ import annotations

import ctypes
import threading

import pytest

from buildkit_py.registry.parallel import all_of


def test_the_results_keep_their_order() -> None:
    """The first item is done last."""
    gate = threading.Event()

    def work(item: int) -> int:
        if item:
            gate.set()
        else:
            assert gate.wait(10)
        return item * 2

    assert all_of(range(5), work, 2) == [0, 2, 4, 6, 8]
    assert all_of([], work, 2) == []


def test_an_error_ends_the_rest() -> None:
    begun: list[int] = []
    cancelled = threading.Event()

    def work(item: int) -> None:
        begun.append(item)
        if item == 0:
            assert cancelled.wait(10)
        else:
            raise ValueError(item)

    with pytest.raises(ValueError, match="1"):
        all_of(range(100), work, 2, cancelled.set)
    assert sorted(begun) == [0, 1]


def test_an_interrupt_between_two_looks_is_seen() -> None:
    """A signal that came when the interpreter had looked for the last time before it blocked wakes nobody."""
    gate = threading.Event()
    seen = threading.Event()
    main = threading.get_ident()

    def work(item: int) -> None:
        # Told to the main thread without a signal, as if that had come too early to end its wait.
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(main), ctypes.py_object(KeyboardInterrupt))
        gate.wait(30)

    with pytest.raises(KeyboardInterrupt):
        all_of([1], work, 1, seen.set)
    gate.set()
    assert seen.is_set()
