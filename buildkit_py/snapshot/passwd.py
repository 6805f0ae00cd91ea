"""Users and groups as a root file system knows them: /etc/passwd and /etc/group, read from its Tree.

Both files are hostile: lines that don't parse are skipped, and nothing beyond 1 MiB is read.
"""

from __future__ import annotations

import os
import stat

from buildkit_py.errors import PybuildError
from buildkit_py.snapshot.tree import Tree
from buildkit_py.tuples import NamedTuple

_MAX_SIZE = 1 << 20
_MAX_ID = 0xFFFF_FFFE
"""(uid_t)-1 means "leave as it is" to chown(2)."""


class User(NamedTuple):
    name: str
    uid: int
    gid: int
    home: str


class Group(NamedTuple):
    name: str
    gid: int
    members: tuple[str, ...]


def users(tree: Tree | None) -> list[User]:
    found = []
    for fields in _lines(tree, "etc/passwd", 4):
        if _in_range(fields[3]):
            home = fields[5] if len(fields) > 5 else ""
            found.append(User(fields[0], int(fields[2]), int(fields[3]), home))
    return found


def groups(tree: Tree | None) -> list[Group]:
    found = []
    for fields in _lines(tree, "etc/group", 3):
        members = fields[3].split(",") if len(fields) > 3 else ()
        found.append(Group(fields[0], int(fields[2]), tuple(m for m in members if m)))
    return found


def numeric(text: str) -> int | None:
    """A user or group id; None where text is a name. Raises PybuildError for a number out of range."""
    if not (text.isascii() and text.isdigit()):
        return None
    if len(text) > 10 or int(text) > _MAX_ID:
        raise PybuildError(f"{text} is no user or group id", hint=f"ids go from 0 to {_MAX_ID}")
    return int(text)


def resolve_user(tree: Tree | None, user: str) -> tuple[int, int, tuple[int, ...], str]:
    """USER as written (``name[:group]`` or ids; empty: root) -> (uid, gid, supplementary groups, home).

    Supplementary groups come from /etc/group, and only where no group is named; the group itself is always
    one of them, for a setgid program to keep it (CVE-2022-36109 of Docker). An id without an entry has
    group 0 and the home ``/``. Raises PybuildError for an unknown name.
    """
    name, colon, group = user.partition(":")
    entry, uid = _find_user(tree, name or "0")
    home = (entry.home if entry is not None else "") or ("/root" if uid == 0 else "/")
    if colon and group:
        gid = find_group(tree, group)
        return uid, gid, (gid,), home
    gid = entry.gid if entry is not None else 0
    extra = {gid}
    if entry is not None:
        extra |= {g.gid for g in groups(tree) if entry.name in g.members}
    return uid, gid, tuple(sorted(extra)), home


def find_user(tree: Tree | None, name: str) -> tuple[int, int | None]:
    """(uid, primary gid); the gid is None for an id that /etc/passwd doesn't have."""
    entry, uid = _find_user(tree, name)
    return uid, entry.gid if entry is not None else None


def find_group(tree: Tree | None, name: str) -> int:
    gid = numeric(name)
    if gid is not None:
        return gid
    known = groups(tree)
    for group in known:
        if group.name == name:
            return group.gid
    if name == "root" and not known:
        return 0
    raise _unknown("group", name, [g.name for g in known], "/etc/group")


def _find_user(tree: Tree | None, name: str) -> tuple[User | None, int]:
    uid = numeric(name)
    known = users(tree)
    for user in known:
        if user.uid == uid if uid is not None else user.name == name:
            return user, user.uid
    if uid is not None:
        return None, uid
    if name == "root" and not known:
        return User("root", 0, 0, "/root"), 0  # an image without /etc/passwd still has the kernel's root
    raise _unknown("user", name, [u.name for u in known], "/etc/passwd")


def _lines(tree: Tree | None, path: str, least: int) -> list[list[str]]:
    entry = tree.lookup(path) if tree is not None else None
    if entry is None or not stat.S_ISREG(entry.mode):
        return []
    fd = os.open(entry.host, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        data = os.read(fd, _MAX_SIZE)
    finally:
        os.close(fd)
    rows = (line.split(":") for line in data.decode("utf-8", "surrogateescape").split("\n"))
    return [fields for fields in rows if len(fields) >= least and _in_range(fields[2])]


def _in_range(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= _MAX_ID


def _unknown(kind: str, name: str, known: list[str], path: str) -> PybuildError:
    if not known:
        hint = f"the image has no {path}; use a numeric id"
    else:
        import difflib

        close = difflib.get_close_matches(name, known, 1)
        hint = (
            f"did you mean {close[0]!r}?" if close else f"add it with RUN before, or use a numeric {kind} id"
        )
    return PybuildError(f"no {kind} {name!r} in the image's {path}", hint=hint)
