from __future__ import annotations

import os
import threading

import pytest

from buildkit_py.sandbox import wire
from buildkit_py.sandbox.owners import _id
from buildkit_py.sandbox.spec import SandboxMount, SandboxSpec


def test_message_with_descriptors() -> None:
    a, b = wire.pair()
    reading, writing = os.pipe()
    wire.send(a, ("run", "host"), (reading, writing))
    os.close(reading)
    os.close(writing)
    message, fds = wire.receive(b)
    assert message == ("run", "host")
    os.write(fds[1], b"x")
    assert os.read(fds[0], 1) == b"x"
    assert not any(map(os.get_inheritable, fds))
    for fd in fds:
        os.close(fd)
    a.close()
    assert wire.receive(b) == (None, [])
    b.close()


def test_what_was_said_before_hanging_up_is_heard() -> None:
    a, b = wire.pair()
    wire.send(a, ("unread",))
    wire.send(b, ("failed", "why"))
    b.close()
    assert wire.receive(a)[0] == ("failed", "why")
    a.close()


@pytest.mark.parametrize("size", [0, 1, 65_536, 5_000_000])
def test_spec_of_any_size(size: int) -> None:
    spec = SandboxSpec(
        ("/l1", "/l2"),
        "/up",
        "/work",
        ("sh", "-c", "caf\udce9"),
        ("A=" + "x" * size,),
        mounts=(SandboxMount("file", "/f", data=b"\0\xff" * (size // 2), mode=0o400),),
        ulimits=(("nofile", 1, 2),),
    )
    a, b = wire.pair()
    sender = threading.Thread(target=wire.send_spec, args=(a, spec))
    sender.start()
    assert wire.receive_spec(b) == spec
    sender.join()
    a.close()
    b.close()


def test_a_sender_that_goes_away() -> None:
    a, b = wire.pair()
    a.send((100).to_bytes(8, "little"))
    a.close()
    with pytest.raises(EOFError):
        wire.receive_spec(b)
    b.close()


@pytest.mark.parametrize(
    ("value", "narrow", "expected"),
    [
        (0xFFFFFFFF, False, 0xFFFFFFFF),
        (0xFFFFFFFFFFFFFFFF, False, 0xFFFFFFFF),
        (0xFFFF, False, 0xFFFF),
        (0xFFFF, True, 0xFFFFFFFF),
        (0x1FFFF, True, 0xFFFFFFFF),
        (5, True, 5),
    ],
)
def test_ids_of_old_calls(value: int, narrow: bool, expected: int) -> None:
    assert _id(value, narrow=narrow) == expected
