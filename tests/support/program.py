"""The program under test, as a given user can start it.

The virtual environment's console script is used where that user can read it. Where the checkout lies in a
folder that is closed to others (root's home, say), the package and what it imports are copied.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from functools import cache
from pathlib import Path
from typing import NamedTuple

from tests.support.people import Person

REPOSITORY = Path(__file__).resolve().parents[2]
# Never needed to run pybuild, and most of the size of an environment made for its tests.
DEVELOPMENT = ("mypy", "mypyc", "ruff", "pytest", "_pytest", "hypothesis", "pip", "setuptools", "grimp")


class Program(NamedTuple):
    """``argv`` starts a pybuild command line; ``environment`` is what it needs besides the usual."""

    argv: tuple[str, ...]
    environment: dict[str, str]


@cache
def program(person: Person) -> Program:
    """Raises RuntimeError where nothing that this user can execute is found."""
    script = Path(sys.executable).with_name("pybuild")
    candidates = [
        Program((str(script),), {}),
        Program((sys.executable, "-m", "buildkit_py.cli"), {"PYTHONPATH": str(REPOSITORY)}),
    ]
    for candidate in candidates:
        if _works(candidate, person):
            return candidate
    copy = _copied()
    interpreter = os.path.realpath(sys.executable)
    candidate = Program((interpreter, "-m", "buildkit_py.cli"), {"PYTHONPATH": str(copy)})
    if not _works(candidate, person):
        raise RuntimeError(
            f"the user {person.user} can execute neither {sys.executable} nor {interpreter}: "
            "make .venv with a Python that is open to all, as PYTHON=/usr/bin/python3 make test"
        )
    return candidate


def _works(candidate: Program, person: Person) -> bool:
    environment = {"PATH": os.environ["PATH"], "HOME": "/", **candidate.environment}
    try:
        done = subprocess.run(
            [*candidate.argv, "--version"],
            cwd="/",
            env=environment,
            capture_output=True,
            timeout=60,
            **person.popen(),
        )
    except OSError:
        return False
    return done.returncode == 0 and done.stdout.startswith(b"pybuild")


COPIES: list[Path] = []


@cache
def _copied() -> Path:
    """A folder for PYTHONPATH, removed at the end of the run by remove_copies."""
    import tempfile

    target = Path(tempfile.mkdtemp(prefix="pybuild-program-", dir="/var/tmp"))
    COPIES.append(target)
    for place in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for entry in Path(place).iterdir():
            name = entry.name.split(".")[0].split("-")[0]
            if name in DEVELOPMENT or entry.suffix in (".pth", ".dist-info"):
                continue
            if entry.is_dir():
                shutil.copytree(entry, target / entry.name, dirs_exist_ok=True)
            else:
                shutil.copy2(entry, target / entry.name)
    shutil.rmtree(target / "buildkit_py", ignore_errors=True)
    # copytree follows the links to frontends/ and cache/, as a wheel does.
    shutil.copytree(REPOSITORY / "buildkit_py", target / "buildkit_py")
    target.chmod(0o755)
    for folder, _, files in os.walk(target):
        os.chmod(folder, 0o755)
        for name in files:
            path = os.path.join(folder, name)
            os.chmod(path, os.stat(path).st_mode | 0o444)
    return target


def remove_copies() -> None:
    while COPIES:
        shutil.rmtree(COPIES.pop(), ignore_errors=True)
