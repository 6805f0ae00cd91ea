"""Git repositories over SSH, from a real server: ADD, contexts, named contexts, RUN --mount=type=ssh."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.runner import Pybuild
from tests.support.sshd import Sshd
from tests.support.web import Repository

pytestmark = [pytest.mark.needs("git"), pytest.mark.needs("sshd"), pytest.mark.needs("ssh-agent")]


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    with Sshd(tmp_path / "sshd") as server:
        yield server


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made = Repository(tmp_path / "repositories" / "a.git")
    made.commit({"f": "1", "sub/g": "2", "sub/Dockerfile": "FROM scratch\nCOPY g /\n"})
    return made


def key_of(pybuild: Pybuild, sshd: Sshd) -> Path:
    """The key as a file of the user who builds."""
    place = pybuild.folder / "key"
    shutil.copy(sshd.key, place)
    place.chmod(0o600)
    return pybuild.person.own(place)


def test_add(pybuild: Pybuild, sshd: Sshd, repository: Repository) -> None:
    url = sshd.url(repository.path)
    context = pybuild.context(
        {
            "Dockerfile": f"FROM scratch\nADD {url} /all/\nADD {url}#main:sub /sub/\n"
            f"ADD --keep-git-dir=true {url}?branch=main /git/\n"
        }
    )
    given = ("--ssh", f"default={key_of(pybuild, sshd)}")
    told = pybuild("build", context, status=1).stderr
    assert "hint: give ADD your SSH agent with --ssh default" in told
    pybuild("build", *given, "-o", pybuild.out / "1", context)
    tree = pybuild.out / "1"
    assert (tree / "all/sub/g").read_text() == (tree / "sub/g").read_text() == "2"
    assert (tree / "git/.git/HEAD").exists() and not (tree / "all/.git").exists()
    assert b"PRIVATE KEY" not in b"".join(p.read_bytes() for p in pybuild.store.rglob("*") if p.is_file())
    assert list((pybuild.store / "staging").iterdir()) == []


def test_a_server_that_changes_its_key(me: Pybuild, sshd: Sshd, repository: Repository) -> None:
    context = me.context({"Dockerfile": f"FROM scratch\nADD {sshd.url(repository.path)} /\n"})
    given = ("--ssh", f"default={key_of(me, sshd)}")
    me("build", *given, context)
    known = (me.store / "git/known_hosts").read_text()
    assert known.startswith(f"[127.0.0.1]:{sshd.port} ")
    sshd.stop()
    sshd.start()
    told = me("build", *given, context, status=1).stderr
    assert "hint: the server has another key than before: where that is right, remove the old one" in told
    assert (me.store / "git/known_hosts").read_text() == known
    (me.store / "git/known_hosts").unlink()
    me("build", *given, context)


def test_contexts(pybuild: Pybuild, sshd: Sshd, repository: Repository) -> None:
    url = sshd.url(repository.path)
    given = ("--ssh", f"default={key_of(pybuild, sshd)}")
    pybuild("build", *given, "-o", pybuild.out / "1", f"{url}#main:sub")
    assert os.listdir(pybuild.out / "1") == ["g"]
    context = pybuild.context({"Dockerfile": "FROM scratch\nCOPY --from=other f /\n"})
    pybuild("build", *given, "-o", pybuild.out / "2", "--build-context", f"other={url}", context)
    assert os.listdir(pybuild.out / "2") == ["f"]


def test_the_user_s_own_agent_is_for_contexts_alone(me: Pybuild, sshd: Sshd, repository: Repository) -> None:
    url = sshd.url(repository.path)
    socket = me.out / "agent"
    agent = subprocess.Popen(
        ["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.PIPE, text=True, **me.person.popen()
    )
    try:
        assert agent.stdout is not None and "SSH_AUTH_SOCK" in agent.stdout.readline()
        env = {"SSH_AUTH_SOCK": str(socket)}
        subprocess.run(
            ["ssh-add", "-q", key_of(me, sshd)], env={**os.environ, **env}, check=True, **me.person.popen()
        )
        me("build", "-o", me.out / "1", f"{url}#main:sub", env=env)
        assert os.listdir(me.out / "1") == ["g"]
        context = me.context({"Dockerfile": f"FROM scratch\nADD {url} /\n"})
        told = me("build", context, status=1, env=env).stderr
        assert "give ADD your SSH agent with --ssh default" in told
        me("build", "--ssh", "default", context, env=env)
    finally:
        agent.terminate()
        agent.communicate()


def test_a_clone_in_run(pybuild: Pybuild, sshd: Sshd, repository: Repository) -> None:
    """With the agent's socket and a file of known hosts, and nothing of either in the image."""
    place = pybuild.context(
        {
            "Dockerfile": "FROM busybox\nCOPY files /\n"
            "RUN echo root:x:0:0:root:/root:/bin/sh > /etc/passwd\n"
            "RUN --mount=type=ssh --mount=type=secret,id=hosts,target=/root/.ssh/known_hosts,required "
            f"ssh -p {sshd.port} -o BatchMode=yes -o StrictHostKeyChecking=yes "
            f"{sshd.url(repository.path).split('/')[2].partition(':')[0]} "
            f"\"git-upload-pack '{repository.path}'\" < /dev/null | head -c 200 > /told; cat /told\n"
            "RUN test ! -e /root/.ssh/known_hosts && test ! -e /run/buildkit\n",
            "hosts": f"[127.0.0.1]:{sshd.port} {(sshd.folder / 'host.pub').read_text()}",
        }
    )
    _copy_program(Path("/usr/bin/ssh"), place / "files")
    pybuild.person.own(place)
    given = ("--ssh", f"default={key_of(pybuild, sshd)}", "--secret", f"id=hosts,src={place}/hosts")
    told = pybuild("build", "--progress=plain", *given, place).stderr
    assert repository.git("rev-parse", "HEAD") in told, told


def _copy_program(program: Path, target: Path) -> None:
    """A program of this machine with the libraries that it loads."""
    told = subprocess.run(["ldd", program], check=True, stdout=subprocess.PIPE, text=True).stdout
    for path in [str(program), *(word for word in told.split() if word.startswith("/"))]:
        place = target / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
