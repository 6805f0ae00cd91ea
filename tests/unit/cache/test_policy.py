"""The policy file: what is understood, and what is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from buildkit_py.cache import policy
from buildkit_py.cache.eviction import Rule
from buildkit_py.errors import UsageError

DISK = 1000 << 30


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "pybuild").mkdir()
    return tmp_path / "pybuild" / "gc.toml"


def test_without_a_file_there_are_rules(file: Path) -> None:
    rules = policy.load(DISK).rules
    assert rules[0].kinds == ("source.local", "source.http", "source.git.checkout")
    assert rules[-1] == Rule(
        all=True, reserved_space=100 << 30, max_used_space=750 << 30, min_free_space=50 << 30
    )


def test_a_file(file: Path) -> None:
    file.write_text(
        """
        interval = "1h"
        [[policy]]
        filters = ["type==exec.cachemount", "type=source.local", "id==sha256:12"]
        keepDuration = "48h"
        maxUsedSpace = "512MB"
        [[policy]]
        all = true
        keepBytes = 10000
        minFreeSpace = "1%"
        """
    )
    found = policy.load(DISK)
    assert found.interval == 3600
    assert found.rules == (
        Rule(
            kinds=("exec.cachemount", "source.local"),
            ids=("sha256:12",),
            keep_duration=48 * 3600,
            max_used_space=512 << 20,
        ),
        Rule(all=True, reserved_space=10000, min_free_space=10 << 30),
    )


def test_turned_off(file: Path) -> None:
    file.write_text("enabled = false\n")
    assert policy.load(DISK).rules == ()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("enabled = ", "cannot read"),
        ("enable = true", "enable"),
        ("policy = 5", "policy"),
        ("policy = [5]", "policy"),
        ("[[policy]]\nmaxUsedSpac = '1GB'", "maxUsedSpac"),
        ("[[policy]]\nall = 'yes'", "all"),
        ("[[policy]]\nmaxUsedSpace = 'much'", "maxUsedSpace"),
        ("[[policy]]\nmaxUsedSpace = '101%'", "maxUsedSpace"),
        ("[[policy]]\nkeepDuration = 'long'", "keepDuration"),
        ("[[policy]]\nfilters = ['type==internal']", "type==internal"),
        ("[[policy]]\nfilters = ['description~=x']", "description"),
    ],
)
def test_what_is_wrong_is_named(file: Path, text: str, told: str) -> None:
    file.write_text(text)
    with pytest.raises(UsageError, match=told):
        policy.load(DISK)
