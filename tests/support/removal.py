"""Deleting what a store or a sandbox left: files of subordinate ids, folders that nobody may enter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.program import REPOSITORY

SCRIPT = """
import os, sys
from buildkit_py.linux import userns
userns.enter()
os.execvp("rm", ["rm", "-rf", "--", sys.argv[1]])
"""


def remove(folder: Path) -> None:
    """By root directly, else as root of the user's namespace. rm is ten times as fast as shutil.

    More than once: a container's supervisor may still be removing its files after it gave its last answer,
    and rm stumbles over what goes away under it.
    """
    argv = ["rm", "-rf", "--", str(folder)]
    environment = dict(os.environ)
    if os.geteuid() != 0:
        argv = [sys.executable, "-c", SCRIPT, str(folder)]
        environment["PYTHONPATH"] = str(REPOSITORY)
    for last in (False, False, True):
        if folder.exists():
            subprocess.run(argv, check=last, env=environment, stderr=None if last else subprocess.DEVNULL)
