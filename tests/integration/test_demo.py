"""`make demo` from a fresh clone, with a home that holds nothing; and the demo when it is broken off."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.checkout import clone
from tests.support.people import available, person
from tests.support.program import REPOSITORY

PASSED_ON = (
    "PATH",
    "PIP_",
    "SSL_CERT",
    "REQUESTS_CA",
    "http",
    "HTTP",
    "https",
    "HTTPS",
    "no_proxy",
    "NO_PROXY",
)
DEMO_LIMIT = 300.0


def environment(home: Path) -> dict[str, str]:
    """What the machine says about itself, and nothing of the user's."""
    kept = {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}
    return {**kept, "HOME": str(home), "TMPDIR": str(home / "tmp"), "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.fixture
def home() -> Iterator[Path]:
    place = Path(tempfile.mkdtemp(prefix="pybuild-demo-test-", dir="/var/tmp"))
    place.chmod(0o755)
    (place / "tmp").mkdir(mode=0o777)
    (place / "tmp").chmod(0o1777)
    yield place
    shutil.rmtree(place)


@pytest.mark.slow
@pytest.mark.parametrize("each_identity", ["root", "ids"])
def test_demo_from_a_fresh_clone(each_identity: str, home: Path) -> None:
    someone = person(each_identity)
    checkout = clone(home / "clone")
    someone.own(home)
    began = time.monotonic()
    done = subprocess.run(
        ["make", "demo"],
        cwd=checkout,
        env=environment(home),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
        **someone.popen(),
    )
    assert done.returncode == 0, done.stdout[-6000:]
    assert time.monotonic() - began < DEMO_LIMIT
    for sign in (
        "$ pybuild build -t",
        "$ pybuild push",
        "$ pybuild run --rm",
        '"service":"webapp"',
        "CACHED",
    ):
        assert sign in done.stdout, done.stdout[-6000:]
    assert "Built without a daemon" in done.stdout and "Cleaned up" in done.stdout
    assert not list((home / "tmp").iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["before the build", "in a RUN"])
def test_demo_broken_off(moment: str, home: Path, base_folder: Path) -> None:
    """Ctrl-C reaches the whole foreground group, as from a terminal."""
    someone = person(available()[0])
    settings = {**environment(home), "PYBUILD_STATE": str(base_folder.parent)}
    checkout = clone(home / "clone")
    _virtual_environment(checkout)
    sign = {"before the build": "What this machine allows", "in a RUN": "Get:"}[moment]
    with subprocess.Popen(
        ["scripts/demo.sh"],
        cwd=checkout,
        env={**settings, "BUILDKIT_PROGRESS": "plain"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        **someone.popen(),
    ) as demo:
        assert demo.stdout
        output = ""
        for line in demo.stdout:
            output += line
            if sign in line:
                os.killpg(demo.pid, signal.SIGINT)
                break
        output += demo.communicate(timeout=60)[0]
    assert demo.returncode == 130, output[-4000:]
    assert "ended early" in output
    assert not list((home / "tmp").iterdir())


def _virtual_environment(checkout: Path) -> None:
    """The interpreter of this run and a console script, in place of an installation."""
    folder = checkout / ".venv" / "bin"
    folder.mkdir(parents=True)
    for name, words in (("python3", '"$@"'), ("pybuild", '-m buildkit_py.cli "$@"')):
        script = folder / name
        script.write_text(f"#!/bin/sh\nPYTHONPATH={REPOSITORY} exec {sys.executable} {words}\n")
        script.chmod(0o755)
