"""A fresh clone, as a stranger would have it: what git knows, in its present state, and nothing else."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.support.program import REPOSITORY


def clone(target: Path) -> Path:
    """Tracked files and links; in a source archive, which git does not know, all but what was made here."""
    if not (REPOSITORY / ".git").exists():
        made = shutil.ignore_patterns(".venv", "__pycache__", ".*_cache", ".hypothesis")
        return Path(shutil.copytree(REPOSITORY, target, symlinks=True, ignore=made))
    command = ["git", "-c", "safe.directory=*", "-C", str(REPOSITORY), "ls-files", "-z"]
    listed = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    for name in listed.decode().split("\0"):
        source, copy = REPOSITORY / name, target / name
        if name and (source.exists() or source.is_symlink()):
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy, follow_symlinks=False)
    return target
