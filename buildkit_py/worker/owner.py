"""Who owns what a step makes: ``--chown``, and how owners get onto files or into the layer's record."""

from __future__ import annotations

import os
import stat

from buildkit_py.errors import PybuildError
from buildkit_py.linux.identity import Identity
from buildkit_py.linux.ownership import Owner
from buildkit_py.snapshot.owners import Owners
from buildkit_py.snapshot.passwd import find_group, find_user, numeric
from buildkit_py.snapshot.tree import Tree
from buildkit_py.typed import Protocol


class Layer(Protocol):
    """What is needed of buildkit_py.snapshot.staging.Staged."""

    @property
    def fs(self) -> str: ...
    @property
    def owners(self) -> Owners: ...


def resolve_owner(tree: Tree | None, text: str) -> tuple[int, int]:
    """``user[:group]`` -> (uid, gid). Names are read from the tree's /etc/passwd and /etc/group; a name
    alone takes its primary group, a number alone counts for both. Raises PybuildError."""
    name, _, group = text.partition(":")
    if text.count(":") > 1 or not (name or group):
        raise PybuildError(f"invalid owner {text!r}", hint="write user, user:group, or numbers")
    uid, primary = find_user(tree, name or "0")
    if group:
        return uid, find_group(tree, group)
    if numeric(name) is not None or primary is None:
        return uid, uid
    return uid, primary


class Ownership:
    """Gives files of one layer their owner and mode; what the kernel refuses is recorded."""

    def __init__(self, layer: Layer, identity: Identity) -> None:
        self._layer = layer
        self._identity = identity
        self._umask = _umask()

    def apply(self, where: str | int, path: str, mode: int, uid: int, gid: int, made: int) -> None:
        """``where``: host path (never a link) or descriptor of a regular file or directory that was made
        0:0 with the permission bits ``made`` (before the umask), ``path`` its place in the layer."""
        recorded = False
        if uid or gid:
            if self._identity.can_own(uid, gid):
                os.chown(where, uid, gid)
            else:
                recorded = True
        permissions = stat.S_IMODE(mode)
        if permissions != made or permissions & self._umask:
            os.chmod(where, permissions)
        if recorded:
            self._layer.owners.record(path, where, mode, Owner(uid, gid))

    def apply_special(self, where: str, path: str, uid: int, gid: int) -> None:
        """To a symbolic link or a special file (the mode of which is right already)."""
        if not (uid or gid):
            return
        if self._identity.can_own(uid, gid):
            os.chown(where, uid, gid, follow_symlinks=False)
        else:
            self._layer.owners.record(path, where, os.lstat(where).st_mode, Owner(uid, gid))

    def record_device(self, where: str, path: str, mode: int, uid: int, gid: int, rdev: int) -> None:
        """``where`` is the empty regular file that stands for a device."""
        self._layer.owners.record(path, where, stat.S_IFREG, Owner(uid, gid, mode, rdev))

    def forget(self, path: str) -> None:
        """A recorded file is about to be replaced."""
        self._layer.owners.pop(path, None)


def _umask() -> int:
    """Read without changing it: other threads make files meanwhile."""
    try:
        with open("/proc/self/status", "rb") as f:
            for line in f:
                if line.startswith(b"Umask:"):
                    return int(line[6:], 8)
    except OSError:
        pass
    return 0o777
