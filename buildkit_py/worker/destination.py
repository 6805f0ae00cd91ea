"""The root file system that a file op writes into: what its base has, under a new layer.

Nothing is mounted. A lookup asks the layer, then the base; a directory of the base that something is put
into is made in the layer with the base's mode, owner and times, as overlayfs would do on copy-up.
"""

from __future__ import annotations

import errno
import os
import stat

from buildkit_py.errors import PybuildError
from buildkit_py.linux.identity import Identity
from buildkit_py.snapshot import overlay
from buildkit_py.snapshot.listing import MADE_TIME_NS
from buildkit_py.snapshot.removal import remove_tree
from buildkit_py.snapshot.tree import Entry, Tree
from buildkit_py.tuples import NamedTuple
from buildkit_py.worker.owner import Layer, Ownership

_MAX_LINKS = 40
_SINGLE_LOOKUPS = 16
"""Names asked one by one in a directory of the base before it is listed as a whole."""


class Attributes(NamedTuple):
    """What a directory is to have once everything is in it."""

    mode: int
    uid: int
    gid: int
    mtime_ns: int
    xattrs: dict[str, bytes]


MADE = Attributes(stat.S_IFDIR | 0o755, 0, 0, MADE_TIME_NS, {})


class Directory:
    """A directory of the layer."""

    __slots__ = ("_asked", "_below", "attributes", "base", "host", "path")

    def __init__(self, path: str, host: str, attributes: Attributes, base: Tree | None) -> None:
        self.path = path
        self.host = host
        self.attributes = attributes
        self.base = base
        """Where the base has this directory too; else None, and no name needs to be looked up in it."""
        self._asked = 0
        self._below: dict[str, Entry] | None = None

    def below(self, name: str) -> Entry | None:
        """What the base has in this directory under a name."""
        if self.base is None:
            return None
        if self._below is None:
            if self._asked < _SINGLE_LOOKUPS:
                self._asked += 1
                return self.base.lookup(f"{self.path}/{name}" if self.path else name, follow=False)
            skip = len(self.path) + 1 if self.path else 0
            self._below = {e.path[skip:]: e for e in self.base.children(self.path)}
        return self._below.get(name)


