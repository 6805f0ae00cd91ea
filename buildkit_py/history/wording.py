"""Reasons in words: one sentence each, then the lines that belong to it."""

from __future__ import annotations

import json
import stat

from buildkit_py.cache.inputs import FileState
from buildkit_py.history.why import FileChange, Reason, file_type
from buildkit_py.typed import Any

MOST_FILES = 20
"""Changed files that are named."""
LONGEST = 200
"""Characters of a value."""
_PLAIN = {
    "no-cache": "the cache was not to be used (--no-cache)",
    "expired": "its kept result was older than --cache-ttl allows",
    "first": "it is new: no earlier key",
    "unknown": "its key changed; what the earlier one was made of is not kept",
    "failed": "it did not end well the last time",
    "gone": "its result is no longer in the store",
    "format": "this version of pybuild makes other keys",
}


def lines(reason: Reason) -> list[str]:
    """A reason as text; what belongs to the first line is indented by two spaces."""
    kind, name, old, new = reason.kind, reason.name, reason.old, reason.new
    if kind in _PLAIN:
        return [_PLAIN[kind]]
    if kind == "step":
        return [f"an earlier step ran again: {name}"]
    if kind == "parent" and old == new:
        return [f"it stands on another result of {new}"]
    if kind == "parent":
        return _changed("it stands on another step", old or "nothing", new or "nothing")
    if kind == "base":
        return _changed(f"the base image changed: {name}", _short(old), _short(new))
    if kind == "file":
        return [_source(name, len(reason.files)), *_files(reason.files)]
    if kind == "content":
        return [_source(name, 0)]
    if kind in ("arg", "env"):
        return _variable(reason)
    if kind == "instruction":
        return _changed("the instruction changed", old, new)
    if kind == "source":
        return _changed(f"the source changed: {name}", _short(old), _short(new))
    return _changed(f"the {kind if kind == 'mount' else 'setting'} changed: {name}", _value(old), _value(new))


def _variable(reason: Reason) -> list[str]:
    what = f"{reason.kind.upper()} {reason.name}"
    if reason.hidden:
        return [f"{what} changed (its value is hidden)"]
    if reason.old is None:
        return [f"{what} is new", f"  + {_value(reason.new)}"]
    if reason.new is None:
        return [f"{what} is gone", f"  - {_value(reason.old)}"]
    return _changed(f"{what} changed", _value(reason.old), _value(reason.new))


def _changed(what: str, old: Any, new: Any) -> list[str]:
    return [what, *([f"  - {old}"] if old is not None else []), *([f"  + {new}"] if new is not None else [])]


def _source(name: str, count: int) -> str:
    files = "files" if count != 1 else "a file"
    if name.startswith("mount "):
        return f"{files} of the {name} changed"
    return f"{files} changed in {name}"


def _files(changes: tuple[FileChange, ...]) -> list[str]:
    out = [f"  {c.path or '.'}: {_change(c)}" for c in changes[:MOST_FILES]]
    more = len(changes) - MOST_FILES
    return out + ([f"  and {more} more"] if more > 0 else [])


def _change(change: FileChange) -> str:
    old, new = change.old, change.new
    if old is None or new is None:
        state = new or old
        assert state is not None
        return ("new, " if old is None else "gone, ") + _state(state)
    if stat.S_IFMT(old.mode) != stat.S_IFMT(new.mode):
        return f"{file_type(old.mode)} -> {file_type(new.mode)}"
    parts = []
    if old.size != new.size:
        parts.append(f"{old.size} -> {new.size} bytes")
    if old.mode != new.mode:
        parts.append(f"mode {_mode(old)} -> {_mode(new)}")
    if (old.uid, old.gid) != (new.uid, new.gid):
        parts.append(f"owner {old.uid}:{old.gid} -> {new.uid}:{new.gid}")
    if old.content != new.content:
        parts.append(f"{_short(old.content)} -> {_short(new.content)}")
    if old.rdev != new.rdev:
        parts.append(f"device {old.rdev} -> {new.rdev}")
    if old.xattrs != new.xattrs:
        parts.append("extended attributes")
    return ", ".join(parts)


def _state(state: FileState) -> str:
    if stat.S_ISREG(state.mode):
        return f"{state.size} bytes, mode {_mode(state)}"
    if stat.S_ISLNK(state.mode):
        return f"link to {state.content}"
    return f"{file_type(state.mode)}, mode {_mode(state)}"


def _mode(state: FileState) -> str:
    return f"{state.mode & 0o7777:04o}"


def _short(digest: Any) -> str:
    """A digest that can still be told from others; whatever else it may be as it is."""
    text = str(digest)
    if text.startswith("sha256:"):
        return text[:19]
    return text[:12] if len(text) == 40 and text.isalnum() else text


def _value(value: Any) -> str | None:
    if value is None:
        return None
    if value in ("", [], 0):
        return "(none)"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
