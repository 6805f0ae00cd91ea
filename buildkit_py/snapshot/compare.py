"""Two trees, file by file: everything that a layer would hold of them, times only if asked for."""

from __future__ import annotations

import heapq
import os
import stat
from collections.abc import Iterator
from hashlib import sha256

from buildkit_py.snapshot.tree import Entry, Tree
from buildkit_py.tuples import NamedTuple

_CHUNK = 1 << 20


class Difference(NamedTuple):
    path: str
    """Absolute."""
    what: str
    """only (in one of them), type, mode, owner, size, content, target, device, xattrs, links, time."""
    old: str
    """As people read it; "" where it is not there."""
    new: str


def differences(old: Tree, new: Tree, *, times: bool = False) -> Iterator[Difference]:
    """In the order of the paths; of a file one for each thing that differs. Raises OSError."""
    links: tuple[dict[object, str], dict[object, str]] = ({}, {})
    for path, pair in _pairs(old, new):
        before, after = pair
        if before is None or after is None:
            yield Difference("/" + path, "only", _shown(before), _shown(after))
            continue
        firsts = [_first_name(entry, seen) for entry, seen in zip(pair, links, strict=True) if entry]
        for what, left, right in _compared(old, before, new, after, times):
            if left != right:
                yield Difference("/" + path, what, left, right)
        if firsts[0] != firsts[1]:
            yield Difference("/" + path, "links", firsts[0], firsts[1])


def _pairs(old: Tree, new: Tree) -> Iterator[tuple[str, tuple[Entry | None, Entry | None]]]:
    """Both walks go by the bytes of the names, directories before what is in them."""
    streams = [_keyed(tree, side) for side, tree in enumerate((old, new))]
    held: list[Entry | None] = [None, None]
    key: tuple[bytes, ...] | None = None
    for at, side, entry in heapq.merge(*streams, key=lambda item: item[:2]):
        if at != key and key is not None:
            yield _path(held), (held[0], held[1])
            held = [None, None]
        key = at
        held[side] = entry
    if key is not None:
        yield _path(held), (held[0], held[1])


def _keyed(tree: Tree, side: int) -> Iterator[tuple[tuple[bytes, ...], int, Entry]]:
    return ((_key(entry), side, entry) for entry in tree.walk(""))


def _key(entry: Entry) -> tuple[bytes, ...]:
    return tuple(os.fsencode(entry.path).split(b"/"))


def _path(held: list[Entry | None]) -> str:
    return next(entry.path for entry in held if entry is not None)


def _first_name(entry: Entry, seen: dict[object, str]) -> str:
    """The first of a file's names."""
    link = entry.link
    return entry.path if link is None else seen.setdefault(link, entry.path)


def _compared(
    old: Tree, before: Entry, new: Tree, after: Entry, times: bool
) -> Iterator[tuple[str, str, str]]:
    if stat.S_IFMT(before.mode) != stat.S_IFMT(after.mode):
        yield "type", _shown(before), _shown(after)
        return
    yield "mode", f"{stat.S_IMODE(before.mode):o}", f"{stat.S_IMODE(after.mode):o}"
    yield "owner", f"{before.uid}:{before.gid}", f"{after.uid}:{after.gid}"
    if stat.S_ISREG(before.mode):
        left, right = before.stat.st_size, after.stat.st_size
        if left != right:
            yield "size", str(left), str(right)
        else:
            left_data, right_data = _contents(before, after)
            yield "content", left_data, right_data
    elif stat.S_ISLNK(before.mode):
        yield "target", old.readlink(before), new.readlink(after)
    elif stat.S_ISCHR(before.mode) or stat.S_ISBLK(before.mode):
        yield "device", _device(before), _device(after)
    yield "xattrs", _xattrs(old, before), _xattrs(new, after)
    if times:
        yield "time", str(before.stat.st_mtime_ns), str(after.stat.st_mtime_ns)


def _device(entry: Entry) -> str:
    return f"{os.major(entry.rdev)}:{os.minor(entry.rdev)}"


def _contents(before: Entry, after: Entry) -> tuple[str, str]:
    """Digests; of one and the same file nothing is read."""
    same = (before.stat.st_dev, before.stat.st_ino) == (after.stat.st_dev, after.stat.st_ino)
    return ("", "") if same else (_digest(before), _digest(after))


def _digest(entry: Entry) -> str:
    fd = os.open(entry.host, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found = sha256()
        while data := os.read(fd, _CHUNK):
            found.update(data)
        return "sha256:" + found.hexdigest()
    finally:
        os.close(fd)


def _xattrs(tree: Tree, entry: Entry) -> str:
    return " ".join(f"{name}={value.hex()}" for name, value in sorted(tree.xattrs(entry).items()))


def _shown(entry: Entry | None) -> str:
    """A file in a word: ``-rw-r--r-- 0:0 12``."""
    if entry is None:
        return ""
    size = f" {entry.stat.st_size}" if stat.S_ISREG(entry.mode) else ""
    return f"{stat.filemode(entry.mode)} {entry.uid}:{entry.gid}{size}"
