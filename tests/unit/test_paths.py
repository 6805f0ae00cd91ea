"""Where things are kept."""

from __future__ import annotations

import pwd

import pytest

from buildkit_py import paths
from buildkit_py.errors import UsageError


@pytest.fixture(autouse=True)
def nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PYBUILD_ROOT", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)


def test_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert paths.data_root() == "/home/me/.local/share/pybuild"
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    assert paths.data_root() == "/home/me/.local/share/pybuild", "as the specification has it"
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert paths.data_root() == "/data/pybuild"
    monkeypatch.setenv("PYBUILD_ROOT", "here")
    assert paths.data_root() == "here"


@pytest.mark.parametrize("home", [None, "relative"])
def test_without_a_home_nothing_is_made_where_one_stands(
    monkeypatch: pytest.MonkeyPatch, home: str | None
) -> None:
    def unknown(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    if home is not None:
        monkeypatch.setenv("HOME", home)
    with pytest.raises(UsageError, match="no place for the store"):
        paths.data_root()
    assert paths.config_dirs() == ("/etc/pybuild",)
