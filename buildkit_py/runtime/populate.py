"""Copying what an image has at a path to a volume that is empty when it is mounted there.

Another container may have the volume, too, and put links in the way meanwhile: no link is followed in it.
"""

from __future__ import annotations

import os
import stat

from buildkit_py.archive.transfer import directory_below
from buildkit_py.linux.ownership import OWNER_XATTR, Owner, encode
from buildkit_py.snapshot.tree import Entry, Tree

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def copy_tree(tree: Tree, top: Entry, dest: str) -> None:
    """Copy a directory's content, and its own attributes, to an existing one: modes, owners, links, times,
    extended attributes. What is there already (from a copy that was broken off) is made anew.

    Raises OSError.
    """
    root = os.open(dest, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _Copy(tree, root).run(top)
    finally:
        os.close(root)


class _Copy:
    def __init__(self, tree: Tree, root: int) -> None:
        self._tree = tree
        self._root = root
        self._links: dict[object, str] = {}

    def run(self, top: Entry) -> None:
        folders = [("", top)]
        for entry in self._tree.walk(top.path):
            path = os.path.relpath(entry.path, top.path) if top.path else entry.path
            parent, name = os.path.split(path)
            directory = directory_below(self._root, parent)
            try:
                if stat.S_ISDIR(entry.mode):
                    self._make_folder(directory, name)
                    folders.append((path, entry))
                else:
                    self._make_file(entry, path, directory, name)
            finally:
                os.close(directory)
        for path, entry in reversed(folders):
            fd = directory_below(self._root, path)
            try:
                self._finish(entry, fd)
            finally:
                os.close(fd)

    @staticmethod
    def _make_folder(directory: int, name: str) -> None:
        try:
            os.mkdir(name, 0o700, dir_fd=directory)
        except FileExistsError:
            pass

    def _make_file(self, entry: Entry, path: str, directory: int, name: str) -> None:
        try:
            os.unlink(name, dir_fd=directory)
        except FileNotFoundError:
            pass
        if entry.link is not None:
            first = self._links.setdefault(entry.link, path)
            if first != path:
                self._link(first, directory, name)
                return
        if stat.S_ISREG(entry.mode):
            fd = os.open(name, _CREATE, 0o600, dir_fd=directory)
            try:
                _fill(entry.host, fd)
                self._finish(entry, fd)
            finally:
                os.close(fd)
        elif stat.S_ISLNK(entry.mode) or stat.S_ISFIFO(entry.mode):
            self._make_special(entry, directory, name)

    def _link(self, first: str, directory: int, name: str) -> None:
        parent, base = os.path.split(first)
        source = directory_below(self._root, parent)
        try:
            os.link(base, name, src_dir_fd=source, dst_dir_fd=directory, follow_symlinks=False)
        finally:
            os.close(source)

    def _make_special(self, entry: Entry, directory: int, name: str) -> None:
        if stat.S_ISLNK(entry.mode):
            os.symlink(self._tree.readlink(entry), name, dir_fd=directory)
        else:
            os.mkfifo(name, stat.S_IMODE(entry.mode), dir_fd=directory)
        try:
            os.chown(name, entry.uid, entry.gid, dir_fd=directory, follow_symlinks=False)
        except OSError:
            # One mapped id: it is the user's own.
            pass
        os.utime(name, ns=_times(entry), dir_fd=directory, follow_symlinks=False)

    def _finish(self, entry: Entry, fd: int) -> None:
        """The attributes of a file or directory."""
        try:
            os.fchown(fd, entry.uid, entry.gid)
        except OSError:
            # One mapped id: everything is the user's own, and says whose it should be.
            os.setxattr(fd, OWNER_XATTR, encode(Owner(entry.uid, entry.gid)))
        for name, value in self._tree.xattrs(entry).items():
            try:
                os.setxattr(fd, name, value)
            except OSError:
                # What an ordinary user may not set (security.capability for another's ids).
                continue
        os.fchmod(fd, stat.S_IMODE(entry.mode))
        os.utime(fd, ns=_times(entry))


def _times(entry: Entry) -> tuple[int, int]:
    return entry.stat.st_atime_ns, entry.stat.st_mtime_ns


def _fill(source: str, target: int) -> None:
    fd = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        while os.copy_file_range(fd, target, 1 << 30):
            pass
    finally:
        os.close(fd)
