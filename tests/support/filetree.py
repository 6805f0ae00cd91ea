"""File trees as lines of text, for planting them and for saying what a layer holds.

    d 755 0:0 app
    f 4755 1000:50 app/x | its content
    l 777 0:0 app/link -> x
    h 644 0:0 app/y = app/x            (a hard link)
    p 600 0:0 fifo        s 600 0:0 socket        c 666 0:0 null 1:3

``@1600000000.5`` sets or shows a time, ``{user.a=b}`` an xattr; both stand right after the path.
"""

from __future__ import annotations

import os
import re
import socket
import stat
from collections.abc import Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

from buildkit_py.linux.identity import Identity
from buildkit_py.snapshot.owners import Owners
from buildkit_py.snapshot.tree import Entry, Tree

TIME = 1_600_000_000
ROOT = Identity("root")
_LINE = re.compile(
    r"(?P<kind>[dflhpscb]) (?P<mode>[0-7]+) (?P<uid>\d+):(?P<gid>\d+) (?P<path>\S+)"
    r"(?: @(?P<time>[\d.]+))?(?P<xattrs>(?: \{[^}]*\})*)(?: (?P<rest>.*))?",
    re.DOTALL,
)
_LETTERS = {
    stat.S_IFDIR: "d",
    stat.S_IFREG: "f",
    stat.S_IFLNK: "l",
    stat.S_IFIFO: "p",
    stat.S_IFSOCK: "s",
    stat.S_IFCHR: "c",
    stat.S_IFBLK: "b",
}


class Layer:
    """A staged layer directory without a store."""

    def __init__(self, base: Path) -> None:
        base.mkdir(parents=True)
        self.fs = str(base / "fs")
        self.owners = Owners()
        os.mkdir(self.fs, 0o755)

    def save(self) -> str:
        self.owners.save(os.path.join(os.path.dirname(self.fs), "owners"))
        return self.fs


class Line(NamedTuple):
    kind: str
    mode: int
    uid: int
    gid: int
    path: str
    time_ns: int
    xattrs: dict[str, bytes]
    rest: str


def parse(text: str) -> Line:
    match = _LINE.fullmatch(text)
    assert match, text
    xattrs = {}
    for item in re.findall(r"\{([^}]*)\}", match["xattrs"] or ""):
        name, _, value = item.partition("=")
        xattrs[name] = value.encode()
    time_ns = int(Decimal(match["time"] or TIME) * 10**9)
    owner = int(match["uid"]), int(match["gid"])
    return Line(
        match["kind"], int(match["mode"], 8), *owner, match["path"], time_ns, xattrs, match["rest"] or ""
    )


def plant(root: Path, lines: Iterable[str]) -> Path:
    """Make a tree; parents that no line mentions are 0755 0:0."""
    root.mkdir(parents=True, exist_ok=True)
    planted = [parse(line) for line in lines]
    for line in planted:
        _make(root, line)
    times = {str(root / line.path): line.time_ns for line in planted}
    for folder, names, files in os.walk(root, topdown=False):
        for name in [*files, *names]:
            path = os.path.join(folder, name)
            ns = times.get(path, TIME * 10**9)
            os.utime(path, ns=(ns, ns), follow_symlinks=False)
    return root


def _make(root: Path, line: Line) -> None:
    path = root / line.path
    path.parent.mkdir(parents=True, exist_ok=True)
    if line.kind == "d":
        path.mkdir(exist_ok=True)
    elif line.kind == "f":
        path.write_text(line.rest.removeprefix("| "), errors="surrogateescape")
    elif line.kind == "l":
        path.symlink_to(line.rest.removeprefix("-> "))
    elif line.kind == "h":
        path.hardlink_to(root / line.rest.removeprefix("= "))
        return
    elif line.kind == "s":
        with socket.socket(socket.AF_UNIX) as s:
            here = os.open(path.parent, os.O_RDONLY)
            try:
                s.bind(f"/proc/self/fd/{here}/{path.name}")  # a socket's path may have 107 bytes
            finally:
                os.close(here)
    elif line.kind == "p":
        os.mkfifo(path)
    else:
        major, minor = line.rest.split(":")
        kind = stat.S_IFCHR if line.kind == "c" else stat.S_IFBLK
        os.mknod(path, kind | 0o600, os.makedev(int(major), int(minor)))
    if (line.uid, line.gid) != (0, 0):
        os.chown(path, line.uid, line.gid, follow_symlinks=False)
    if line.kind != "l":
        path.chmod(line.mode)
    for name, value in line.xattrs.items():
        os.setxattr(path, name, value)


def describe(tree: Tree, *, times: bool = False) -> list[str]:
    """The lines of a tree, sorted as walked."""
    return list(_describe(tree, times))


def _describe(tree: Tree, times: bool) -> Iterator[str]:
    seen: dict[tuple[int, int], str] = {}
    for entry in tree.walk(""):
        letter = _LETTERS[stat.S_IFMT(entry.mode)]
        key = entry.stat.st_dev, entry.stat.st_ino
        if letter == "f" and key in seen:
            letter = "h"
        text = f"{letter} {stat.S_IMODE(entry.mode):o} {entry.uid}:{entry.gid} {entry.path}"
        if times:
            whole, ns = divmod(entry.stat.st_mtime_ns, 10**9)
            text += f" @{whole}" + (f".{ns:09d}".rstrip("0") if ns else "")
        for name, value in sorted(tree.xattrs(entry).items()):
            text += f" {{{name}={value.decode('latin-1')}}}"
        yield text + _rest(tree, entry, letter, seen.get(key, ""))
        if entry.stat.st_nlink > 1:
            seen.setdefault(key, entry.path)


def _rest(tree: Tree, entry: Entry, letter: str, first: str) -> str:
    if letter == "f" and entry.stat.st_size:
        return f" | {Path(entry.host).read_text(errors='surrogateescape')}"
    if letter == "l":
        return f" -> {tree.readlink(entry)}"
    if letter == "h":
        return f" = {first}"
    if letter in "cb":
        return f" {os.major(entry.rdev)}:{os.minor(entry.rdev)}"
    return ""
