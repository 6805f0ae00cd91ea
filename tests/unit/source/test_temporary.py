"""Directories for one build: gone at the end, and swept when their process is dead."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from buildkit_py.errors import StoreError
from buildkit_py.source.temporary import TemporaryDirectory


def test_gone_at_the_end(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), TemporaryDirectory(str(tmp_path)) as made:
        assert os.listdir(made.path) == []
        (Path(made.path) / "d").mkdir(mode=0)
        raise ZeroDivisionError
    assert os.listdir(tmp_path / "staging") == []
    made.remove()


def test_the_dead_are_swept_the_living_are_not(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        TemporaryDirectory(str(tmp_path))
        os.write(writing, b"x")
        time.sleep(60)
        os._exit(0)
    os.close(writing)
    assert os.read(reading, 1) == b"x"
    os.close(reading)
    with TemporaryDirectory(str(tmp_path)):
        assert len(os.listdir(tmp_path / "staging")) == 2
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    with TemporaryDirectory(str(tmp_path)):
        assert len(os.listdir(tmp_path / "staging")) == 1


def test_no_place(tmp_path: Path) -> None:
    (tmp_path / "staging").write_text("")
    with pytest.raises(StoreError):
        TemporaryDirectory(str(tmp_path))


def test_many_at_once(tmp_path: Path) -> None:
    """Nobody sweeps what another thread is just making."""
    errors: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(50):
                with TemporaryDirectory(str(tmp_path)) as made:
                    (Path(made.path) / "f").touch()
        except BaseException as e:
            errors.append(e)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert os.listdir(tmp_path / "staging") == []


def test_unfinished_ones_are_swept_when_old(tmp_path: Path) -> None:
    place = tmp_path / "staging/new-x"
    place.mkdir(parents=True)
    with TemporaryDirectory(str(tmp_path)):
        assert place.exists()
    os.utime(place, (1, 1))
    with TemporaryDirectory(str(tmp_path)):
        assert not place.exists()
