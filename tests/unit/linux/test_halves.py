"""Work shared with a forked child."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from buildkit_py.errors import PybuildError, StoreError
from buildkit_py.linux.halves import in_halves


def test_both_halves_are_done_and_one_by_a_child() -> None:
    def work(n: int) -> tuple[int, int]:
        return n * n, os.getpid()

    (one, mine), (other, theirs) = in_halves(work, 3, 4)
    assert (one, other) == (9, 16)
    assert mine == os.getpid()
    assert theirs != mine or len(os.sched_getaffinity(0)) < 2


def test_large_results() -> None:
    data = os.urandom(5_000_000)
    assert in_halves(lambda n: data[:n], 10, 5_000_000) == (data[:10], data)


def test_an_error_of_the_child_keeps_its_class() -> None:
    parent = os.getpid()

    def work(_: int) -> None:
        if os.getpid() != parent:
            raise StoreError("no space", hint="prune")

    with pytest.raises(StoreError, match="no space") as raised:
        in_halves(work, 1, 2)
    assert raised.value.hint == "prune"


def test_an_error_here_ends_the_child() -> None:
    parent = os.getpid()

    def work(_: int) -> None:
        if os.getpid() == parent:
            raise PybuildError("here")
        time.sleep(60)

    start = time.perf_counter()
    with pytest.raises(PybuildError, match="here"):
        in_halves(work, 1, 2)
    assert time.perf_counter() - start < 10


@pytest.mark.parametrize("how", ["kill", "unexpected error", "no child"])
def test_without_the_child_its_half_is_done_here(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parent = os.getpid()

    def work(n: int) -> int:
        if os.getpid() != parent:
            if how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise ZeroDivisionError
        return n

    def refuse() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    if how == "no child":
        monkeypatch.setattr(os, "fork", refuse)
    assert in_halves(work, 1, 2) == (1, 2)


def test_a_child_dies_with_its_parent(tmp_path: Path) -> None:
    parent = os.getpid()
    mark = tmp_path / "pid"
    between = os.fork()
    if between == 0:
        middle = os.getpid()

        def work(_: int) -> None:
            if os.getpid() != middle:
                mark.write_text(str(os.getpid()))
            time.sleep(60)

        try:
            in_halves(work, 1, 2)
        finally:
            os._exit(0)
    deadline = time.monotonic() + 10
    while not (mark.exists() and mark.read_text()) and time.monotonic() < deadline:
        time.sleep(0.01)
    child = int(mark.read_text())
    os.kill(between, signal.SIGKILL)
    os.waitpid(between, 0)
    while time.monotonic() < deadline:
        try:  # where this process is the reaper of its grandchildren, it has to reap
            os.waitpid(child, os.WNOHANG)
        except ChildProcessError:
            pass
        if not Path(f"/proc/{child}").exists():
            return
        time.sleep(0.01)
    pytest.fail(f"{child} outlived its parent; {parent}")
