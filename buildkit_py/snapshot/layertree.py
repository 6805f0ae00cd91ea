"""A stack of layer directories read as one tree, without mounting it.

Implements buildkit_py.snapshot.tree.Tree. What each directory consists of (the host directories that
are merged, topmost first) is remembered, so that a lookup costs one lstat a layer that has the parent
directory, and a directory of one layer alone is listed with one scandir.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence

from buildkit_py.linux.ownership import OWNER_XATTR, Owner, decode
from buildkit_py.snapshot import owners as records
from buildkit_py.snapshot.overlay import image_xattrs, is_whiteout, is_whiteout_file, opaqueness
from buildkit_py.snapshot.tree import Entry
from buildkit_py.tuples import NamedTuple

MAX_LINKS = 40
_SCRATCH = os.stat_result((stat.S_IFDIR | 0o755, 0, 0, 2, 0, 0, 0, 0, 0, 0))


class _Part(NamedTuple):
    """One layer's share of a merged directory."""

    layer: int
    host: str
    xattr_whiteouts: bool


def sort_names(names: list[str]) -> None:
    """Sort by bytes. Strings sort like their UTF-8 except for surrogate escapes."""
    if "".join(names).isascii():
        names.sort()
    else:
        names.sort(key=os.fsencode)


class LayerTree:
    """``layers``: layer directories, topmost first. ``recorded``: look for recorded owners in any case
    (mode ``single``); otherwise only where a layer of the stack has an ``owners`` file."""

    def __init__(self, layers: Sequence[str], *, recorded: bool = False) -> None:
        self.layers = tuple(layers)
        self._dirs: dict[str, tuple[_Part, ...]] = {}
        self._owners: list[records.Owners | None] | None = None
        self._recorded = recorded

    # owners

    def _load_owners(self) -> list[records.Owners | None]:
        if self._owners is None:
            self._owners = [records.load(layer) for layer in self.layers]
            self._recorded = self._recorded or any(found is not None for found in self._owners)
        return self._owners

    def _entry(self, path: str, host: str, st: os.stat_result, layer: int) -> Entry:
        owners = self._owners if self._owners is not None else self._load_owners()
        if self._recorded:
            owner = self._owner(path, host, st, owners[layer])
            if owner is not None:
                mode = owner.mode or st.st_mode
                return Entry(path, st, host, mode, owner.uid, owner.gid, owner.rdev or st.st_rdev)
        return Entry(path, st, host, st.st_mode, st.st_uid, st.st_gid, st.st_rdev)

    @staticmethod
    def _owner(path: str, host: str, st: os.stat_result, owners: records.Owners | None) -> Owner | None:
        if stat.S_ISREG(st.st_mode) or stat.S_ISDIR(st.st_mode):
            # listxattr first: a missing attribute is the rule, and an exception costs more than a call.
            if OWNER_XATTR in os.listxattr(host, follow_symlinks=False):
                try:
                    return decode(os.getxattr(host, OWNER_XATTR, follow_symlinks=False))
                except ValueError:
                    return None
            return None
        return owners.get(path) if owners else None

    # directories

    def _root(self) -> tuple[_Part, ...]:
        root = self._dirs.get("")
        if root is None:
            parts: list[_Part] = []
            for number, layer in enumerate(self.layers):
                opaque = opaqueness(layer)
                parts.append(_Part(number, layer, opaque == b"x"))
                if opaque == b"y":
                    break
            root = self._dirs[""] = tuple(parts)
        return root

    def _find(self, directory: tuple[_Part, ...], name: str) -> tuple[os.stat_result, str, int] | None:
        """The topmost entry ``name`` in a merged directory: (lstat, host path, index of its part)."""
        for index, part in enumerate(directory):
            host = part.host + "/" + name
            try:
                st = os.lstat(host)
            except OSError as e:
                if e.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
                    continue
                raise
            if is_whiteout(st) or (part.xattr_whiteouts and is_whiteout_file(host, st)):
                return None
            return st, host, index
        return None

    def _merge(self, directory: tuple[_Part, ...], index: int, name: str) -> tuple[_Part, ...]:
        """The parts of the child directory ``name`` whose topmost one lies in part ``index``."""
        parts: list[_Part] = []
        for part in directory[index:]:
            host = part.host + "/" + name
            if parts:
                try:
                    st = os.lstat(host)
                except OSError:
                    continue
                if not stat.S_ISDIR(st.st_mode):
                    break
            # In the lowest layer opaqueness hides nothing, but "x" still tells how whiteouts look.
            opaque = opaqueness(host)
            parts.append(_Part(part.layer, host, opaque == b"x"))
            if opaque == b"y":
                break
        return tuple(parts)

    def _directory(self, path: str) -> tuple[_Part, ...] | None:
        """The parts of a resolved directory path; None where there is no directory."""
        found = self._dirs.get(path)
        if found is not None or path == "":
            return self._root() if found is None else found
        parent, _, name = path.rpartition("/")
        above = self._directory(parent)
        if above is None:
            return None
        hit = self._find(above, name)
        if hit is None or not stat.S_ISDIR(hit[0].st_mode):
            return None
        merged = self._dirs[path] = self._merge(above, hit[2], name)
        return merged

    # Tree

    def _walk_links(self, path: str, follow: bool) -> tuple[str, Entry | None]:
        """(the resolved path, its entry or None); components that don't exist are kept."""
        todo = [part for part in reversed(path.split("/")) if part and part != "."]
        done = ""
        links = 0
        entry: Entry | None = self._root_entry()
        parts: tuple[_Part, ...] | None = self._root()
        while todo:
            name = todo.pop()
            if name == "..":
                done = done.rpartition("/")[0]
                parts = self._directory(done)
                entry = None
                continue
            here = f"{done}/{name}" if done else name
            hit = self._find(parts, name) if parts else None
            if hit is None:
                done, parts, entry = here, None, None
                continue
            st, host, index = hit
            assert parts is not None
            if stat.S_ISLNK(st.st_mode) and (todo or follow):
                links += 1
                if links > MAX_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                target = os.readlink(host)
                if target.startswith("/"):
                    done, parts, entry = "", self._root(), self._root_entry()
                todo += [part for part in reversed(target.split("/")) if part and part != "."]
                continue
            entry = self._entry(here, host, st, parts[index].layer)
            if stat.S_ISDIR(st.st_mode):
                known = self._dirs.get(here)
                if known is None:
                    known = self._dirs[here] = self._merge(parts, index, name)
                parts = known
            else:
                parts = None
            done = here
        if entry is None and (parts is not None or done == ""):
            entry = self._directory_entry(done)
        return done, entry

    def _root_entry(self) -> Entry:
        if not self.layers:
            return Entry("", _SCRATCH, "", _SCRATCH.st_mode, 0, 0)
        return self._entry("", self.layers[0], os.lstat(self.layers[0]), 0)

    def _directory_entry(self, path: str) -> Entry:
        if path == "":
            return self._root_entry()
        top = (self._directory(path) or ())[0]
        return self._entry(path, top.host, os.lstat(top.host), top.layer)

    def lookup(self, path: str, *, follow: bool = True) -> Entry | None:
        return self._walk_links(path, follow)[1]

    def resolve(self, path: str) -> str:
        return self._walk_links(path, True)[0]

    def children(self, path: str) -> list[Entry]:
        parts = self._directory(self.resolve(path))
        return [] if parts is None else self._list(self.resolve(path), parts)

    def _list(self, path: str, parts: tuple[_Part, ...]) -> list[Entry]:
        """The sorted entries of a merged directory."""
        found: dict[str, tuple[str, os.stat_result, int]] = {}
        hidden: set[str] = set()
        merged = len(parts) > 1
        for layer, host, xattr_whiteouts in parts:
            gone: list[str] = []
            with os.scandir(host) as listing:
                for item in listing:
                    name = item.name
                    if merged and (name in found or name in hidden):
                        continue
                    st = item.stat(follow_symlinks=False)
                    if is_whiteout(st) or (xattr_whiteouts and is_whiteout_file(item.path, st)):
                        gone.append(name)
                    else:
                        found[name] = (item.path, st, layer)
            hidden.update(gone)
        names = list(found)
        sort_names(names)
        prefix = path + "/" if path else ""
        entries: list[Entry] = []
        plain = not self._recorded and self._owners is not None
        for name in names:
            host, st, layer = found[name]
            if plain:
                entries.append(Entry(prefix + name, st, host, st.st_mode, st.st_uid, st.st_gid, st.st_rdev))
            else:
                entries.append(self._entry(prefix + name, host, st, layer))
        return entries

    def walk(self, path: str) -> Iterator[Entry]:
        top = self.resolve(path)
        parts = self._directory(top)
        if parts is None:
            return
        stack = [iter(self._list(top, parts))]
        above = [parts]
        while stack:
            entry = next(stack[-1], None)
            if entry is None:
                stack.pop()
                above.pop()
                continue
            yield entry
            if stat.S_ISDIR(entry.stat.st_mode):
                below = self._below(above[-1], entry)
                stack.append(iter(self._list(entry.path, below)))
                above.append(below)

    def _below(self, parts: tuple[_Part, ...], entry: Entry) -> tuple[_Part, ...]:
        known = self._dirs.get(entry.path)
        if known is None:
            name = entry.path.rpartition("/")[2]
            index = 0
            if len(parts) > 1:
                parent = entry.host[: -len(name) - 1]
                index = next(i for i, part in enumerate(parts) if part.host == parent)
            known = self._merge(parts, index, name)
            if len(self._dirs) < 4096:
                self._dirs[entry.path] = known
        return known

    def readlink(self, entry: Entry) -> str:
        return os.readlink(entry.host)

    def xattrs(self, entry: Entry) -> dict[str, bytes]:
        return image_xattrs(entry.host) if entry.host else {}
