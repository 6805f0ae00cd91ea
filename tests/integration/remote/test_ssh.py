"""RUN --mount=type=ssh with a real agent, as each kind of user and as users inside the sandbox."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.runner import Pybuild

pytestmark = pytest.mark.needs("ssh-agent")
# What ssh-add -l asks: SSH_AGENTC_REQUEST_IDENTITIES (11), answered by 12 and the number of keys.
ASK = (
    'perl -MIO::Socket::UNIX -e \'$s = IO::Socket::UNIX->new($ENV{SSH_AUTH_SOCK}) or die "no: $!";'
    ' syswrite $s, pack("NC", 1, 11); sysread $s, $b, 9; ($n, $t, $k) = unpack "NCN", $b;'
    ' print "type $t keys $k\\n"\''
)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path


def test_key_file(pybuild: Pybuild, key: Path) -> None:
    text = f"""FROM debian:12-slim
RUN --mount=type=ssh {ASK}
USER 1000:1000
RUN --mount=type=ssh,mode=0666,id=other,target=/tmp/sock echo "$SSH_AUTH_SOCK" && {ASK}
USER 0
RUN test ! -e /run/buildkit && test ! -e /tmp/sock && test -z "$SSH_AUTH_SOCK"
RUN --mount=type=ssh,id=missing test -z "$SSH_AUTH_SOCK"
"""
    context = pybuild.context({"Dockerfile": text, "key": key.read_bytes()})
    (context / "key").chmod(0o600)
    given = f"{context}/key"
    told = pybuild(
        "build", "--progress=plain", "--ssh", f"default={given}", "--ssh", f"other={given}", context
    ).stderr
    assert told.count("type 12 keys 1") == 2
    assert " /tmp/sock\n" in told
    assert list((pybuild.store / "staging").iterdir()) == []


def test_required(me: Pybuild) -> None:
    context = me.context({"Dockerfile": "FROM busybox\nRUN --mount=type=ssh,required true\n"})
    done = me("build", context, status=1)
    assert "the SSH agent 'default' is required" in done.stderr
    done = me("build", "--ssh", "default", context, status=2)
    assert "SSH_AUTH_SOCK is not set" in done.stderr
    done = me("build", "--ssh", "default=/nowhere", context, status=2)
    assert "no socket or key file /nowhere" in done.stderr
