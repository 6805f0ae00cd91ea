"""Git repositories over HTTP on loopback: references, checkouts, submodules, and what is refused."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from buildkit_py.errors import PybuildError
from buildkit_py.llb.ops import GitSource
from buildkit_py.source import gitcommand
from buildkit_py.source.git import Repositories
from buildkit_py.source.gitcommand import Access
from tests.support.web import Repository, Web

pytestmark = pytest.mark.needs("git")


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Web]:
    (tmp_path / "srv").mkdir()
    with Web(tmp_path / "srv") as web:
        yield web


@pytest.fixture
def repository(served: Web) -> Repository:
    assert served.repositories is not None
    return Repository(served.repositories / "a.git")


class Checkout:
    """Checks commits out, each into a new directory."""

    def __init__(self, folder: Path, git: Repositories) -> None:
        self._folder = folder
        self.git = git
        self._count = 0

    def __call__(self, op: GitSource) -> Path:
        self._count += 1
        place, scratch = self._folder / f"out{self._count}", self._folder / f"scratch{self._count}"
        place.mkdir(parents=True)
        scratch.mkdir()
        self.git.check_out(op, self.git.resolve(op), str(place), str(scratch))
        return place


@pytest.fixture
def check_out(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path / "checkouts", Repositories(str(tmp_path / "store")))


def _url(served: Web, name: str = "a.git") -> str:
    return f"{served.url}/{name}"


def _names(place: Path) -> list[str]:
    return sorted(os.listdir(place))


def test_references(served: Web, repository: Repository, check_out: Checkout) -> None:
    one = repository.commit({"f": "1"})
    repository.git("tag", "v1")
    repository.git("tag", "-a", "v1-annotated", "-m", "x")
    tag = repository.git("rev-parse", "v1-annotated")
    repository.git("checkout", "-q", "-b", "side/branch")
    two = repository.commit({"f": "2"})
    repository.git("checkout", "-q", "main")
    repository.git("update-ref", "refs/pull/7/head", two)
    url = _url(served)
    for ref, commit in (
        ("", one),
        ("main", one),
        ("v1", one),
        ("v1-annotated", one),
        ("refs/tags/v1", one),
        ("side/branch", two),
        ("refs/heads/side/branch", two),
        ("refs/pull/7/head", two),
        ("pull/7/head", two),
        (two, two),
    ):
        op = GitSource(url, ref)
        assert check_out.git.resolve(op) == commit, ref
        assert (check_out(op) / "f").read_text() == ("1" if commit == one else "2"), ref
    assert check_out.git.resolve(GitSource(url, "v1-annotated", checksum=tag[:8])) == one
    with pytest.raises(PybuildError, match="has no branch or tag 'nothing'"):
        check_out.git.resolve(GitSource(url, "nothing"))


def test_a_branch_before_a_tag(served: Web, repository: Repository, check_out: Checkout) -> None:
    repository.commit({"f": "1"})
    repository.git("tag", "same")
    repository.git("checkout", "-q", "-b", "same")
    two = repository.commit({"f": "2"})
    assert check_out.git.resolve(GitSource(_url(served), "same")) == two


def test_a_named_commit_asks_nobody_twice(served: Web, repository: Repository, check_out: Checkout) -> None:
    commit = repository.commit({"f": "1"})
    op = GitSource(_url(served), commit)
    check_out(op)
    served.requests.clear()
    check_out(op)
    check_out(GitSource(_url(served), checksum=commit))
    assert served.requests == []


def test_commit_below_a_branch(served: Web, repository: Repository, check_out: Checkout) -> None:
    one = repository.commit({"f": "1"})
    repository.commit({"f": "2"})
    assert (check_out(GitSource(_url(served), one)) / "f").read_text() == "1"
    with pytest.raises(PybuildError, match=r"a\.git"):
        check_out(GitSource(_url(served), "f" * 40))


def test_checksum(served: Web, repository: Repository, check_out: Checkout) -> None:
    commit = repository.commit({"f": "1"})
    url = _url(served)
    assert check_out.git.resolve(GitSource(url, "main", checksum=commit[:7])) == commit
    assert check_out.git.resolve(GitSource(url, "main", checksum=commit.upper())) == commit
    with pytest.raises(PybuildError, match=f"main is the commit {commit}, not 0000"):
        check_out.git.resolve(GitSource(url, "main", checksum="0000"))
    for bad in ("abc", "xyz1", "sha256:0", commit + "0" * 30):
        with pytest.raises(PybuildError, match="is not a commit"):
            check_out.git.resolve(GitSource(url, "main", checksum=bad))


def test_files_modes_and_times(served: Web, repository: Repository, check_out: Checkout) -> None:
    (repository.path / "x").write_text("")
    (repository.path / "x").chmod(0o755)
    repository.commit({"d/f": "1", "l": "-> d/f", "dangling": "-> /nowhere", "-n": "", ".wh.f": ""})
    place = check_out(GitSource(_url(served)))
    assert _names(place) == ["-n", ".wh.f", "d", "dangling", "l", "x"]
    assert [(place / n).lstat().st_mode & 0o777 for n in ("x", "d", "d/f")] == [0o755, 0o755, 0o644]
    assert os.readlink(place / "l") == "d/f"
    assert {(place / n).lstat().st_mtime for n in ("d", "d/f", "l", "dangling")} == {1612325106.0}


def test_empty_commit(served: Web, repository: Repository, check_out: Checkout) -> None:
    repository.git("commit", "-q", "--allow-empty", "-m", "nothing")
    assert _names(check_out(GitSource(_url(served)))) == []


def test_subdir(served: Web, repository: Repository, check_out: Checkout) -> None:
    repository.commit(
        {
            "d/e/f": "1",
            "file": "",
            "in": "-> d/e",
            "out": "-> ../../../../../../etc",
            "abs": "-> /etc",
            "d/e/up": "-> ..",
        }
    )
    url = _url(served)
    for subdir in ("d/e", "/d/e/", "./d//e", "in"):
        assert _names(check_out(GitSource(url, subdir=subdir))) == ["f", "up"], subdir
    for subdir in ("none", "file", "out", "abs"):
        with pytest.raises(PybuildError, match="has no directory"):
            check_out(GitSource(url, subdir=subdir))
    for subdir in ("..", "d/../..", "../a"):
        with pytest.raises(PybuildError, match="outside of the repository"):
            check_out(GitSource(url, subdir=subdir))


def test_keep_git_dir(served: Web, repository: Repository, check_out: Checkout) -> None:
    commit = repository.commit({"f": "1"})
    url = _url(served).replace("http://", "http://user:secret@")
    place = check_out(GitSource(url, keep_git_dir=True))

    def git(*words: str) -> str:
        return subprocess.check_output(["git", "-C", place, *words], text=True).strip()

    assert git("rev-parse", "HEAD") == commit
    assert git("status", "--porcelain") == ""
    assert git("remote", "get-url", "origin") == _url(served)
    assert not (place / ".git/hooks").exists()
    assert all(b"secret" not in p.read_bytes() for p in place.rglob("*") if p.is_file())


def test_submodules(served: Web, repository: Repository, check_out: Checkout) -> None:
    assert served.repositories is not None
    inner = Repository(served.repositories / "inner.git")
    inner.commit({"deep": "1"})
    middle = Repository(served.repositories / "middle.git")
    middle.commit({"m": "1"})
    middle.git("submodule", "--quiet", "add", "../inner.git", "inner")
    middle.git("config", "-f", ".gitmodules", "submodule.inner.url", "../inner.git")
    pinned = middle.commit({"n": "1"})
    repository.commit({"f": "1"})
    repository.git(
        "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", "../middle.git", "sub/middle"
    )
    repository.commit({"g": "1"})
    middle.commit({"later": "1"})
    assert pinned
    place = check_out(GitSource(_url(served)))
    assert _names(place) == [".gitmodules", "f", "g", "sub"]
    assert _names(place / "sub/middle") == [".gitmodules", "inner", "m", "n"]
    assert _names(place / "sub/middle/inner") == ["deep"]
    without = check_out(GitSource(_url(served), submodules=False))
    assert _names(without / "sub/middle") == []
    assert _names(check_out(GitSource(_url(served), subdir="sub/middle/inner"))) == ["deep"]


@pytest.mark.parametrize("url", ["file:///etc", "/etc/x.git", "ext::sh -c 'touch {mark}'", "-u./x"])
def test_submodule_that_wants_out(
    served: Web, repository: Repository, check_out: Checkout, tmp_path: Path, url: str
) -> None:
    mark = tmp_path / "mark"
    repository.commit({"f": "1"})
    text = f'[submodule "s"]\n\tpath = s\n\turl = "{url.format(mark=mark)}"\n'
    (repository.path / ".gitmodules").write_text(text)
    repository.git("update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},s")
    repository.git("add", ".gitmodules")
    repository.git("commit", "-q", "-m", "bad")
    with pytest.raises(PybuildError):
        check_out(GitSource(_url(served)))
    assert not mark.exists()


def test_submodule_through_a_link(
    served: Web, repository: Repository, check_out: Checkout, tmp_path: Path
) -> None:
    assert served.repositories is not None
    inner = Repository(served.repositories / "inner.git")
    commit = inner.commit({"deep": "1"})
    outside = tmp_path / "outside"
    outside.mkdir()
    repository.commit({"l": f"-> {outside}"})
    for path in ("l/s", "../s"):
        text = f'[submodule "s"]\n\tpath = {path}\n\turl = ../inner.git\n'
        (repository.path / ".gitmodules").write_text(text)
        repository.git("add", ".gitmodules")
        tree = repository.git("write-tree")
        made = repository.git("commit-tree", tree, "-m", "bad", "-p", "HEAD")
        repository.git("update-ref", "HEAD", made)
        try:
            check_out(GitSource(_url(served)))
        except PybuildError:
            pass
        assert list(outside.iterdir()) == []
    assert commit


@pytest.mark.parametrize(
    ("url", "ref"),
    [
        ("--upload-pack=touch x", ""),
        ("http://h/a.git", "--upload-pack=x"),
        ("http://h/a.git", "a b"),
        ("http://h/a.git", "a:b"),
        ("http://h/a.git", "+a"),
        ("http://h/a.git\nx", ""),
    ],
)
def test_what_is_no_name(tmp_path: Path, url: str, ref: str) -> None:
    with pytest.raises(PybuildError):
        Repositories(str(tmp_path)).resolve(GitSource(url, ref))


@pytest.mark.parametrize("url", ["file:///srv/a.git", "ext::sh -c id", "/srv/a.git"])
def test_other_protocols(tmp_path: Path, url: str) -> None:
    with pytest.raises(PybuildError):
        Repositories(str(tmp_path)).resolve(GitSource(url))


def test_local_repository_by_command_line(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "a")
    commit = repository.commit({"f": "1"})
    url = f"file://{repository.path}"
    with pytest.raises(PybuildError, match="not allowed"):
        Repositories(str(tmp_path / "s")).resolve(GitSource(url))
    git = Repositories(str(tmp_path / "s"), Access(local=frozenset((url,))))
    assert git.resolve(GitSource(url)) == commit


def test_token(served: Web, repository: Repository, tmp_path: Path) -> None:
    served.token = "hush"
    commit = repository.commit({"f": "1"})
    secrets = {"GIT_AUTH_TOKEN.127.0.0.1": "hush\n"}
    op = GitSource(_url(served))
    git = Repositories(str(tmp_path / "s"), Access(secret=lambda name: secrets.get(name, "")))
    assert git.resolve(op) == commit
    git.fetch(op, commit)
    with pytest.raises(PybuildError) as caught:
        Repositories(str(tmp_path / "t")).resolve(op)
    assert "GIT_AUTH_TOKEN" in caught.value.hint
    # A token for any host is not sent in clear.
    general = Access(secret=lambda name: "hush" if name == "GIT_AUTH_TOKEN" else "")
    with pytest.raises(PybuildError):
        Repositories(str(tmp_path / "t"), general).resolve(op)


def test_a_login_in_a_url_is_on_no_command_line(
    served: Web, repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.token = "hu:s%h"
    commit = repository.commit({"f": "1"})
    seen: list[str] = []
    run = subprocess.run

    def watched(words: list[str], **options: Any) -> subprocess.CompletedProcess[bytes]:
        seen.extend(words)
        return run(words, **options)

    monkeypatch.setattr(subprocess, "run", watched)
    op = GitSource(_url(served).replace("http://", "http://x-access-token:hu%3As%25h@"))
    git = Repositories(str(tmp_path / "s"))
    assert git.resolve(op) == commit
    git.fetch(op, commit)
    assert _url(served) in seen
    assert not [word for word in seen if "hu" in word]


def test_read(served: Web, repository: Repository, check_out: Checkout) -> None:
    commit = repository.commit(
        {
            "d/Dockerfile": "FROM a",
            "Dockerfile": "-> d/Dockerfile",
            "out": "-> /etc/passwd",
            "up": "-> ../../x",
        }
    )
    op = GitSource(_url(served))
    git = check_out.git
    assert git.read(op, commit, "Dockerfile", 100) == b"FROM a"
    assert git.read(op._replace(subdir="d"), commit, "Dockerfile", 100) == b"FROM a"
    for name in ("out", "up", "none", "d", "d/none", "Dockerfile/x"):
        assert git.read(op, commit, name, 100) is None, name
    with pytest.raises(PybuildError, match="larger"):
        git.read(op, commit, "Dockerfile", 5)
    for name in ("../Dockerfile", "a\nb"):
        with pytest.raises(PybuildError):
            git.read(op, commit, name, 100)


def test_settings_of_the_user_do_not_count(
    served: Web, repository: Repository, check_out: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.commit({"f": "1"})
    mark = tmp_path / "mark"
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    (hooks / "post-checkout").write_text(f"#!/bin/sh\ntouch {mark}\n")
    (hooks / "post-checkout").chmod(0o755)
    (tmp_path / ".gitconfig").write_text(
        f'[core]\nhooksPath = {hooks}\n[url "http://127.0.0.1:1/"]\ninsteadOf = {served.url}/\n'
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    monkeypatch.setenv("GIT_SSH_COMMAND", f"touch {mark};")
    check_out(GitSource(_url(served), keep_git_dir=True))
    assert not mark.exists()


def test_attributes_run_no_programs(
    served: Web, repository: Repository, check_out: Checkout, tmp_path: Path
) -> None:
    repository.commit({"f": "1", ".gitattributes": "* filter=lfs diff=x merge=y\n"})
    assert (check_out(GitSource(_url(served))) / "f").read_text() == "1"


def test_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gitcommand, "find", lambda name: "")
    with pytest.raises(PybuildError) as caught:
        Repositories(str(tmp_path)).resolve(GitSource("https://h/a.git"))
    assert "git is not installed" in caught.value.message
    assert "apt-get install git" in caught.value.hint


def test_ssh_of_a_dockerfile_has_no_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ssh is called with, told by a program of that name."""
    program = tmp_path / "bin/ssh"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$SSH_AUTH_SOCK|$*" >> {tmp_path}/calls\nexit 1\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("SSH_AUTH_SOCK", "/agent/of/user")
    op = GitSource("git@h.example:a/b.git")
    for access in (Access(), Access(agent=lambda: "/given"), Access(local=frozenset((op.url,)))):
        with pytest.raises(PybuildError):
            Repositories(str(tmp_path / "s"), access).resolve(op)
    strict, given, own = (tmp_path / "calls").read_text().splitlines()
    assert strict.startswith("|-F none")
    assert "IdentityFile=none" in strict
    assert given.startswith("/given|-F none")
    assert own.startswith("/agent/of/user|-o BatchMode=yes")
    assert "IdentityFile" not in own
