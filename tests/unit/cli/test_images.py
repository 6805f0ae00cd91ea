"""Lists of the store's images, with a real store and no daemon, network or privilege."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from buildkit_py import cli
from buildkit_py.digest import Digest
from buildkit_py.engine import Engine


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Digest]:
    """Three images: app with two names, lib with one, and one without; their ids by name."""
    monkeypatch.setenv("PYBUILD_ROOT", str(tmp_path / "store"))
    monkeypatch.delenv("PYBUILD_DEBUG", raising=False)
    engine = Engine()
    ids: dict[str, Digest] = {}
    for number, name in enumerate(("app", "lib", "nameless")):
        config = {
            "architecture": "amd64",
            "os": "linux",
            "created": "2020-01-01T00:00:00Z",
            "config": {"Env": [f"NAME={name}"], "Labels": {"kind": name}},
            "rootfs": {"type": "layers", "diff_ids": []},
            "history": [],
        }
        ids[name] = engine.images.put(json.dumps(config).encode(), size=1_000_000 * (number + 1))
    engine.images.tag("app:1", ids["app"])
    engine.images.tag("registry.example:5000/team/app:2", ids["app"])
    engine.images.tag("lib", ids["lib"])
    engine.close()
    return ids


Capture = pytest.CaptureFixture[str]


def output(capsys: Capture, *words: str, status: int = 0) -> str:
    assert cli.main(list(words)) == status
    return capsys.readouterr().out


def test_images(store: dict[str, Digest], capsys: Capture) -> None:
    lines = output(capsys, "images").splitlines()
    assert lines[0].split() == ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]
    short = store["app"][7:19]
    rows = {tuple(line.split()[:3]) for line in lines[1:]}
    assert rows == {
        ("app", "1", short),
        ("registry.example:5000/team/app", "2", short),
        ("lib", "latest", store["lib"][7:19]),
        ("<none>", "<none>", store["nameless"][7:19]),
    }
    assert output(capsys, "image", "ls") == "\n".join(lines) + "\n"
    assert set(output(capsys, "images", "-q").split()) == {digest[7:19] for digest in store.values()}
    assert store["lib"] in output(capsys, "images", "--no-trunc", "lib")


def test_formats_and_filters(store: dict[str, Digest], capsys: Capture) -> None:
    assert output(capsys, "images", "--format", "{{.Repository}}:{{.Tag}} {{.Size}}", "app") == "app:1 1MB\n"
    assert (
        output(capsys, "images", "--format", "table {{.Tag}}\\t{{.Size}}", "lib")
        == "TAG       SIZE\nlatest    2MB\n"
    )
    assert json.loads(output(capsys, "images", "--format", "json", "app:*"))["Repository"] == "app"
    assert output(capsys, "images", "-q", "-f", "dangling=true") == store["nameless"][7:19] + "\n"
    assert output(capsys, "images", "-q", "-f", "label=kind=lib") == store["lib"][7:19] + "\n"
    assert output(capsys, "images", "-q", "-f", "label=other") == ""
    assert output(capsys, "images", "-q", "-f", "reference=*/team/*") == store["app"][7:19] + "\n"
    assert "DIGEST" in output(capsys, "images", "--digests")
    assert cli.main(["images", "-f", "other=x"]) == 2
    assert "unknown filter 'other'" in capsys.readouterr().err


def test_inspect(store: dict[str, Digest], capsys: Capture) -> None:
    (document,) = json.loads(output(capsys, "inspect", "app:1"))
    assert document["Id"] == store["app"]
    assert document["RepoTags"] == ["app:1", "registry.example:5000/team/app:2"]
    assert document["Config"]["Env"] == ["NAME=app"]
    assert (document["Os"], document["Architecture"]) == ("linux", "amd64")
    assert output(capsys, "inspect", "-f", "{{json .Config.Labels}}", "lib") == '{"kind":"lib"}\n'
    assert output(capsys, "inspect", "--format={{.Id}}", store["lib"][7:19]) == store["lib"] + "\n"
    assert cli.main(["inspect", "missing"]) == 1
    assert "no such container or image: missing" in capsys.readouterr().err


def test_tag_and_rmi(store: dict[str, Digest], capsys: Capture) -> None:
    assert output(capsys, "tag", "lib", "lib:copy") == ""
    assert output(capsys, "rmi", "lib:copy") == "Untagged: lib:copy\n"
    assert output(capsys, "rmi", "lib").splitlines() == [
        "Untagged: lib:latest",
        f"Deleted: {store['lib']}",
    ]
    assert cli.main(["rmi", "gone", "app:1"]) == 1
    captured = capsys.readouterr()
    assert "no such image: gone" in captured.err
    assert captured.out == "Untagged: app:1\n"
    assert output(capsys, "rmi", "-f", "gone") == ""


def test_an_empty_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setenv("PYBUILD_ROOT", str(tmp_path / "empty"))
    assert output(capsys, "images").split() == ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]
    assert output(capsys, "images", "-q") == ""
    assert output(capsys, "cache", "ls").split() == [
        "ID",
        "SIZE",
        "CREATED",
        "LAST",
        "USED",
        "USES",
        "IMAGES",
        "STEP",
    ]
    assert "Total:" in output(capsys, "cache", "du")


def test_prune_asks_before_it_removes(
    store: dict[str, Digest], capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert cli.main(["prune", "-a"]) == 2
    assert "hint: use -f" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    assert cli.main(["prune", "-a"]) != 2
    assert "Removed images" not in capsys.readouterr().out


def test_dump_ast_and_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setenv("PYBUILD_ROOT", str(tmp_path / "store"))
    path = tmp_path / "Dockerfile"
    path.write_text('FROM scratch AS a\nCOPY x /x\nFROM busybox\nCOPY --from=a /x /y\nRUN echo "hi"\n')
    monkeypatch.chdir(tmp_path)
    dot = output(capsys, "debug", "graph")
    assert dot.startswith("digraph build {") and 'RUN echo \\"hi\\"' in dot
    assert "COPY x /x" in dot and "Dockerfile:5" in dot and dot.count("->") >= 3
