"""Whole trees on disk: the squash of a deep stack, and the fallback where overlayfs can't be mounted.

The fallback copies the merged tree to a plain directory (:func:`materialise`), lets the step run in it, and
compares it with what was written (:func:`capture`): a file whose inode, change time, size and mode are as
they were is unchanged, as any write, chmod, chown or attribute moves the change time.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress

from buildkit_py.linux.ownership import Owner
from buildkit_py.snapshot.overlay import OPAQUE, unescape
from buildkit_py.snapshot.owners import Owners
from buildkit_py.snapshot.staging import Staged
from buildkit_py.snapshot.tree import Entry, Tree
from buildkit_py.tuples import NamedTuple

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC


class Trace(NamedTuple):
    """What tells a file that was changed from one that was not."""

    mode: int
    inode: int
    ctime: int
    size: int
    mtime: int
    uid: int
    gid: int


Recorded = dict[str, Trace]


def _trace(st: os.stat_result) -> Trace:
    return Trace(st.st_mode, st.st_ino, st.st_ctime_ns, st.st_size, st.st_mtime_ns, st.st_uid, st.st_gid)


def link_tree(tree: Tree, dest: str, owners: Owners) -> None:
    """Lay the tree down in an empty directory, files as hard links to the layers' own. They are never
    written to again: layers are immutable, and overlayfs copies up before it changes."""
    directories: list[tuple[str, os.stat_result]] = []
    root = tree.lookup("")
    if root is not None and root.host:
        _copy_attributes(root.host, dest, root.stat)
        directories.append((dest, root.stat))
    for entry in tree.walk(""):
        target = f"{dest}/{entry.path}"
        if stat.S_ISDIR(entry.stat.st_mode):
            os.mkdir(target, 0o700)
            _copy_attributes(entry.host, target, entry.stat)
            directories.append((target, entry.stat))
        else:
            try:
                os.link(entry.host, target, follow_symlinks=False)
            except OSError as e:
                if e.errno not in (errno.EMLINK, errno.EXDEV, errno.EPERM):
                    raise
                _copy_file(entry.host, target, entry.stat)
        _keep_record(entry, target, owners)
    _set_times(directories)


def materialise(tree: Tree, dest: str) -> Recorded:
    """Copy the tree to an empty directory; return what capture() needs."""
    directories: list[tuple[str, os.stat_result]] = []
    copied: dict[tuple[str, int], str] = {}
    paths = [""]
    root = tree.lookup("")
    if root is not None and root.host:
        _copy_attributes(root.host, dest, root.stat)
        directories.append((dest, root.stat))
    for entry in tree.walk(""):
        target = f"{dest}/{entry.path}"
        paths.append(entry.path)
        if stat.S_ISDIR(entry.stat.st_mode):
            os.mkdir(target, 0o700)
            _copy_attributes(entry.host, target, entry.stat)
            directories.append((target, entry.stat))
            continue
        link = entry.link
        if link is not None:
            first = copied.setdefault(link, target)
            if first is not target:
                os.link(first, target, follow_symlinks=False)
                continue
        _copy_file(entry.host, target, entry.stat)
    _set_times(directories)
    return {path: _trace(os.lstat(f"{dest}/{path}" if path else dest)) for path in paths}


def capture(dest: str, recorded: Recorded, staged: Staged) -> None:
    """Write what differs between ``dest`` and the state after materialise() into ``staged`` in overlay
    form. ``dest`` must lie on the store's file system: changed files are linked, not copied."""
    writer = _Capture(dest, recorded, staged.fs)
    root = os.lstat(dest)
    if _trace(root)[:1] + _trace(root)[5:] != recorded[""][:1] + recorded[""][5:]:
        _copy_attributes(dest, staged.fs, root)
    writer.directory("", opaque=False)
    _set_times(writer.directories)


