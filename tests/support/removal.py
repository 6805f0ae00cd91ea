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
    """By root directly, else as root of the user's namespace. rm is ten times as fast as shutil."""
    if os.geteuid() == 0:
        subprocess.run(["rm", "-rf", "--", folder], check=True)
    elif folder.exists():
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        subprocess.run([sys.executable, "-c", SCRIPT, str(folder)], check=True, env=environment)
