"""WORKDIR: make a directory and its missing parents."""

from __future__ import annotations

import stat

from buildkit_py.errors import PybuildError
from buildkit_py.llb.ops import Mkdir
from buildkit_py.worker.destination import MADE, Destination, kind_of
from buildkit_py.worker.owner import resolve_owner


def run_mkdir(action: Mkdir, destination: Destination) -> None:
    """A directory that is there already stays as it is, and leaves no trace in the layer. Raises
    PybuildError where something else is in the way, or the user is unknown."""
    path = destination.resolve(action.path)
    mode = destination.mode(path) if path else stat.S_IFDIR
    if mode is None:
        uid, gid = resolve_owner(destination.base, action.user) if action.user else (0, 0)
        destination.enter(path, MADE._replace(mode=stat.S_IFDIR | action.mode, uid=uid, gid=gid))
    elif not stat.S_ISDIR(mode):
        raise PybuildError(f"{action.path} is {kind_of(mode)}, not a directory")
