"""``type=local``: the files of the result in a directory of the user's, owned by the user.

Owners, set-id bits, devices and extended attributes stay behind: they mean something inside a container, and
a set-id file of the invoking user would be a trap. What is in the directory already stays, unless the result
has the same path. Nothing outside of the directory is touched, whatever links lie in it.
"""

from __future__ import annotations

import errno
import os
import stat

from buildkit_py.errors import StoreError, UsageError
from buildkit_py.exporter import Product, Stores, attestations
from buildkit_py.exporter.spec import OutputSpec
from buildkit_py.progress.events import Emit
from buildkit_py.snapshot.tree import Entry, Tree
from buildkit_py.typed import Any

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PERMISSIONS = 0o1777
_WRITABLE = 0o700
_COPY = 1 << 30


def export(
    spec: OutputSpec, products: tuple[Product, ...], stores: Stores, emit: Emit, vertex: str
) -> dict[str, Any]:
    split = spec.flag("platform-split", spec.as_index)
    for product in products:
        dest = os.path.join(spec.dest, product.platform.replace("/", "_")) if split else spec.dest
        try:
            os.makedirs(dest, exist_ok=True)
            root = os.open(dest, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as e:
            raise UsageError(f"cannot use {dest} as a directory: {e.strerror}") from e
        try:
            tree = stores.snapshots.tree(product.snapshot)
            _Writer(tree, root, dest).run()
            for name, data in attestations.files(product.predicates, tree):
                _clear(name, root)
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                with open(os.open(name, flags, 0o644, dir_fd=root), "wb") as file:
                    file.write(data)
        finally:
            os.close(root)
    return {}


class _Writer:
    """One tree into one directory. Directories are entered by descriptor and never through a link."""

    def __init__(self, tree: Tree, root: int, dest: str) -> None:
        self._tree = tree
        self._root = root
        self._dest = dest
        self._links: dict[tuple[str, int], str] = {}

    def run(self) -> None:
        try:
            self._directory("", self._root)
        except RecursionError:
            raise StoreError(
                f"cannot write to {self._dest}: directories are nested too deeply",
                hint="type=tar takes any depth",
            ) from None
        except OSError as e:
            hint = "free some space there" if e.errno == errno.ENOSPC else ""
            raise StoreError(f"cannot write to {self._dest}: {e.strerror}", hint=hint) from e

    def _directory(self, path: str, fd: int) -> None:
        for entry in self._tree.children(path):
            name = entry.path.rpartition("/")[2]
            kind = stat.S_IFMT(entry.mode)
            if kind == stat.S_IFDIR:
                self._child(entry, name, fd)
            elif kind == stat.S_IFLNK:
                _clear(name, fd)
                os.symlink(self._tree.readlink(entry), name, dir_fd=fd)
                os.utime(name, ns=_times(entry), dir_fd=fd, follow_symlinks=False)
            elif kind == stat.S_IFREG:
                self._file(entry, name, fd)
            elif kind == stat.S_IFIFO:
                _clear(name, fd)
                os.mkfifo(name, stat.S_IMODE(entry.mode) & _PERMISSIONS, dir_fd=fd)

    def _child(self, entry: Entry, name: str, fd: int) -> None:
        try:
            os.mkdir(name, _WRITABLE, dir_fd=fd)
        except FileExistsError:
            if not stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
                os.unlink(name, dir_fd=fd)
                os.mkdir(name, _WRITABLE, dir_fd=fd)
        child = os.open(name, _DIRECTORY, dir_fd=fd)
        try:
            os.fchmod(child, _WRITABLE)
            self._directory(entry.path, child)
            os.fchmod(child, stat.S_IMODE(entry.mode) & _PERMISSIONS)
            os.utime(child, ns=_times(entry))
        finally:
            os.close(child)

    def _file(self, entry: Entry, name: str, fd: int) -> None:
        _clear(name, fd)
        link = entry.link
        if link is not None:
            first = self._links.setdefault(link, entry.path)
            if first != entry.path and self._link(first, name, fd):
                return
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        out = os.open(name, flags, 0o600, dir_fd=fd)
        try:
            source = os.open(entry.host, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                _copy(source, out)
            finally:
                os.close(source)
            os.fchmod(out, stat.S_IMODE(entry.mode) & _PERMISSIONS)
            os.utime(out, ns=_times(entry))
        finally:
            os.close(out)

    def _link(self, first: str, name: str, fd: int) -> bool:
        """A hard link to what was written for ``first``; False where it can't be reached safely."""
        folder = os.dup(self._root)
        *parents, last = first.split("/")
        try:
            for part in parents:
                inner = os.open(part, _DIRECTORY, dir_fd=folder)
                os.close(folder)
                folder = inner
            os.link(last, name, src_dir_fd=folder, dst_dir_fd=fd, follow_symlinks=False)
        except OSError:
            return False
        finally:
            os.close(folder)
        return True


def _times(entry: Entry) -> tuple[int, int]:
    return entry.stat.st_mtime_ns, entry.stat.st_mtime_ns


def _clear(name: str, fd: int) -> None:
    """Make way for what is no directory."""
    try:
        os.unlink(name, dir_fd=fd)
    except FileNotFoundError:
        pass
    except IsADirectoryError as e:
        raise OSError(errno.EISDIR, f"{name!r} is a directory there, and a file in the result") from e


def _copy(source: int, out: int) -> None:
    """In the kernel, shared where the file system can (reflink), else by reading and writing."""
    try:
        while os.copy_file_range(source, out, _COPY):
            pass
    except OSError as e:
        if e.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM):
            raise
        while data := os.read(source, 1 << 20):
            view = memoryview(data)
            while view:
                view = view[os.write(out, view) :]
