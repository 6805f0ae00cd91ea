"""Cache keys: SHA-256 over canonical records (digest.canonical), so that they can leave the machine.

A record is a flat JSON object whose fields have names that a person understands, because
``pybuild cache why`` compares two of them field by field. What must not be in a key (names, places, limits,
secrets, proxy variables, cache mounts' content) is never put into a record.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from buildkit_py.digest import Digest, of_record
from buildkit_py.llb.ops import Exec, File, ImageSource, Merge, Mount
from buildkit_py.solver.types import Key

VERSION = 1
"""Part of every record: raise it when the meaning of a field or the work of an op changes."""


def key_of(record: dict[str, Any]) -> Key:
    record = {"v": VERSION, **record}
    return Key(of_record(record), record)


def image_key(op: ImageSource) -> Key:
    """The digest, not the tag: a moved tag misses, a second tag of the same image hits."""
    return key_of({"op": "image", "digest": op.digest, "platform": op.platform})


def exec_key(op: Exec, inputs: Sequence[Digest], contents: dict[int, Digest]) -> Key:
    """``contents`` holds the content digest of each input that is bind-mounted, by index."""
    return key_of(
        {
            "op": "exec",
            "parent": inputs[0] if op.base else None,
            "args": op.args,
            "env": op.env,
            "cwd": op.cwd,
            "user": op.user,
            "network": op.network,
            "security": op.security,
            "hostname": op.hostname,
            "hosts": op.extra_hosts,
            "ulimits": op.ulimits,
            "shm": op.shm_size,
            "devices": op.devices,
            "platform": op.platform,
            "mounts": [_mount(m, inputs, contents) for m in op.mounts],
        }
    )


def _mount(mount: Mount, inputs: Sequence[Digest], contents: dict[int, Digest]) -> list[Any]:
    """A mount's part: its place and kind; of its content only a bind mount's."""
    content = None
    if mount.kind == "bind" and mount.input >= 0:
        content = contents.get(mount.input) or inputs[mount.input]
    return [mount.kind, mount.target, mount.source, mount.readonly, mount.id, mount.env, content]


def file_record(op: File, parent: Digest | None, contents: Sequence[Digest]) -> dict[str, Any]:
    """``contents``: one digest an action, of what it copies; for Mkdir of the action itself."""
    actions = [[_destination(a), c] for a, c in zip(op.actions, contents, strict=True)]
    return {"op": "file", "parent": parent, "actions": actions}


def _destination(action: Any) -> list[Any]:
    """What of an action decides where and how its content lands; not where the content lay."""
    skip = {"input", "sources", "exclude"}
    return [type(action).__name__, *(v for k, v in zip(action._fields, action, strict=True) if k not in skip)]


def file_definition_key(op: File, inputs: Sequence[Digest]) -> Key:
    """The key of a file op by its definition: the same op on inputs with the same keys."""
    actions = [[type(a).__name__, *a] for a in op.actions]
    return key_of({"op": "file-definition", "actions": actions, "inputs": list(inputs)})


def merge_key(_: Merge, inputs: Sequence[Digest]) -> Key:
    return key_of({"op": "merge", "inputs": list(inputs)})
