"""The layer tar of a layer directory in overlay form (OCI image spec, layer.md), deterministic.

Sorted by the bytes of the names, without clock, host or user names. Whiteouts become ``.wh.name``, opaque
directories hold ``.wh..wh..opq``. Of several names of one file the first is the file, the others are hard
links. Sockets are left out, as tar can't hold them. A layer without anything is 1,024 zero bytes.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from hashlib import sha256

from buildkit_py.archive import member as kinds
from buildkit_py.archive.member import NO_XATTRS, Member
from buildkit_py.archive.tar import TarWriter
from buildkit_py.archive.transfer import directory_below
from buildkit_py.digest import DiffID
from buildkit_py.errors import StoreError
from buildkit_py.linux.ownership import OWNER_XATTR, Owner, decode
from buildkit_py.snapshot import owners as records
from buildkit_py.snapshot.overlay import WHITEOUT, is_whiteout, read, unescape
from buildkit_py.snapshot.owners import Owners
from buildkit_py.snapshot.tree import Tree
from buildkit_py.tuples import NamedTuple

WHITEOUT_PREFIX = ".wh."
OPAQUE_MARK = ".wh..wh..opq"
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPAQUE = ("user.overlay.opaque", "trusted.overlay.opaque")


class _Item(NamedTuple):
    shown: bytes
    """Its name in the archive, the key of the order."""
    name: str
    stat: os.stat_result | None
    """None for a whiteout."""


def write_tar(
    fs: str,
    write: Callable[[bytes], object],
    *,
    owners: Owners | None = None,
    lower: Tree | None = None,
    latest_ns: int | None = None,
    live: bool = False,
) -> None:
    """Write the tar of the layer directory ``fs`` to a callable.

    ``owners``: what is recorded by path (default: as the layer's ``owners`` file has it). ``lower``: the
    tree below; where it has no directory, an opaque mark, which overlayfs sets on every new directory,
    is left out. ``latest_ns``: what every later time becomes. ``live``: a container may change it meanwhile;
    a directory that becomes a link must not lead out. Raises StoreError where a file changes
    meanwhile or has a name that a layer can't hold.
    """
    if owners is None:
        owners = records.load(fs)
    root = os.open(fs, _DIRECTORY)
    try:
        writer = TarWriter(write) if latest_ns is None else _Clamped(write, latest_ns)
        reopen = _open_below if live else _open
        _LayerWriter(writer, root, owners or Owners(), lower, reopen).directory_below("", root)
        writer.close()
    except OSError as e:
        raise StoreError(f"cannot read the layer {fs}: {e.strerror} {e.filename or ''}") from e
    finally:
        os.close(root)


def write_layer(
    fs: str,
    write: Callable[[bytes], object],
    *,
    owners: Owners | None = None,
    lower: Tree | None = None,
    latest_ns: int | None = None,
    live: bool = False,
) -> DiffID:
    """As write_tar(), with the digest of what is written (buildkit_py.layer.compress takes its own)."""
    hasher = sha256()

    def hashed(data: bytes) -> None:
        hasher.update(data)
        write(data)

    write_tar(fs, hashed, owners=owners, lower=lower, latest_ns=latest_ns, live=live)
    return DiffID("sha256:" + hasher.hexdigest())


def diff_id(fs: str, *, owners: Owners | None = None, lower: Tree | None = None) -> DiffID:
    """The digest of what write_layer() writes."""
    return write_layer(fs, lambda data: None, owners=owners, lower=lower)


class _Clamped(TarWriter):
    """Knows a latest time."""

    def __init__(self, write: Callable[[bytes], object], latest_ns: int) -> None:
        super().__init__(write)
        self._latest_ns = latest_ns

    def add(self, member: Member) -> None:
        super().add(member._replace(mtime=min(member.mtime, self._latest_ns)))

    def add_file(self, member: Member, fd: int) -> None:
        super().add_file(member._replace(mtime=min(member.mtime, self._latest_ns)), fd)


class _LayerWriter:
    def __init__(
        self,
        writer: TarWriter,
        root: int,
        owners: Owners,
        lower: Tree | None,
        reopen: Callable[[int, str, int], int],
    ) -> None:
        self._writer = writer
        self._open = reopen
        self._root = root
        self._owners = owners
        self._lower = lower
        self._links: dict[tuple[int, int], str] = {}

    def directory_below(self, path: str, fd: int) -> None:
        """Everything below the layer's root, depth first, without recursion."""
        stack = [(path, iter(self._list(fd)))]
        while stack:
            parent, items = stack[-1]
            item = next(items, None)
            if item is None:
                stack.pop()
                continue
            name = f"{parent}/{item.name}" if parent else item.name
            if item.stat is None:
                head = parent + "/" if parent else ""
                self._writer.add(Member(f"{head}{WHITEOUT_PREFIX}{item.name}", kinds.REGULAR, 0))
            elif stat.S_ISDIR(item.stat.st_mode):
                stack.append((name, iter(self._directory(name, item.stat))))
            else:
                self._file(name, item.stat)

    def _list(self, fd: int) -> list[_Item]:
        items: list[_Item] = []
        xattr_form: bool | None = None
        with os.scandir(fd) as listing:
            for item in listing:
                st = item.stat(follow_symlinks=False)
                shown = os.fsencode(item.name)
                if is_whiteout(st):
                    items.append(_Item(b".wh." + shown, item.name, None))
                    continue
                if shown.startswith(b".wh."):
                    raise StoreError(
                        f"a file is named {item.name!r}, which means a deletion in a layer",
                        hint="no image can hold such a name; choose another one",
                    )
                if not st.st_size and stat.S_ISREG(st.st_mode):
                    if xattr_form is None:
                        xattr_form = _holds_whiteout_files(fd)
                    if xattr_form and WHITEOUT in self._names(item.name, fd):
                        items.append(_Item(b".wh." + shown, item.name, None))
                        continue
                items.append(_Item(shown, item.name, st))
        items.sort(key=lambda item: item.shown)
        return items

    @staticmethod
    def _names(name: str, parent: int) -> list[str]:
        fd = os.open(name, _READ, dir_fd=parent)
        try:
            return os.listxattr(fd)
        finally:
            os.close(fd)

    def _directory(self, path: str, st: os.stat_result) -> list[_Item]:
        """Write a directory's own entries; return what is below."""
        fd = self._open(self._root, path, _DIRECTORY)
        try:
            names = os.listxattr(fd)
            owner, xattrs = self._attributes(fd, names) if names else (None, NO_XATTRS)
            self._writer.add(_member(path, st, owner, xattrs))
            if names and self._is_opaque(path, fd, names):
                self._writer.add(Member(f"{path}/{OPAQUE_MARK}", kinds.REGULAR, 0))
            return self._list(fd)
        finally:
            os.close(fd)

    def _is_opaque(self, path: str, fd: int, names: list[str]) -> bool:
        if not any(name in names and os.getxattr(fd, name) == b"y" for name in _OPAQUE):
            return False
        if self._lower is None:
            return True
        below = self._lower.lookup(path, follow=False)
        return below is not None and stat.S_ISDIR(below.mode)

    def _file(self, path: str, st: os.stat_result) -> None:
        kind = stat.S_IFMT(st.st_mode)
        if kind == stat.S_IFSOCK:
            return
        if st.st_nlink > 1:
            first = self._links.setdefault((st.st_dev, st.st_ino), path)
            if first is not path:
                self._link(path, first, st)
                return
        if kind == stat.S_IFREG:
            self._regular(path, st)
            return
        owner = self._owners.get(path)
        target = self._target(path) if kind == stat.S_IFLNK else ""
        self._writer.add(_member(path, st, owner, NO_XATTRS, target))

    def _target(self, path: str) -> str:
        fd = self._open(self._root, path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            return os.readlink("", dir_fd=fd)
        finally:
            os.close(fd)

    def _link(self, path: str, first: str, st: os.stat_result) -> None:
        owner = self._owners.get(first)
        if stat.S_ISREG(st.st_mode):
            fd = self._open(self._root, path, _READ)
            try:
                owner = self._attributes(fd, os.listxattr(fd))[0]
            finally:
                os.close(fd)
        member = _member(path, st, owner, NO_XATTRS)
        self._writer.add(member._replace(kind=kinds.HARD_LINK, size=0, target=first, rdev=0))

    def _regular(self, path: str, st: os.stat_result) -> None:
        fd = self._open(self._root, path, _READ)
        try:
            names = os.listxattr(fd)
            owner, xattrs = self._attributes(fd, names) if names else (None, NO_XATTRS)
            member = _member(path, st, owner, xattrs)
            if st.st_size and member.kind == kinds.REGULAR:
                self._writer.add_file(member, fd)
            else:
                self._writer.add(member)
        finally:
            os.close(fd)

    @staticmethod
    def _attributes(fd: int, names: list[str]) -> tuple[Owner | None, dict[str, bytes]]:
        owner: Owner | None = None
        if OWNER_XATTR in names:
            try:
                owner = decode(os.getxattr(fd, OWNER_XATTR))
            except ValueError:
                owner = None
        xattrs: dict[str, bytes] = {}
        for name in names:
            shown = unescape(name)
            if shown is not None:
                xattrs[shown] = read(fd, name)
        return owner, xattrs


def _open(root: int, path: str, flags: int) -> int:
    return os.open(path, flags, dir_fd=root)


def _open_below(root: int, path: str, flags: int) -> int:
    """The same through no link; costs a microsecond more."""
    parent, _, name = path.rpartition("/")
    if not parent:
        return os.open(name, flags, dir_fd=root)
    directory = directory_below(root, parent)
    try:
        return os.open(name, flags, dir_fd=directory)
    finally:
        os.close(directory)


def _holds_whiteout_files(fd: int) -> bool:
    for name in _OPAQUE:
        try:
            return os.getxattr(fd, name) == b"x"
        except OSError as e:
            if e.errno not in (errno.ENODATA, errno.ENOTSUP, errno.EPERM):
                raise
    return False


def _member(
    path: str, st: os.stat_result, owner: Owner | None, xattrs: object, target: str = ""
) -> Member:  # fmt: skip
    mode, uid, gid, rdev = st.st_mode, st.st_uid, st.st_gid, st.st_rdev
    if owner is not None:
        uid, gid = owner.uid, owner.gid
        if owner.mode:
            mode, rdev = owner.mode, owner.rdev
    kind = kinds.KINDS.get(stat.S_IFMT(mode), kinds.REGULAR)
    size = st.st_size if kind == kinds.REGULAR else 0
    permissions = 0o777 if kind == kinds.SYMLINK else stat.S_IMODE(mode)
    return Member(path, kind, permissions, uid, gid, size, st.st_mtime_ns, target, rdev, xattrs)  # type: ignore[arg-type]
