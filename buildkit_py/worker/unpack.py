"""ADD of a local archive: its members put into a directory of the root file system.

The archive is hostile. A member's path is taken below the destination, ``..`` is refused, and links on the
way, of the archive as of the root file system, are resolved inside the root file system.
"""

from __future__ import annotations

import os
import stat

from buildkit_py.archive import member as kinds
from buildkit_py.archive.compression import open_archive
from buildkit_py.archive.member import Member
from buildkit_py.archive.untar import TarReader
from buildkit_py.errors import ImageError
from buildkit_py.worker.destination import MADE, Attributes, Destination, Directory, write_xattrs
from buildkit_py.worker.placement import copy_data, make_special, open_source

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_SPECIAL = {kinds.CHARACTER: stat.S_IFCHR, kinds.BLOCK: stat.S_IFBLK, kinds.FIFO: stat.S_IFIFO}


class Archive:
    """A file that may be a tar archive, told by its content. A context manager."""

    def __init__(self, host: str) -> None:
        self._file = open(open_source(host), "rb", buffering=0)
        self._tar = open_archive(self._file)

    def __bool__(self) -> bool:
        return self._tar is not None

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def fileno(self) -> int:
        return self._file.fileno()

    def unpack(self, path: str, destination: Destination, owner: tuple[int, int] | None, source: str) -> None:
        """Into the directory at a resolved path. ``owner`` replaces the archive's. Raises ImageError."""
        assert self._tar is not None
        reader = TarReader(self._tar.read)
        unpacker = _Unpacker(path, destination, owner)
        try:
            while (member := reader.next()) is not None:
                unpacker.put(member, reader)
        except ImageError as e:
            raise ImageError(f"{source}: {e.message}", hint=e.hint) from e


class _Unpacker:
    def __init__(self, top: str, destination: Destination, owner: tuple[int, int] | None) -> None:
        self._destination = destination
        self._ownership = destination.ownership
        self._owner = owner
        uid, gid = owner or (0, 0)
        self._made = MADE._replace(uid=uid, gid=gid)
        self._top = destination.enter(top, self._made).path

    def put(self, member: Member, reader: TarReader) -> None:
        parts = self._parts(member.path)
        if not parts:
            return  # "./": the destination keeps what it has
        if self._owner is not None:
            member = member._replace(uid=self._owner[0], gid=self._owner[1])
        parent, name = self._parent(parts)
        if member.kind == kinds.DIRECTORY:
            self._directory(parent, name, member)
            return
        host = f"{parent.host}/{name}"
        path = f"{parent.path}/{name}" if parent.path else name
        if member.kind == kinds.HARD_LINK:
            self._hard_link(parent, name, host, member)
            return
        self._destination.clear(parent, name)
        if member.kind == kinds.REGULAR:
            self._regular(host, path, member, reader)
            return
        if member.kind == kinds.SYMLINK:
            os.symlink(member.target, host)
            self._ownership.apply_special(host, path, member.uid, member.gid)
        else:
            mode = _SPECIAL[member.kind] | member.mode
            make_special(self._ownership, host, path, mode, member.uid, member.gid, member.rdev)
        os.utime(host, ns=(member.mtime, member.mtime), follow_symlinks=False)

    def _parts(self, path: str) -> list[str]:
        parts = [p for p in path.split("/") if p not in ("", ".")]
        if ".." in parts:
            raise ImageError(f"the archive's member {path!r} would leave the destination")
        return parts

    def _parent(self, parts: list[str]) -> tuple[Directory, str]:
        above = "/".join(parts[:-1])
        path = f"{self._top}/{above}" if self._top and above else self._top or above
        return self._destination.enter(self._destination.resolve(path), self._made), parts[-1]

    def _directory(self, parent: Directory, name: str, member: Member) -> None:
        path = f"{parent.path}/{name}" if parent.path else name
        mode = self._destination.mode(path)
        if mode is not None and not stat.S_ISDIR(mode):
            self._destination.clear(parent, name)
        attributes = Attributes(
            stat.S_IFDIR | member.mode, member.uid, member.gid, member.mtime, dict(member.xattrs)
        )
        self._destination.make(parent, name, attributes)

    def _regular(self, host: str, path: str, member: Member, reader: TarReader) -> None:
        made = member.mode & 0o777
        fd = os.open(host, _CREATE, made)
        try:
            reader.copy(fd)
            self._ownership.apply(fd, path, stat.S_IFREG | member.mode, member.uid, member.gid, made)
            write_xattrs(fd, dict(member.xattrs))
            os.utime(fd, ns=(member.mtime, member.mtime))
        finally:
            os.close(fd)

    def _hard_link(self, parent: Directory, name: str, host: str, member: Member) -> None:
        """To a member before it, or to a file of the base, which is then copied."""
        parts = self._parts(member.target)
        if not parts:
            raise ImageError(f"the archive links {member.path!r} to {member.target!r}, which is no file")
        folder, target = self._parent(parts)
        mode = self._destination.mode(f"{folder.path}/{target}" if folder.path else target)
        if mode is None or stat.S_ISDIR(mode):
            raise ImageError(f"the archive links {member.path!r} to {member.target!r}, which is no file")
        source = f"{folder.host}/{target}"
        if source == host:
            return
        self._destination.clear(parent, name)
        if os.path.lexists(source):
            os.link(source, host, follow_symlinks=False)
            return
        below = folder.below(target)
        if below is None or not stat.S_ISREG(below.stat.st_mode):
            raise ImageError(f"the archive links {member.path!r} to {member.target!r}, which is no file")
        reading = open_source(below.host)
        try:
            fd = os.open(host, _CREATE, 0o600)
            try:
                copy_data(reading, fd, below.stat.st_size)
                path = f"{parent.path}/{name}" if parent.path else name
                self._ownership.apply(fd, path, below.mode, below.uid, below.gid, 0o600)
                os.utime(fd, ns=(below.stat.st_mtime_ns, below.stat.st_mtime_ns))
            finally:
                os.close(fd)
        finally:
            os.close(reading)
