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
from buildkit_py.errors import ImageError, PybuildError
from buildkit_py.tuples import NamedTuple

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_KINDS = {
    stat.S_IFREG: kinds.REGULAR,
    stat.S_IFLNK: kinds.SYMLINK,
    stat.S_IFCHR: kinds.CHARACTER,
    stat.S_IFBLK: kinds.BLOCK,
    stat.S_IFDIR: kinds.DIRECTORY,
    stat.S_IFIFO: kinds.FIFO,
}

Owner = Callable[[str, os.stat_result], tuple[int, int]]
"""(path, its lstat) -> who owns the file."""


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
) -> None:
    """The tar of a path, with its last part, or ``name``, as the first of every member's. ``follow``: a link
    that is named.

    Raises PathError, StoreError.
    """
    source = describe(path, follow=follow)
    top = os.path.realpath(path) if source.directory or follow else path
    writer = TarWriter(write)
    links: dict[tuple[int, int], str] = {}
    todo = [(top, name or source.name)]
    while todo:
        place, name = todo.pop()
        try:
            found = os.lstat(place)
            if stat.S_ISDIR(found.st_mode):
                todo += [(f"{place}/{n}", f"{name}/{n}") for n in sorted(os.listdir(place), reverse=True)]
            _add(writer, place, name, found, links, owner)
        except FileNotFoundError:
            # Gone meanwhile.
            continue
        except OSError as e:
            raise PathError(f"{place}: {e.strerror}") from e
    writer.close()


def _add(
    writer: TarWriter,
    place: str,
    name: str,
    found: os.stat_result,
    links: dict[tuple[int, int], str],
    owner: Owner | None,
) -> None:
    kind = _KINDS.get(stat.S_IFMT(found.st_mode))
    if kind is None:
        return
    uid, gid = owner(place, found) if owner is not None else (found.st_uid, found.st_gid)
    member = Member(
        name, kind, stat.S_IMODE(found.st_mode), uid, gid, 0, found.st_mtime_ns, "", found.st_rdev
    )
    if kind == kinds.SYMLINK:
        writer.add(member._replace(mode=0o777, target=os.readlink(place), rdev=0))
        return
    if kind not in (kinds.CHARACTER, kinds.BLOCK):
        member = member._replace(rdev=0)
    if found.st_nlink > 1 and kind != kinds.DIRECTORY:
        first = links.setdefault((found.st_dev, found.st_ino), name)
        if first != name:
            writer.add(member._replace(kind=kinds.HARD_LINK, target=first, rdev=0))
            return
    if kind != kinds.REGULAR:
        writer.add(member)
        return
    fd = os.open(place, _READ)
    try:
        size = os.fstat(fd).st_size
        if size:
            writer.add_file(member._replace(size=size), fd)
        else:
            # Also of files of /proc and /sys, whose size is not known before.
            data = b"".join(iter(lambda: os.read(fd, 1 << 16), b""))
            writer.add_bytes(member._replace(size=len(data)), data)
    finally:
        os.close(fd)


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
    parent, name = os.path.split(path.rstrip("/"))
    if not os.path.isdir(parent or "."):
        raise PathError(f"{parent}: no such directory")
    return Destination(parent or ".", name)


def unpack(read: Callable[[int], bytes], path: str, source: Source, *, owners: bool = False) -> None:
    """Unpack to ``path`` by the rules of destination(). ``owners``: as the archive has them, and set-id bits.

    Raises PathError, ImageError for a damaged or hostile archive.
    """
    to = destination(path, source)
    root = os.open(to.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    unpacker = _Unpacker(root, owners=owners)
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
    def __init__(self, root: int, *, owners: bool) -> None:
        self._root = root
        self._owners = owners
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
            flags = os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            return os.open(name, flags, dir_fd=directory)
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
        self._make_way(directory, name)
        if member.kind == kinds.SYMLINK:
            os.symlink(member.target, name, dir_fd=directory)
        elif member.kind == kinds.HARD_LINK:
            self._link(directory, name, member)
            return
        elif member.kind == kinds.FIFO:
            os.mkfifo(name, member.mode & 0o777, dir_fd=directory)
        elif self._owners and member.kind in (kinds.CHARACTER, kinds.BLOCK):
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