class _Capture:
    def __init__(self, dest: str, recorded: Recorded, upper: str) -> None:
        self.dest = dest
        self.upper = upper
        self.recorded = recorded
        self.directories: list[tuple[str, os.stat_result]] = []
        self._made = {""}
        self._children: dict[str, list[str]] = {}
        for path in recorded:
            if path:
                parent, _, name = path.rpartition("/")
                self._children.setdefault(parent, []).append(name)

    def _make(self, path: str) -> None:
        """Make a directory in the upper layer, and those above it."""
        missing: list[str] = []
        while path not in self._made:
            missing.append(path)
            path = path.rpartition("/")[0]
        for directory in reversed(missing):
            source, target = f"{self.dest}/{directory}", f"{self.upper}/{directory}"
            st = os.lstat(source)
            os.mkdir(target, 0o700)
            _copy_attributes(source, target, st)
            self.directories.append((target, st))
            self._made.add(directory)

    def directory(self, top: str, *, opaque: bool) -> None:
        stack = [(top, opaque)]
        while stack:
            path, opaque = stack.pop()
            present: set[str] = set()
            with os.scandir(f"{self.dest}/{path}" if path else self.dest) as listing:
                for item in listing:
                    present.add(item.name)
                    name = f"{path}/{item.name}" if path else item.name
                    below = self._entry(path, name, item.stat(follow_symlinks=False), opaque)
                    if below is not None:
                        stack.append((name, below))
            if opaque:
                continue
            for child in self._children.get(path, ()):
                if child not in present:
                    self._make(path)
                    os.mknod(f"{self.upper}/{path}/{child}", stat.S_IFCHR, 0)

    def _entry(self, parent: str, path: str, st: os.stat_result, opaque: bool) -> bool | None:
        """Handle one entry; for a directory, whether it is opaque (else None)."""
        before = None if opaque else self.recorded.get(path)
        if stat.S_ISDIR(st.st_mode):
            same = before is not None and stat.S_ISDIR(before.mode) and before.inode == st.st_ino
            if not same or _trace(st) != before:
                self._make(path)
            replaced = before is not None and stat.S_ISDIR(before.mode) and not same
            if replaced:
                os.setxattr(f"{self.upper}/{path}", OPAQUE, b"y")
            return opaque or not same
        if before != _trace(st):
            self._make(parent)
            os.link(f"{self.dest}/{path}", f"{self.upper}/{path}", follow_symlinks=False)
        return None


def _keep_record(entry: Entry, target: str, owners: Owners) -> None:
    """What is recorded in attributes came along; what is recorded by path must be said again."""
    st = entry.stat
    if stat.S_ISREG(st.st_mode) or stat.S_ISDIR(st.st_mode):
        if (entry.uid, entry.gid, entry.mode) != (st.st_uid, st.st_gid, st.st_mode):
            owners.marked = True
    elif (entry.uid, entry.gid) != (st.st_uid, st.st_gid):
        owners.record(entry.path, target, st.st_mode, Owner(entry.uid, entry.gid))


def _raw_xattrs(host: str) -> list[tuple[str, bytes]]:
    names = [
        name
        for name in os.listxattr(host, follow_symlinks=False)
        if unescape(name) is not None or name.startswith("user.pybuild.")
    ]
    return [(name, os.getxattr(host, name, follow_symlinks=False)) for name in names]


def _copy_attributes(source: str, target: str, st: os.stat_result) -> None:
    """Owner, mode and stored attributes of a file or directory, as they are on disk."""
    os.chown(target, st.st_uid, st.st_gid, follow_symlinks=False)
    os.chmod(target, stat.S_IMODE(st.st_mode))
    for name, value in _raw_xattrs(source):
        with suppress(PermissionError):
            os.setxattr(target, name, value, follow_symlinks=False)


def _copy_file(source: str, target: str, st: os.stat_result) -> None:
    kind = stat.S_IFMT(st.st_mode)
    if kind == stat.S_IFLNK:
        os.symlink(os.readlink(source), target)
        os.chown(target, st.st_uid, st.st_gid, follow_symlinks=False)
    elif kind == stat.S_IFREG:
        _copy_data(source, target)
        _copy_attributes(source, target, st)
    elif kind == stat.S_IFSOCK:
        return
    else:
        os.mknod(target, kind | 0o600, st.st_rdev)
        _copy_attributes(source, target, st)
    os.utime(target, ns=(st.st_atime_ns, st.st_mtime_ns), follow_symlinks=False)


def _copy_data(source: str, target: str) -> None:
    reader = os.open(source, _READ)
    try:
        writer = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            while os.copy_file_range(reader, writer, 1 << 30):
                pass
        finally:
            os.close(writer)
    finally:
        os.close(reader)


def _set_times(directories: list[tuple[str, os.stat_result]]) -> None:
    for path, st in directories:
        os.utime(path, ns=(st.st_atime_ns, st.st_mtime_ns))
