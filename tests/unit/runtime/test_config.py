"""A container's documents: written, read again, also by another version."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from buildkit_py.errors import NotFoundError
from buildkit_py.request import HealthCheck, Isolation, MountSpec, Networking
from buildkit_py.runtime import config as configs
from buildkit_py.runtime import state as states
from buildkit_py.runtime.state import State
from tests.support.containers import config


def test_a_config_survives(tmp_path: Path) -> None:
    made = config(
        "1" * 64,
        "web",
        entrypoint=("a", "b"),
        env=(("A", "1"), ("B", "ü")),
        mounts=(MountSpec("tmpfs", "/t", options=(("size", "1"),)),),
        networking=Networking(hostname="box", extra_hosts=(("a", "1.2.3.4"),)),
        isolation=Isolation(ulimits=(("nofile", 1, -1),)),
        health=HealthCheck(("CMD", "true"), 1.5),
        stop_timeout=3,
    )._replace(image_config={"Env": ["A=b"], "Labels": {"x": "y"}}, anonymous=("v",))
    configs.write(str(tmp_path), made)
    assert configs.read(str(tmp_path)) == made


def test_what_another_version_wrote_is_read(tmp_path: Path) -> None:
    made = config("1" * 64, "web")
    document = configs.encode(made)
    document["later"] = 1
    document["request"]["later"] = {"a": 1}
    del document["request"]["restart"]
    (tmp_path / configs.FILE).write_text(json.dumps(document))
    assert configs.read(str(tmp_path)) == made


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"id": "x"}'])
def test_a_damaged_one_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / configs.FILE).write_text(text)
    with pytest.raises(NotFoundError):
        configs.read(str(tmp_path))


def test_a_state_survives_and_a_missing_one_means_created(tmp_path: Path) -> None:
    assert states.read(str(tmp_path)) == State()
    state = State("running", pid=7, started=1.5, health="healthy", health_log=({"ExitCode": 0},))
    states.write(str(tmp_path), state)
    assert states.read(str(tmp_path)) == state
    assert [p.name for p in tmp_path.iterdir()] == ["state.json"]
