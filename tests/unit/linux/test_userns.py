from __future__ import annotations

import os
from pathlib import Path

import pytest

from buildkit_py.errors import SandboxError
from buildkit_py.linux import userns
from buildkit_py.linux.identity import Identity, IdRange


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ()),
        ("me:100000:65536\n", ((100000, 65536),)),
        ("1000:100000:65536\n", ((100000, 65536),)),
        ("other:1:2\nme:100000:10\n1000:300000:20\n", ((100000, 10), (300000, 20))),
        ("# comment\nme\nme:x:y\nme:1:2:3\nme:5:0\nme:0:5\n", ()),
        ("me:4294967290:100\n", ()),
        ("10001:100000:65536\nmeme:1:1\n", ()),
    ],
)
def test_subordinate_ids(tmp_path: Path, text: str, expected: tuple[tuple[int, int], ...]) -> None:
    path = tmp_path / "subuid"
    path.write_text(text)
    assert userns.subordinate_ids(str(path), ("me", "1000")) == expected


def test_no_file_is_no_ids(tmp_path: Path) -> None:
    assert userns.subordinate_ids(str(tmp_path / "none"), ("me",)) == ()


def test_ranges_follow_one_another() -> None:
    assert userns.make_map(1000, ((100000, 10), (300000, 20))) == (
        IdRange(0, 1000, 1),
        IdRange(1, 100000, 10),
        IdRange(11, 300000, 20),
    )


def test_a_range_that_holds_the_user_is_left_out() -> None:
    # The kernel refuses a map that names an outside id twice.
    assert userns.make_map(1000, ((990, 20), (5000, 5))) == (IdRange(0, 1000, 1), IdRange(1, 5000, 5))


def test_a_map_has_no_more_lines_than_the_kernel_takes() -> None:
    assert len(userns.make_map(0, tuple((10 * n, 1) for n in range(1, 1000)))) == 340


def test_can_own() -> None:
    identity = Identity("ids", (IdRange(0, 1000, 1), IdRange(1, 100000, 10)), (IdRange(0, 1000, 1),))
    assert identity.can_own(10, 0)
    assert not identity.can_own(11, 0)
    assert not identity.can_own(0, 1)
    assert Identity("root").can_own(1 << 31, 5)


def test_a_refused_write_says_so() -> None:
    with pytest.raises(SandboxError, match="write /proc/version") as caught:
        userns.write_file("/proc/version" if os.geteuid() else "/proc/version/x", "x")
    assert caught.value.errno


def test_find(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "newuidmap"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert userns.find("newuidmap") == str(program)
    assert userns.find("no-such-program") == ""


def test_would_be_changes_nothing() -> None:
    before = Path("/proc/self/uid_map").read_text()
    assert userns.would_be() in ("root", "ids", "single")
    assert Path("/proc/self/uid_map").read_text() == before


@pytest.mark.parametrize(
    ("name", "value", "mend"),
    [
        ("user/max_user_namespaces", "0", "sudo sysctl -w user.max_user_namespaces=28633"),
        ("kernel/unprivileged_userns_clone", "0", "sudo sysctl -w kernel.unprivileged_userns_clone=1"),
        (
            "kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        ),
    ],
)
def test_the_setting_to_blame(tmp_path: Path, name: str, value: str, mend: str) -> None:
    path = tmp_path / name
    path.parent.mkdir()
    path.write_text("96364\n" if value == "0" else "0\n")
    assert userns.blocking_setting(str(tmp_path)) is None
    path.write_text(value + "\n")
    found = userns.blocking_setting(str(tmp_path))
    assert found is not None
    assert found.mend == mend
