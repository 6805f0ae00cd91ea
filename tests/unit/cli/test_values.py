from __future__ import annotations

import time
from pathlib import Path

import pytest

from buildkit_py.cli import values
from buildkit_py.cli.build import cache, secret, ssh
from buildkit_py.cli.cache_prune import filtered
from buildkit_py.cli.mounts import mount, tmpfs, volume
from buildkit_py.errors import UsageError
from buildkit_py.request import CacheSpec, MountSpec, SecretSpec, SshSpec


def test_fields() -> None:
    assert values.fields("a,b,,c", "-o") == ["a", "b", "", "c"]
    assert values.fields('type=local,"dest=a,b","x=""y"""', "-o") == ["type=local", "dest=a,b", 'x="y"']
    assert values.fields('"a",', "-o") == ["a", ""]
    for wrong in ('"a', '"a"b', 'a"b'):
        with pytest.raises(UsageError, match="quote"):
            values.fields(wrong, "-o")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", 0), ("0", 0), ("512", 512), ("512b", 512), ("64k", 65536), ("64m", 64 << 20), ("64MB", 64 << 20),
     ("1.5GiB", 3 << 29), ("2 g", 2 << 30), ("1t", 1 << 40)],
)  # fmt: skip
def test_sizes(text: str, expected: int) -> None:
    assert values.size(text, "--shm-size") == expected


@pytest.mark.parametrize(
    "text", ["m", "1x", "-1m", "1mm", "0x10", "inf", "nan", "1e999", "9999999999999g", "\u0661m0"]
)
def test_wrong_sizes(text: str) -> None:
    with pytest.raises(UsageError, match="--shm-size"):
        values.size(text, "--shm-size")


@pytest.mark.parametrize(
    ("text", "expected"), [("24h", 86400), ("1h30m", 5400), ("90", 90), ("1.5d", 129600), ("2w", 1209600)]
)
def test_durations(text: str, expected: float) -> None:
    assert values.seconds(text, "--filter") == expected
    assert filtered((f"unused-for={text}",)).keep_duration == expected


@pytest.mark.parametrize("text", ["", "h", "1", "5x", "1h2", "-3h"])
def test_wrong_durations(text: str) -> None:
    if text in ("1", "1h2"):
        assert values.seconds(text, "--filter") > 0
        return
    with pytest.raises(UsageError, match="--filter"):
        values.seconds(text, "--filter")


def test_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERE", "value")
    monkeypatch.delenv("NOT_HERE", raising=False)
    assert values.variables(("A=1", "B=", "HERE", "NOT_HERE", "C=x=y"), "-e") == (
        ("A", "1"), ("B", ""), ("HERE", "value"), ("C", "x=y"),
    )  # fmt: skip
    with pytest.raises(UsageError, match="no name"):
        values.variables(("=x",), "-e")


def test_env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERE", "value")
    path = tmp_path / "env"
    path.write_bytes(b"\xef\xbb\xbf# comment\nA=1 # no comment\n\n  B='quoted'\r\nHERE\nMISSING\nE=\n")
    assert values.env_file(str(path)) == (
        ("A", "1 # no comment"),
        ("B", "'quoted'"),
        ("HERE", "value"),
        ("E", ""),
    )
    path.write_text("A B=1\n")
    with pytest.raises(UsageError, match=":1: 'A B'"):
        values.env_file(str(path))
    path.write_bytes(b"A=\xff\n")
    with pytest.raises(UsageError, match="UTF-8"):
        values.env_file(str(path))
    with pytest.raises(UsageError, match="No such file"):
        values.env_file(str(tmp_path / "missing"))


def test_ulimits() -> None:
    assert values.ulimits(("nofile=1024:4096", "CORE=0", "memlock=-1")) == (
        ("nofile", 1024, 4096), ("core", 0, 0), ("memlock", -1, -1),
    )  # fmt: skip
    for wrong in ("nofile", "nofile=", "=1", "nofile=x", "nofile=2:1", "nofile=-1:5", f"nofile={1 << 63}"):
        with pytest.raises(UsageError, match="--ulimit"):
            values.ulimits((wrong,))


def test_hosts() -> None:
    assert values.hosts(("a:1.2.3.4", "b=::1", "c:[fe80::1]", "d:host-gateway", "e:::1")) == (
        ("a", "1.2.3.4"), ("b", "::1"), ("c", "fe80::1"), ("d", "host-gateway"), ("e", "::1"),
    )  # fmt: skip
    for wrong in ("a", ":1", "a:", "a="):
        with pytest.raises(UsageError, match="--add-host"):
            values.hosts((wrong,))


