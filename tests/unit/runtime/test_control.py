"""Messages between a supervisor and its clients: real sockets, and ends that go at the worst moment."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import pytest

from buildkit_py.digest import Digest
from buildkit_py.engine import containers
from buildkit_py.errors import PybuildError
from buildkit_py.runtime import control, events
from buildkit_py.runtime.container import Container


def test_a_message_and_its_descriptors_arrive(tmp_path: Path) -> None:
    read, write = os.pipe()
    mine, theirs = control.pair()
    with closing(mine), closing(theirs):
        control.send(mine, {"op": "attach", "streams": ["stdout"]}, (write,))
        message, fds = control.receive(theirs)
        assert message == {"op": "attach", "streams": ["stdout"]}
        os.write(fds[0], b"through")
        assert os.read(read, 16) == b"through"
        for fd in (read, write, *fds):
            os.close(fd)


def test_a_message_may_be_larger_than_a_socket_takes() -> None:
    read, write = os.pipe()
    mine, theirs = control.pair()
    large = {"op": "exec", "env": ["BIG=" + "x" * 10_000_000]}
    with closing(mine), closing(theirs):
        control.send(mine, large, (write,))
        message, fds = control.receive(theirs)
        assert message == large
        assert len(fds) == 1
        for fd in (read, write, *fds):
            os.close(fd)


def test_nobody_listens(tmp_path: Path) -> None:
    assert control.connect(str(tmp_path)) is None
    control.listen(str(tmp_path)).close()
    assert control.connect(str(tmp_path)) is None
    assert control.ask(str(tmp_path), {"op": "wait"}) is None


def test_the_listener_goes_before_it_accepts(tmp_path: Path) -> None:
    """The kernel says "reset" then, not "broken pipe"."""
    listener = control.listen(str(tmp_path))
    conn = control.connect(str(tmp_path))
    assert conn is not None
    listener.close()
    with closing(conn), pytest.raises(BrokenPipeError):
        control.send(conn, {"op": "stop"})


def test_the_listener_goes_between_question_and_answer(tmp_path: Path) -> None:
    listener = control.listen(str(tmp_path))
    conn = control.connect(str(tmp_path))
    assert conn is not None
    control.send(conn, {"op": "stop"})
    listener.close()
    with closing(conn):
        assert control.receive(conn) == (None, [])


def test_a_command_hears_that_the_container_went(tmp_path: Path) -> None:
    container = Container("0" * 64, "web", Digest("sha256:" + "0" * 64), None, 0.0, str(tmp_path))
    listener = control.listen(str(tmp_path))
    conn = containers.connect(container)
    listener.close()
    with closing(conn), pytest.raises(PybuildError, match="web is not running"):
        containers.tell(conn, container, {"op": "exec"})


def test_an_error_is_raised_with_its_hint() -> None:
    with pytest.raises(PybuildError, match="full") as raised:
        control.checked({"error": "full", "hint": "make room"})
    assert raised.value.hint == "make room"


def test_the_status_of_a_container_that_went_is_told_by_its_events(tmp_path: Path) -> None:
    """One of --rm is gone with its directory before the supervisor heard whoever waits for it."""
    id = "0" * 64
    events.put(str(tmp_path), "container", "die", id, {"exitCode": "7"})
    events.put(str(tmp_path), "container", "die", "1" * 64, {"exitCode": "8"})
    path = str(tmp_path / "containers" / id)
    assert containers.wait(Container(id, "web", Digest("sha256:" + id), None, 0.0, path)) == 7
