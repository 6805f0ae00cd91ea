"""Limits as they are typed."""

from __future__ import annotations

from typing import Any

import pytest

from buildkit_py.cli import fast, limits, table
from buildkit_py.cli.command import Args
from buildkit_py.errors import UsageError
from buildkit_py.request import Limits


def args(*words: str) -> Args:
    parsed = fast.parse(table.load("run"), [*words, "image"])
    assert parsed is not None
    return parsed


@pytest.mark.parametrize(
    ("words", "fields"),
    [
        ((), {}),
        (("-m", "64m", "--memory-swap=1g"), {"memory": 64 << 20, "memory_swap": 1 << 30}),
        (("--memory=64m", "--memory-swap=-1"), {"memory": 64 << 20, "memory_swap": -1}),
        (("--cpus", "1.5", "--cpu-shares=512"), {"cpus": 1.5, "cpu_shares": 512}),
        (("--cpuset-cpus=0-2,4", "--cpuset-mems=0"), {"cpuset_cpus": "0-2,4", "cpuset_mems": "0"}),
        (("--pids-limit=-1", "--blkio-weight=500"), {"pids": -1, "blkio_weight": 500}),
        (("--strict", "--cgroup-parent=/a"), {"strict": True, "cgroup_parent": "/a"}),
        (("--shm-size=1m", "--memory-reservation=5k"), {"shm_size": 1 << 20, "memory_reservation": 5120}),
        (("-m", "0", "--cpus=0", "--cpu-quota=0", "--pids-limit=0"), {}),
        (("--memory=64m", "--memory-swap=0"), {"memory": 64 << 20}),
        (("--memory-swap=-1",), {"memory_swap": -1}),
        (("--cpu-quota=-1",), {}),
        (("--cpu-period=50000", "--cpu-quota=25000"), {"cpus": 0.5}),
    ],
)
def test_forms(words: tuple[str, ...], fields: dict[str, Any]) -> None:
    assert limits.translate(args(*words)) == Limits(**fields)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("-m", "1m"), "the least is 6m"),
        (("--memory-swap=1g",), "needs --memory"),
        (("-m", "64m", "--memory-swap=32m"), "can't be less"),
        (("-m", "64m", "--memory-reservation=128m"), "can't be more than --memory"),
        (("--cpus=0.001",), "not a number of processors"),
        (("--cpus=1", "--cpu-period=50000"), "exclude each other"),
        (("--cpus=nan",), "not a number of processors"),
        (("--cpuset-cpus=a",), "not of the form"),
        (("--pids-limit=x",), "not a number from"),
        (("--blkio-weight=5",), "not a number from 10"),
        (("--cgroup-parent=/a/../..",), "leads out"),
    ],
)
def test_mistakes(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        limits.translate(args(*words))
