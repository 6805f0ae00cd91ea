"""Unpack an untrusted layer tar into a layer directory in overlay form (OCI image spec, layer.md).

Nothing outside of the directory is ever touched: every path is walked component by component with
openat(O_NOFOLLOW); ``..`` is refused; a link that stands in a path is resolved inside the layer, as
other engines do, whose output would not unpack otherwise. ``.wh.name`` becomes a whiteout, ``.wh..wh..opq``
an opaque directory. What we may not own or make (other ids, devices) is recorded
(buildkit_py.snapshot.owners): a device is then an empty regular file that carries its type and number.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from hashlib import sha256

from buildkit_py.archive import member as kinds
from buildkit_py.archive.member import Member
from buildkit_py.archive.untar import TarReader
from buildkit_py.digest import DiffID
from buildkit_py.errors import ImageError, StoreError
from buildkit_py.layer.ahead import Ahead
from buildkit_py.layer.attributes import Attributes
from buildkit_py.layer.directories import DIRECTORY, Directories
from buildkit_py.linux.identity import Identity
from buildkit_py.linux.ownership import Owner
from buildkit_py.snapshot.overlay import OPAQUE, is_whiteout
from buildkit_py.snapshot.owners import Owners
from buildkit_py.snapshot.removal import remove_tree
from buildkit_py.snapshot.tree import Entry, Tree
from buildkit_py.typed import Protocol

WHITEOUT_PREFIX = ".wh."
OPAQUE_MARK = ".wh..wh..opq"
_META_PREFIX = ".wh..wh."
_MAX_PATH = 4095
"""Linux' PATH_MAX: whatever is deeper could be made, but never named."""
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NODES = {kinds.CHARACTER: stat.S_IFCHR, kinds.BLOCK: stat.S_IFBLK, kinds.FIFO: stat.S_IFIFO}


class Stream(Protocol):
    def read(self, size: int, /) -> bytes: ...


def apply_layer(
    stream: Stream, fs: str, identity: Identity, owners: Owners, *, lower: Tree | None = None
) -> DiffID:
    """Unpack an uncompressed tar into the layer directory ``fs``; return the digest of the stream.

    ``owners`` takes what is recorded by path (Staged.owners). ``lower`` is the tree below the layer: a
    hard link may lead there (the file is then copied up), and parents that the layer doesn't mention take
    their attributes from there. Raises ImageError for a hostile or damaged archive, StoreError where the
    disk is full; ``fs`` is then to be thrown away.
    """
    with Ahead(stream, sha256()) as source:
        unpacker = Unpacker(fs, identity, owners, lower)
        try:
            unpacker.unpack(TarReader(source.read))
        finally:
            unpacker.close()
        return DiffID("sha256:" + source.hexdigest())


def clean(path: str) -> str:
    """A path of an archive relative to its root; ``""`` is the root. Raises ImageError for ``..``."""
    if len(path) > _MAX_PATH:
        raise ImageError(f"the archive has a path of {len(path)} characters: {path[:80]!r}…")
    if "/." in path or "//" in path or path.startswith((".", "/")):
        parts = [part for part in path.split("/") if part and part != "."]
        if ".." in parts:
            raise ImageError(f"the archive wants to write outside of its root: {path!r}")
        return "/".join(parts)
    return path


def _is_marked(path: str) -> bool:
    """Whether the last component is a whiteout; names that only deletions may have are refused above."""
    above, _, name = path.rpartition("/")
    for part in above.split("/"):
        if part.startswith(WHITEOUT_PREFIX) and not part.startswith(_META_PREFIX):
            raise ImageError(f"the layer has a directory in the form of a whiteout: {path!r}")
    return name.startswith(WHITEOUT_PREFIX) or _META_PREFIX in path


