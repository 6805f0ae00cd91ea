"""Copying what an image has at a path to a volume that is empty when it is mounted there."""

from __future__ import annotations

import os
import stat

from buildkit_py.linux.ownership import OWNER_XATTR, Owner, encode
from buildkit_py.snapshot.tree import Entry, Tree


def copy_tree(tree: Tree, top: Entry, dest: str) -> None:
    """Copy a directory's content, and its own attributes, to an existing one: modes, owners, links, times,
    extended attributes. What is there already (from a copy that was broken off) is made anew.

    Raises OSError.
    """
    folders = [(dest, top)]
    links: dict[object, str] = {}
    for entry in tree.walk(top.path):
        path = os.path.join(dest, os.path.relpath(entry.path, top.path) if top.path else entry.path)
        kind = stat.S_IFMT(entry.mode)
        if kind == stat.S_IFDIR:
            os.makedirs(path, exist_ok=True)
            folders.append((path, entry))
            continue
        _make_way(path)
        if entry.link is not None:
            first = links.setdefault(entry.link, path)
            if first != path:
                os.link(first, path, follow_symlinks=False)
                continue
        if kind == stat.S_IFLNK:
            os.symlink(tree.readlink(entry), path)
        elif kind == stat.S_IFREG:
            _copy_file(entry.host, path)
        elif kind == stat.S_IFIFO:
            os.mkfifo(path)
        else:
            continue
        _set_attributes(tree, entry, path)
    for path, entry in reversed(folders):
        _set_attributes(tree, entry, path)


def _make_way(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def _set_attributes(tree: Tree, entry: Entry, path: str) -> None:
    owned = True
    try:
        os.chown(path, entry.uid, entry.gid, follow_symlinks=False)
    except OSError:
        # One mapped id: everything is the user's own, and says whose it should be.
        owned = False
    if stat.S_ISREG(entry.mode) or stat.S_ISDIR(entry.mode):
        if not owned:
            os.setxattr(path, OWNER_XATTR, encode(Owner(entry.uid, entry.gid)))
        for name, value in tree.xattrs(entry).items():
            try:
                os.setxattr(path, name, value)
            except OSError:
                # What an ordinary user may not set (security.capability for another's ids).
                continue
    if not stat.S_ISLNK(entry.mode):
        os.chmod(path, stat.S_IMODE(entry.mode))
    os.utime(path, ns=(entry.stat.st_atime_ns, entry.stat.st_mtime_ns), follow_symlinks=False)


def _copy_file(source: str, target: str) -> None:
    with (
        open(os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as src,
        open(target, "xb") as dst,
    ):
        while os.copy_file_range(src.fileno(), dst.fileno(), 1 << 30):
            pass
