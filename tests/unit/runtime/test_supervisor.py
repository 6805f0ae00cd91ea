"""What a supervisor makes of its container's config."""

from __future__ import annotations

import signal
from types import SimpleNamespace

import pytest

from buildkit_py.runtime.supervisor import Supervisor
from tests.support.containers import config


@pytest.mark.parametrize(
    ("asked", "image", "expected"),
    [
        ("", {}, signal.SIGTERM),
        ("", {"StopSignal": "SIGQUIT"}, signal.SIGQUIT),
        ("INT", {"StopSignal": "SIGQUIT"}, signal.SIGINT),
        ("", {"StopSignal": "SIGNONSENSE"}, signal.SIGTERM),
    ],
)
def test_the_stop_signal(asked: str, image: dict[str, object], expected: int) -> None:
    made = config("x", stop_signal=asked)._replace(image_config=image)
    supervisor = SimpleNamespace(_config=made)
    assert Supervisor._stop_signal(supervisor) == expected  # type: ignore[arg-type]