class Destination:
    def __init__(self, layer: Layer, base: Tree | None, identity: Identity) -> None:
        self.ownership = Ownership(layer, identity)
        self.base = base
        self._fs = layer.fs
        self._hidden: dict[str, bool] = {}
        """What clear() took away of the base, and whether it was a directory."""
        root = Directory("", layer.fs, MADE, base)
        self._dirs: dict[str, Directory] = {"": root}

    def host(self, path: str) -> str:
        return f"{self._fs}/{path}" if path else self._fs

    def mode(self, path: str) -> int | None:
        """st_mode of what is at a resolved path, no link followed; None where nothing is."""
        if path in self._dirs:
            return stat.S_IFDIR
        parent, _, name = path.rpartition("/")
        directory = self._dirs.get(parent)
        if directory is None:  # so the layer has nothing below it
            entry = self.base.lookup(path, follow=False) if self.base is not None else None
            return entry.mode if entry is not None and entry.path == path else None
        try:
            return os.lstat(f"{directory.host}/{name}").st_mode
        except FileNotFoundError:
            entry = directory.below(name)
            return entry.mode if entry is not None else None
        except OSError as e:
            if e.errno == errno.ENAMETOOLONG:
                raise PybuildError(f"the name {name[:40]}… is too long") from e
            raise

    def resolve(self, path: str) -> str:
        """Follow every link of a path inside the root; what doesn't exist is kept as it is."""
        todo = path.split("/")[::-1]
        done: list[str] = []
        links = 0
        while todo:
            part = todo.pop()
            if part == "..":
                del done[-1:]
            elif part not in ("", "."):
                done.append(part)
                here = "/".join(done)
                mode = self.mode(here)
                if mode is None or not stat.S_ISLNK(mode):
                    continue
                links += 1
                if links > _MAX_LINKS:
                    raise PybuildError(f"/{path.lstrip('/')}: too many symbolic links in the destination")
                target = self._readlink(here)
                if target.startswith("/"):
                    done.clear()
                else:
                    done.pop()
                todo.extend(target.split("/")[::-1])
        return "/".join(done)

    def enter(self, path: str, made: Attributes = MADE) -> Directory:
        """The directory at a resolved path, in the layer; missing ones are made with ``made``. Raises
        PybuildError where something else is in the way."""
        found = self._dirs.get(path)
        if found is not None:
            return found
        directory = self._dirs[""]
        parts = path.split("/")
        for n, name in enumerate(parts, 1):
            known = self._dirs.get("/".join(parts[:n]))
            directory = known or self.make(directory, name, made, keep=True)
        return directory

    def make(self, parent: Directory, name: str, attributes: Attributes, *, keep: bool = False) -> Directory:
        """A directory in one of the layer's. Where there is one already it is taken, and has its
        attributes replaced but for ``keep``."""
        path = f"{parent.path}/{name}" if parent.path else name
        known = self._dirs.get(path)
        if known is not None:
            if not keep:
                known.attributes = attributes
            return known
        below = parent.below(name) if path not in self._hidden else None
        if below is not None and not stat.S_ISDIR(below.mode):
            raise PybuildError(f"/{path} is {kind_of(below.mode)}, and a directory is to be put there")
        if below is not None and keep:
            assert self.base is not None
            mtime_ns = below.stat.st_mtime_ns
            xattrs = self.base.xattrs(below)
            attributes = Attributes(below.mode, below.uid, below.gid, mtime_ns, xattrs)
        host = f"{parent.host}/{name}"
        try:
            os.mkdir(host, 0o755)
        except FileExistsError:
            mode = os.lstat(host).st_mode
            raise PybuildError(f"/{path} is {kind_of(mode)}, and a directory is to be put there") from None
        if self._hidden.get(path):
            os.setxattr(host, overlay.OPAQUE, b"y")
        made = Directory(path, host, attributes, self.base if below is not None else None)
        self._dirs[path] = made
        return made

    def clear(self, parent: Directory, name: str) -> None:
        """Take away whatever is under a name: a directory with all that is in it, as tar does."""
        path = f"{parent.path}/{name}" if parent.path else name
        below = parent.below(name)
        if below is not None:
            self._hidden[path] = stat.S_ISDIR(below.mode)
        host = f"{parent.host}/{name}"
        try:
            os.unlink(host)
        except FileNotFoundError:
            return
        except IsADirectoryError:
            remove_tree(host)
            for gone in [p for p in self._dirs if p == path or p.startswith(path + "/")]:
                del self._dirs[gone]
        self.ownership.forget(path)

    def finish(self) -> None:
        """Give every directory its attributes, now that nothing is put into it any more."""
        for directory in reversed(self._dirs.values()):
            mode, uid, gid, mtime_ns, xattrs = directory.attributes
            if directory.path:
                self.ownership.apply(directory.host, directory.path, mode, uid, gid, 0o755)
                write_xattrs(directory.host, xattrs)
            os.utime(directory.host, ns=(mtime_ns, mtime_ns))

    def _readlink(self, path: str) -> str:
        try:
            return os.readlink(self.host(path))
        except OSError:
            assert self.base is not None
            entry = self.base.lookup(path, follow=False)
            assert entry is not None
            return self.base.readlink(entry)


def write_xattrs(where: str | int, xattrs: dict[str, bytes]) -> None:
    """An attribute that this file system or identity can't hold is left out, as tar does."""
    for name, value in xattrs.items():
        stored = overlay.escape(name)
        if stored is None:
            continue
        try:
            if isinstance(where, int):
                os.setxattr(where, stored, value)
            else:
                os.setxattr(where, stored, value, follow_symlinks=False)
        except OSError as e:
            if e.errno not in (errno.EPERM, errno.ENOTSUP, errno.EACCES, errno.EINVAL):
                raise


def kind_of(mode: int) -> str:
    names = {
        stat.S_IFREG: "a file",
        stat.S_IFDIR: "a directory",
        stat.S_IFLNK: "a symbolic link",
        stat.S_IFIFO: "a fifo",
        stat.S_IFSOCK: "a socket",
    }
    return names.get(stat.S_IFMT(mode), "a device")
