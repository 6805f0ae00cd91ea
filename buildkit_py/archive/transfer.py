"""Files between a container and the machine as a tar: the same code packs and unpacks on both sides.

What is unpacked may be hostile (it comes from a container), and so may be the place (it is in one). Only the
destination itself is looked up as the user means it. Below it every directory is opened without following a
link, ``..`` is refused, and what stands in the way of a member is replaced: nothing outside is touched.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable

from buildkit_py.archive import member as kinds
from buildkit_py.archive.member import Member
from buildkit_py.archive.tar import TarWriter
from buildkit_py.archive.untar import TarReader
from buildkit_py.errors import ImageError, PybuildError, SandboxError
from buildkit_py.linux import syscalls as sc
from buildkit_py.tuples import NamedTuple

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
"""Removed, or replaced by something else, since it was listed."""
_MAX_UNKNOWN = 64 << 20

Owner = Callable[[int, os.stat_result], tuple[int, int]]
"""(descriptor of a file or directory, its fstat) -> who owns it."""


class Source(NamedTuple):
    """What the archive holds, as its maker tells who unpacks it."""

    name: str = ""
    """The first part of all its paths; "" for an archive of any form (``-``)."""
    directory: bool = False
    contents: bool = False
    """The source was named with ``/.``: its content is meant, not the directory."""


class PathError(PybuildError):
    """A path that isn't there, or is not of the kind that is needed."""


def describe(path: str, *, follow: bool = False) -> Source:
    """What pack() makes of a path. Raises PathError."""
    try:
        found = os.stat(path) if follow or path.endswith(("/", "/.")) else os.lstat(path)
    except OSError as e:
        raise PathError(f"{path}: {e.strerror}") from e
    directory = stat.S_ISDIR(found.st_mode)
    if path.endswith("/") and not directory:
        raise PathError(f"{path}: not a directory")
    name = os.path.basename(os.path.normpath(path)) or "."
    return Source(name, directory, path.endswith("/.") or path == ".")