class Unpacker:
    """One layer being unpacked into ``fs``. Not for more than one thread."""

    def __init__(self, fs: str, identity: Identity, owners: Owners, lower: Tree | None = None) -> None:
        self._identity = identity
        self._owners = owners
        self._lower = lower
        self._attributes = Attributes(identity, owners)
        self._directories = Directories(fs, self._missing)
        self._dirs: dict[str, Member] = {}
        """Directories whose times and attributes are set at the end, by resolved path."""
        self._deleted: set[str] = set()
        """Paths that a whiteout of this layer named: a directory there is opaque."""
        self._hidden: set[str] = set()
        """These, and the opaque directories: nothing of the lower tree shows below them."""

    def close(self) -> None:
        self._directories.close()

    def unpack(self, reader: TarReader) -> None:
        member: Member | None = None
        try:
            while (member := reader.next()) is not None:
                self.add(member, reader)
            self.finish()
        except OSError as e:
            if e.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EMFILE, errno.ENFILE):
                raise StoreError(f"cannot write to the store: {e.strerror}", hint="free some space") from e
            where = repr(member.path) if member else "its directories"
            raise ImageError(f"cannot unpack {where} of the layer: {e.strerror}") from e
        reader.drain()

    def _missing(self, fd: int, name: str, path: str) -> int:
        """Make a directory that the layer does not mention (yet), as the lower tree has it."""
        below = self._lower.lookup(path, follow=False) if self._lower is not None else None
        os.mkdir(name, 0o755, dir_fd=fd)
        if path in self._deleted:
            self._set_opaque(name, fd)
        made = os.open(name, DIRECTORY, dir_fd=fd)
        entry = Member(path, kinds.DIRECTORY, 0o755)
        if below is not None and stat.S_ISDIR(below.mode) and not self._is_hidden(path):
            assert self._lower is not None
            entry = _as_member(below, self._lower)
        self._attributes.set_open(made, entry, path, stat.S_IFDIR | 0o700)
        self._dirs[path] = entry
        return made

    def _set_opaque(self, name: str, fd: int) -> None:
        directory = os.open(name, DIRECTORY, dir_fd=fd)
        try:
            os.setxattr(directory, OPAQUE, b"y")
        finally:
            os.close(directory)

    # members

    def add(self, member: Member, reader: TarReader) -> None:
        """Unpack one member; ``reader`` gives its data."""
        path = clean(member.path)
        kind = member.kind
        if WHITEOUT_PREFIX in path and _is_marked(path):
            self._whiteout(path)
        elif kind == kinds.REGULAR:
            self._regular(path, member, reader)
        elif kind == kinds.DIRECTORY:
            self._make_directory(path, member)
        elif not path:
            raise ImageError("the layer's root is not a directory")
        elif kind == kinds.SYMLINK:
            self._symlink(path, member)
        elif kind == kinds.HARD_LINK:
            self._hard_link(path, member)
        else:
            self._node(path, member)

    def _regular(self, path: str, member: Member, reader: TarReader) -> None:
        if not path:
            raise ImageError("the layer's root is not a directory")
        parent, name, path = self._directories.parent(path)
        try:
            fd = os.open(name, _CREATE, member.mode & 0o777, dir_fd=parent)
        except FileExistsError:
            self._clear(parent, name, path)
            fd = os.open(name, _CREATE, member.mode & 0o777, dir_fd=parent)
        try:
            size = member.size
            if size:
                if size <= 65536:
                    data = reader.read()
                    if os.write(fd, data) != size:
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                else:
                    reader.copy(fd)
            self._attributes.set_open(fd, member, path, stat.S_IFREG)
            os.utime(fd, ns=(member.mtime, member.mtime))
        finally:
            os.close(fd)

    def _clear(self, parent: int, name: str, path: str) -> None:
        """Take away what stands in the place of a new entry."""
        try:
            os.unlink(name, dir_fd=parent)
        except (IsADirectoryError, PermissionError):
            self._directories.forget()
            # /proc/self/fd leads to the very directory that was walked to, not to what its name is now.
            parent = self._directories.get(path.rpartition("/")[0])[0]
            remove_tree(f"/proc/self/fd/{parent}/{name}")
            below = path + "/"
            self._dirs = {
                key: value for key, value in self._dirs.items() if key != path and not key.startswith(below)
            }
            for key in [key for key in self._owners if key.startswith(below)]:
                del self._owners[key]
        self._owners.pop(path, None)

    def _make_directory(self, path: str, member: Member) -> None:
        if not path:
            self._attributes.set_open(self._directories.root, member, "", stat.S_IFDIR)
            self._dirs[""] = member
            return
        parent, name, path = self._directories.parent(path)
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            st = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if not stat.S_ISDIR(st.st_mode):
                self._clear(parent, name, path)
                parent = self._directories.get(path.rpartition("/")[0])[0]
                os.mkdir(name, 0o700, dir_fd=parent)
        if path in self._deleted:
            self._set_opaque(name, parent)
        fd = self._directories.get(path)[0]
        self._attributes.set_open(fd, member, path, stat.S_IFDIR)
        self._dirs[path] = member

    def _symlink(self, path: str, member: Member) -> None:
        parent, name, path = self._directories.parent(path)
        try:
            os.symlink(member.target, name, dir_fd=parent)
        except FileExistsError:
            self._clear(parent, name, path)
            parent = self._directories.get(path.rpartition("/")[0])[0]
            os.symlink(member.target, name, dir_fd=parent)
        self._attributes.set_owner(parent, name, member, path, stat.S_IFLNK)
        os.utime(name, ns=(member.mtime, member.mtime), dir_fd=parent, follow_symlinks=False)

    def _hard_link(self, path: str, member: Member) -> None:
        target = clean(member.target)
        if not target or (WHITEOUT_PREFIX in target and _is_marked(target)):
            raise ImageError(f"the layer links {member.path!r} to {member.target!r}, which is no file")
        source, source_name, target = self._directories.parent(target)
        # A copy, since walking to the second directory may close the first.
        source = os.dup(source)
        try:
            parent, name, path = self._directories.parent(path)
            if target == path:
                return
            if not self._is_there(source, source_name):
                self._copy_up(source, source_name, target, member)
                parent = self._directories.parent(path)[0]
            try:
                os.link(source_name, name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
            except FileExistsError:
                self._clear(parent, name, path)
                parent = self._directories.parent(path)[0]
                os.link(source_name, name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(source)
        if target in self._owners:
            self._owners[path] = self._owners[target]

    @staticmethod
    def _is_there(parent: int, name: str) -> bool:
        try:
            st = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return not is_whiteout(st)

    def _copy_up(self, parent: int, name: str, path: str, member: Member) -> None:
        """Copy a file of the lower tree into the layer, so that both of its names are one file."""
        below = self._lower.lookup(path, follow=False) if self._lower is not None else None
        if below is None or self._is_hidden(path):
            raise ImageError(f"the layer links {member.path!r} to {member.target!r}, which is not there")
        assert self._lower is not None
        copied = _as_member(below, self._lower)
        if stat.S_ISLNK(below.stat.st_mode):
            self._symlink(path, copied)
        elif not stat.S_ISREG(below.stat.st_mode):
            raise ImageError(f"the layer links {member.path!r} to {member.target!r}, which is no file")
        else:
            data = os.open(below.host, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fd = os.open(name, _CREATE, 0o600, dir_fd=parent)
                try:
                    while os.copy_file_range(data, fd, 1 << 30):
                        pass
                    os.fchmod(fd, copied.mode)
                    self._attributes.set_open(fd, copied, path, stat.S_IFREG)
                    if stat.S_IFMT(below.mode) != stat.S_IFREG:
                        self._owners.record(
                            path, fd, stat.S_IFREG, Owner(below.uid, below.gid, below.mode, below.rdev)
                        )
                    os.utime(fd, ns=(copied.mtime, copied.mtime))
                finally:
                    os.close(fd)
            finally:
                os.close(data)

    def _is_hidden(self, path: str) -> bool:
        """Whether this layer took path, or a directory above it, away, or made the latter opaque."""
        if path in self._deleted:
            return True
        while path:
            path = path.rpartition("/")[0]
            if path in self._hidden:
                return True
        return False

    def _node(self, path: str, member: Member) -> None:
        mode = _NODES[member.kind]
        parent, name, path = self._directories.parent(path)
        if self._is_there(parent, name) or path in self._deleted:
            with suppress(FileNotFoundError):
                self._clear(parent, name, path)
            parent = self._directories.parent(path)[0]
        if member.kind == kinds.FIFO:
            os.mkfifo(name, 0o600, dir_fd=parent)
        elif member.rdev == 0 and member.kind == kinds.CHARACTER:
            raise ImageError(f"the layer holds a device 0:0, {member.path!r}: a whiteout in disguise")
        elif self._identity.mode != "root" or not self._mknod(parent, name, mode | 0o600, member.rdev):
            self._recorded_device(parent, name, path, member, mode)
            return
        self._attributes.set_owner(parent, name, member, path, mode)
        # No link can stand there: the name was made a moment ago, in a directory that is ours.
        os.chmod(name, member.mode, dir_fd=parent)
        os.utime(name, ns=(member.mtime, member.mtime), dir_fd=parent, follow_symlinks=False)

    @staticmethod
    def _mknod(parent: int, name: str, mode: int, rdev: int) -> bool:
        try:
            os.mknod(name, mode, rdev, dir_fd=parent)
        except PermissionError:
            return False
        return True

    def _recorded_device(self, parent: int, name: str, path: str, member: Member, mode: int) -> None:
        fd = os.open(name, _CREATE, 0o600, dir_fd=parent)
        try:
            owner = Owner(member.uid, member.gid, mode | member.mode, member.rdev)
            self._owners.record(path, fd, stat.S_IFREG, owner)
            os.utime(fd, ns=(member.mtime, member.mtime))
        finally:
            os.close(fd)

    # deletions

    def _whiteout(self, path: str) -> None:
        parent_path, _, name = path.rpartition("/")
        if name == OPAQUE_MARK:
            fd, resolved = self._directories.get(parent_path)
            os.setxattr(fd, OPAQUE, b"y")
            self._hidden.add(resolved)
            return
        if _META_PREFIX in path:
            return  # aufs' own bookkeeping, which old images carry
        gone = name[len(WHITEOUT_PREFIX) :]
        if gone in ("", ".", ".."):
            raise ImageError(f"the layer has an impossible whiteout {path!r}")
        parent, resolved = self._directories.get(parent_path)
        target = f"{resolved}/{gone}" if resolved else gone
        self._deleted.add(target)
        self._hidden.add(target)
        try:
            os.mknod(gone, stat.S_IFCHR, 0, dir_fd=parent)
        except FileExistsError:
            # The layer has something new there: it stays (a whiteout speaks of the layers below).
            st = os.stat(gone, dir_fd=parent, follow_symlinks=False)
            if stat.S_ISDIR(st.st_mode):
                self._set_opaque(gone, parent)

    def finish(self) -> None:
        """Set what writing into a directory would have changed again."""
        for path, member in sorted(self._dirs.items()):
            fd, resolved = self._directories.get(path)
            if resolved == path:
                os.utime(fd, ns=(member.mtime, member.mtime))


def _as_member(entry: Entry, tree: Tree) -> Member:
    """An entry of the lower tree as if it stood in the archive."""
    link = stat.S_ISLNK(entry.stat.st_mode)
    return Member(
        entry.path,
        kinds.DIRECTORY if stat.S_ISDIR(entry.mode) else kinds.REGULAR,
        stat.S_IMODE(entry.mode),
        entry.uid,
        entry.gid,
        0,
        entry.stat.st_mtime_ns,
        tree.readlink(entry) if link else "",
        0,
        {} if link else tree.xattrs(entry),
    )
