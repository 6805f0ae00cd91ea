"""RUN --device: CDI specs, and what becomes of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from buildkit_py.errors import StepError
from buildkit_py.sandbox.spec import SandboxMount
from buildkit_py.worker import devices


@pytest.fixture
def specs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(devices, "FOLDERS", (str(tmp_path), str(tmp_path / "none")))
    spec = {
        "cdiVersion": "0.6.0",
        "kind": "vendor.com/thing",
        "containerEdits": {"env": ["COMMON=1"]},
        "devices": [
            {
                "name": "one",
                "containerEdits": {"deviceNodes": [{"path": "/dev/one", "hostPath": "/dev/null"}]},
            },
            {
                "name": "two",
                "containerEdits": {"mounts": [{"hostPath": str(tmp_path), "containerPath": "/two"}]},
            },
            {"name": "hooked", "containerEdits": {"hooks": [{"path": "/bin/true"}]}},
            {"name": "damaged", "containerEdits": {"deviceNodes": [{}]}},
        ],
    }
    (tmp_path / "vendor.json").write_text(json.dumps(spec))
    return tmp_path


def attached(*values: str) -> tuple[list[SandboxMount], dict[str, str]]:
    mounts: list[SandboxMount] = []
    env: dict[str, str] = {}
    devices.attach(values, mounts, env)
    return mounts, env


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("v/c=n", ("v/c=n", False)),
        ("v/c=n,required", ("v/c=n", True)),
        ("v/c,required=true", ("v/c", True)),
        ("required=false,name=v/c", ("v/c", False)),
    ],
)
def test_the_value(value: str, expected: tuple[str, bool]) -> None:
    assert devices.parse(value) == expected


def test_nodes_mounts_and_variables(specs: Path) -> None:
    node = SandboxMount("bind", "/dev/one", source="/dev/null", readonly=False)
    folder = SandboxMount("bind", "/two", source=str(specs), readonly=True)
    assert attached("vendor.com/thing=one") == ([node], {"COMMON": "1"})
    assert attached("vendor.com/thing") == ([node], {"COMMON": "1"})
    assert attached("vendor.com/thing=two", "vendor.com/thing=one")[0] == [folder, node]


def test_what_is_not_there_is_left_out_unless_required(specs: Path) -> None:
    assert attached("vendor.com/thing=three", "other.com/thing=one") == ([], {})
    with pytest.raises(StepError, match="is required"):
        attached("vendor.com/thing=three,required")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("vendor.com/thing=hooked", "hooks"),
        ("vendor.com/thing=damaged", "damaged"),
        ("vendor.com/thing=*", "hooks"),
        ("a/b=c,optional", "no option"),
    ],
)
def test_refused(specs: Path, value: str, message: str) -> None:
    with pytest.raises(StepError, match=message):
        attached(value)


@pytest.mark.parametrize("content", ["{", "[1]", '{"kind": "vendor.com/thing", "devices": [1]}'])
def test_other_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    monkeypatch.setattr(devices, "FOLDERS", (str(tmp_path),))
    (tmp_path / "a.json").write_text(content)
    (tmp_path / "a.txt").write_text("{")
    found: Any = None
    try:
        found = attached("vendor.com/thing=one")
    except StepError as error:
        assert "cannot be read" in error.message
    assert found in (None, ([], {}))