def pack(
    path: str,
    write: Callable[[bytes], object],
    *,
    follow: bool = False,
    owner: Owner | None = None,
    name: str = "",
    hollow: frozenset[str] = frozenset(),
) -> None:
    """The tar of a path, with its last part, or ``name``, as the first of every member's. ``follow``: a link
    that is named. ``hollow``: directories of / of which a copy of / has no content.

    Others may change the files meanwhile: what is below the path is opened without following links.
    Raises PathError, StoreError.
    """
    source = describe(path, follow=follow)
    top = os.path.realpath(path) if source.directory or follow else path
    writer = TarWriter(write)
    packer = _Packer(writer, owner, hollow if top == "/" else frozenset())
    try:
        above, own = (top, "") if source.directory else os.path.split(top)
        fd = os.open(above or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if source.directory:
                packer.tree(fd, name or source.name)
            else:
                packer.add(fd, own, name or source.name)
        finally:
            os.close(fd)
    except OSError as e:
        raise PathError(f"{path}: {e.strerror}") from e
    writer.close()


class _Packer:
    def __init__(self, writer: TarWriter, owner: Owner | None, hollow: frozenset[str]) -> None:
        self._writer = writer
        self._owner = owner
        self._hollow = hollow
        self._links: dict[tuple[int, int], str] = {}

    def tree(self, root: int, name: str) -> None:
        """A directory and all below it."""
        todo = [""]
        while todo:
            inside = todo.pop()
            try:
                fd = directory_below(root, inside)
            except OSError as e:
                if e.errno in _GONE:
                    continue
                raise
            try:
                here = f"{name}/{inside}" if inside else name
                self._writer.add(self._member(here, kinds.DIRECTORY, os.fstat(fd), fd))
                names = [] if inside in self._hollow else sorted(os.listdir(fd))
                folders = [n for n in names if self.add(fd, n, f"{here}/{n}")]
                todo += [f"{inside}/{n}" if inside else n for n in reversed(folders)]
            finally:
                os.close(fd)

    def add(self, directory: int, base: str, name: str) -> bool:
        """One file; of a directory nothing but that it is one (True)."""
        try:
            found = os.stat(base, dir_fd=directory, follow_symlinks=False)
            kind = kinds.KINDS.get(stat.S_IFMT(found.st_mode))
            if kind == kinds.DIRECTORY:
                return True
            if kind is not None:
                self._file(directory, base, name, kind, found)
        except OSError as e:
            if e.errno not in _GONE:
                raise PathError(f"{name}: {e.strerror}") from e
        return False

    def _file(self, directory: int, base: str, name: str, kind: bytes, found: os.stat_result) -> None:
        if found.st_nlink > 1:
            first = self._links.setdefault((found.st_dev, found.st_ino), name)
            if first != name:
                self._writer.add(self._member(name, kinds.HARD_LINK, found)._replace(target=first))
                return
        if kind == kinds.REGULAR:
            self._regular(directory, base, name)
            return
        member = self._member(name, kind, found)
        if kind == kinds.SYMLINK:
            member = member._replace(mode=0o777, target=os.readlink(base, dir_fd=directory))
        elif kind != kinds.FIFO:
            member = member._replace(rdev=found.st_rdev)
        self._writer.add(member)

    def _regular(self, directory: int, base: str, name: str) -> None:
        fd = os.open(base, _READ, dir_fd=directory)
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                return
            member = self._member(name, kinds.REGULAR, found, fd)
            if found.st_size:
                self._writer.add_file(member._replace(size=found.st_size), fd)
            else:
                data = _of_unknown_size(fd, name)
                self._writer.add_bytes(member._replace(size=len(data)), data)
        finally:
            os.close(fd)

    def _member(self, name: str, kind: bytes, found: os.stat_result, fd: int = -1) -> Member:
        uid, gid = found.st_uid, found.st_gid
        if self._owner is not None and fd >= 0:
            uid, gid = self._owner(fd, found)
        return Member(name, kind, stat.S_IMODE(found.st_mode), uid, gid, 0, found.st_mtime_ns)


def directory_below(root: int, path: str) -> int:
    """Open a directory below an opened one (``path`` "": that itself), through no link. Raises OSError."""
    flags = os.O_RDONLY | os.O_DIRECTORY
    try:
        return sc.openat2(root, path or ".", flags, sc.RESOLVE_NO_SYMLINKS)
    except SandboxError as e:
        raise OSError(e.errno, os.strerror(e.errno), path) from e


def _of_unknown_size(fd: int, name: str) -> bytes:
    """What files of /proc and /sys hold, whose size is not known before; of an empty file nothing."""
    parts, size = [], 0
    while data := os.read(fd, 1 << 16):
        parts.append(data)
        size += len(data)
        if size > _MAX_UNKNOWN:
            raise PathError(f"{name}: it grows while it is read")
    return b"".join(parts)


class Destination(NamedTuple):
    directory: str
    """Where the members go; exists."""
    name: str
    """In place of their first part; "" where that is left out."""
    keep: bool = False
    """Their paths stay as they are."""


def destination(path: str, source: Source) -> Destination:
    """Docker's rules for ``cp``. Raises PathError."""
    try:
        found: os.stat_result | None = os.stat(path)
    except FileNotFoundError:
        found = None
    except OSError as e:
        raise PathError(f"{path}: {e.strerror}") from e
    if found is not None and stat.S_ISDIR(found.st_mode):
        if not source.name:
            return Destination(path, "", keep=True)
        return Destination(path, "" if source.contents else source.name)
    if not source.name:
        raise PathError(f"{path}: " + ("not a directory" if found else "no such directory"))
    if found is not None and source.directory:
        raise PathError(f"{path}: a directory can't be copied onto a file")
    if found is None and path.endswith("/") and not source.directory:
        raise PathError(f"{path}: no such directory")
    place = path.rstrip("/")
    # As with cp(1), a file goes where a link leads.
    parent, name = os.path.split(os.path.realpath(place) if os.path.islink(place) else place)
    if not os.path.isdir(parent or "."):
        raise PathError(f"{parent}: no such directory")
    return Destination(parent or ".", name)


def unpack(
    read: Callable[[int], bytes],
    path: str,
    source: Source,
    *,
    owners: bool = False,
    devices: bool = False,
) -> None:
    """Unpack to ``path`` by the rules of destination(). ``owners``: as the archive has them, and set-id bits.
    ``devices``: they are made, too; else left out.

    Raises PathError, ImageError for a damaged or hostile archive.
    """
    to = destination(path, source)
    root = os.open(to.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    unpacker = _Unpacker(root, owners=owners, devices=devices)
    try:
        reader = TarReader(read)
        while (member := reader.next()) is not None:
            name = _renamed(member.path, to)
            target = _renamed(member.target, to) if member.kind == kinds.HARD_LINK else member.target
            if name:
                unpacker.add(member._replace(path=name, target=target or ""), reader)
        unpacker.finish()
        reader.drain()
    except OSError as e:
        raise PathError(f"cannot write below {to.directory}: {e.strerror}") from e
    finally:
        os.close(root)


def _renamed(path: str, to: Destination) -> str:
    """The path below the destination; "" for the destination itself."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise ImageError(f"the archive wants to write outside of its place: {path!r}")
    if not to.keep:
        # A source "/" or "." has no name of its own to leave out.
        rest = parts[1:] if path.partition("/")[0] != "." else parts
        parts = [to.name, *rest] if to.name not in ("", ".") else rest
    return "/".join(parts)


class _Unpacker:
    def __init__(self, root: int, *, owners: bool, devices: bool) -> None:
        self._root = root
        self._owners = owners
        self._devices = devices
        self._times: list[tuple[str, Member]] = []

    def add(self, member: Member, reader: TarReader) -> None:
        parent, _, name = member.path.rpartition("/")
        directory = self._open(parent)
        try:
            if member.kind == kinds.DIRECTORY:
                self._directory(directory, name, member)
            elif member.kind == kinds.REGULAR:
                self._regular(directory, name, member, reader)
            else:
                self._special(directory, name, member)
        finally:
            os.close(directory)

    def finish(self) -> None:
        """The modes and times of directories, the inner ones first."""
        for path, member in reversed(self._times):
            try:
                fd = self._open(path)
            except OSError:
                continue
            try:
                self._attributes(fd, member)
            finally:
                os.close(fd)

    def _open(self, path: str) -> int:
        """A directory below the root, made where it is missing."""
        fd = os.dup(self._root)
        for part in path.split("/") if path else ():
            try:
                deeper = self._enter(fd, part)
            finally:
                os.close(fd)
            fd = deeper
        return fd

    def _enter(self, directory: int, name: str) -> int:
        try:
            return os.open(name, _DIRECTORY, dir_fd=directory)
        except FileNotFoundError:
            pass
        except OSError as e:
            if e.errno not in (errno.ENOTDIR, errno.ELOOP):
                raise
            os.unlink(name, dir_fd=directory)
        os.mkdir(name, 0o755, dir_fd=directory)
        return os.open(name, _DIRECTORY, dir_fd=directory)

    def _directory(self, directory: int, name: str, member: Member) -> None:
        os.close(self._enter(directory, name))
        self._times.append((member.path, member))

    def _regular(self, directory: int, name: str, member: Member, reader: TarReader) -> None:
        fd = self._create(directory, name)
        try:
            reader.copy(fd)
            self._attributes(fd, member)
        finally:
            os.close(fd)

    def _create(self, directory: int, name: str) -> int:
        """A file that is there and can be written is written over, for it may be a mount of its own."""
        try:
            found = os.stat(name, dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            return os.open(name, _CREATE, 0o600, dir_fd=directory)
        if stat.S_ISREG(found.st_mode) and found.st_nlink == 1:
            fd = os.open(name, _WRITE, dir_fd=directory)
            if os.path.samestat(os.fstat(fd), found):
                os.ftruncate(fd, 0)
                return fd
            # Replaced in between.
            os.close(fd)
        self._make_way(directory, name)
        return os.open(name, _CREATE, 0o600, dir_fd=directory)

    def _make_way(self, directory: int, name: str) -> None:
        try:
            os.unlink(name, dir_fd=directory)
        except FileNotFoundError:
            pass
        except IsADirectoryError as e:
            raise PathError(f"{name}: a file can't be copied onto a directory") from e

    def _special(self, directory: int, name: str, member: Member) -> None:
        if member.kind in (kinds.CHARACTER, kinds.BLOCK) and not self._devices:
            return
        self._make_way(directory, name)
        if member.kind == kinds.SYMLINK:
            os.symlink(member.target, name, dir_fd=directory)
        elif member.kind == kinds.HARD_LINK:
            self._link(directory, name, member)
            return
        elif member.kind == kinds.FIFO:
            os.mkfifo(name, member.mode & 0o777, dir_fd=directory)
        elif member.kind in (kinds.CHARACTER, kinds.BLOCK):
            kind = stat.S_IFCHR if member.kind == kinds.CHARACTER else stat.S_IFBLK
            os.mknod(name, kind | member.mode & 0o777, member.rdev, dir_fd=directory)
        else:
            return
        if self._owners:
            os.chown(name, member.uid, member.gid, dir_fd=directory, follow_symlinks=False)
        os.utime(name, ns=(member.mtime, member.mtime), dir_fd=directory, follow_symlinks=False)

    def _link(self, directory: int, name: str, member: Member) -> None:
        above, _, base = member.target.rpartition("/")
        source = self._open(above)
        try:
            os.link(base, name, src_dir_fd=source, dst_dir_fd=directory, follow_symlinks=False)
        finally:
            os.close(source)

    def _attributes(self, fd: int, member: Member) -> None:
        if self._owners:
            os.fchown(fd, member.uid, member.gid)
        os.fchmod(fd, member.mode if self._owners else member.mode & 0o1777)
        os.utime(fd, ns=(member.mtime, member.mtime))