def test_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "t")
    monkeypatch.delenv("npmrc", raising=False)
    assert secret("id=a,src=/f") == SecretSpec("a", "/f")
    assert secret("id=a,source=/f,type=file") == SecretSpec("a", "/f")
    assert secret("id=a,env=TOKEN") == SecretSpec("a", "", "TOKEN")
    assert secret("type=env,id=TOKEN") == SecretSpec("TOKEN", "", "TOKEN")
    assert secret("type=env,id=a,src=TOKEN") == SecretSpec("a", "", "TOKEN")
    assert secret("id=TOKEN") == SecretSpec("TOKEN", "", "TOKEN")
    assert secret("id=npmrc") == SecretSpec("npmrc", "npmrc")
    assert secret("src=/f") == SecretSpec("/f", "/f")
    for wrong in ("", "type=x,id=a", "id=a,mode=1", "id=a,src=b,env=c", "type=file"):
        with pytest.raises(UsageError, match="--secret"):
            secret(wrong)


def test_ssh_and_cache() -> None:
    assert ssh("default") == SshSpec("default")
    assert ssh("id=/a,/b") == SshSpec("id", ("/a", "/b"))
    assert cache("user/app:cache", "--cache-from") == CacheSpec("registry", (("ref", "user/app:cache"),))
    assert cache("inline", "--cache-to") == CacheSpec("inline")
    assert cache("type=local,dest=d,mode=max", "--cache-to").get("mode") == "max"
    with pytest.raises(UsageError, match="--cache-to"):
        cache("ref=x", "--cache-to")


def test_volumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/x")
    made = ("bind-create-src", "")
    assert volume("/a:/b") == MountSpec("bind", "/b", "/a", options=(made,))
    assert volume("./src:/b:ro") == MountSpec("bind", "/b", f"{tmp_path}/src", True, (made,))
    assert volume("~/x:/b:rw,z") == MountSpec("bind", "/b", "/home/x/x", False, (("z", ""), made))
    assert volume("data:/b") == MountSpec("volume", "/b", "data")
    assert volume("/anonymous") == MountSpec("volume", "/anonymous")
    for wrong in ("a", "a:b", "/a:/b:ro:x", "/a:", ":/b", "", "/a:/", "a/b:/c", "/a:/../.."):
        with pytest.raises(UsageError, match="--volume"):
            volume(wrong)


def test_mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert mount("type=bind,src=x,dst=/b,readonly") == MountSpec("bind", "/b", f"{tmp_path}/x", True)
    assert mount("source=v,target=/b,ro=false") == MountSpec("volume", "/b", "v")
    assert mount("type=tmpfs,destination=/t,tmpfs-size=1m") == MountSpec(
        "tmpfs", "/t", options=(("size", "1m"),)
    )
    for wrong in (
        "type=bind,dst=/b",
        "type=bind,src=/x",
        "type=npipe,dst=/b",
        "type=tmpfs,src=x,dst=/t",
        "dst=b",
    ):
        with pytest.raises(UsageError, match="--mount"):
            mount(wrong)
    assert tmpfs("/t:ro,size=64m,mode=1777") == MountSpec(
        "tmpfs", "/t", "", True, (("size", "64m"), ("mode", "1777"))
    )
    assert tmpfs("/t") == MountSpec("tmpfs", "/t")


@pytest.mark.parametrize("text", ["nan", "inf", "-1", "1e400", "99999999999999999999", "x"])
def test_no_moments(text: str) -> None:
    with pytest.raises(UsageError, match="--since"):
        values.moment(text, "--since")


def test_moments() -> None:
    assert values.moment("", "--since") == 0.0
    assert values.moment("1136073845.5", "--since") == 1136073845.5
    assert values.moment("1970-01-01T00:00:10.123456789Z", "--since") == 10.123456
    assert abs(values.moment("10m", "--since") - (time.time() - 600)) < 60
    assert values.moment("9999999h", "--since") == 1.0


@pytest.mark.parametrize("text", ["x", "1.5", "99999999999999999999", "nan"])
def test_no_whole_numbers(text: str) -> None:
    with pytest.raises(UsageError, match="--tail"):
        values.whole(text, "--tail")


@pytest.mark.parametrize("text", ["a:b", "a=", "a", "a:1.2.3"])
def test_no_hosts(text: str) -> None:
    with pytest.raises(UsageError, match="--add-host"):
        values.hosts((text,))
