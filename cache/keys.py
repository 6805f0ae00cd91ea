"""Cache keys: SHA-256 over canonical records (digest.canonical), so that they can leave the machine.

A record is a flat JSON object whose fields have names that a person understands, because
``pybuild cache why`` compares two of them field by field. What must not be in a key (names, places, limits,
secrets, proxy variables, cache mounts' content) is never put into a record.
"""

from __future__ import annotations

from collections.abc import Sequence

from buildkit_py.digest import Digest, of_record
from buildkit_py.llb.ops import Exec, File, ImageSource, Merge, Mount
from buildkit_py.solver.types import Key
from buildkit_py.typed import Any

VERSION = 2
"""Part of every record: raise it when the meaning of a field or the work of an op changes."""


def key_of(record: dict[str, Any]) -> Key:
    record = {"v": VERSION, **record}
    return Key(of_record(record), record)


def image_key(op: ImageSource) -> Key:
    """The digest, not the tag: a moved tag misses, a second tag of the same image hits."""
    return key_of({"op": "image", "digest": op.digest, "platform": op.platform})


def exec_record(op: Exec, inputs: Sequence[Digest], taken: Sequence[str | None]) -> dict[str, Any]:
    """``taken``: for each mount the digest of what it binds; empty where its input's key says it.

    What programs read and act by counts, so ulimits and the size of /dev/shm do. Limits of memory, CPU and
    tasks decide how fast a step ends, and whether it does: they are left out, as BuildKit leaves them.
    """
    return {
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
        "mounts": [_mount(m, inputs, t) for m, t in zip(op.mounts, taken, strict=True)],
    }


def exec_definition(op: Exec, inputs: Sequence[Digest], taken: Sequence[str | None]) -> dict[str, Any]:
    """The same step with the same inputs: what its bind mounts hold is not looked at."""
    return exec_record(op, inputs, taken) | {"op": "exec-definition"}


def _mount(mount: Mount, inputs: Sequence[Digest], taken: str | None) -> list[Any]:
    """A mount's part: its place and kind, and what it holds at first. What a cache has come to hold, who may
    share it, and what a secret is are no part of it, nor where in its input a bind mount's content lay."""
    content = None
    source: str | None = mount.source
    if mount.input >= 0 and mount.kind in ("bind", "cache"):
        content = taken or inputs[mount.input]
        if mount.kind == "bind" and taken:
            source = None
    owner = [mount.mode, mount.uid, mount.gid] if mount.kind == "secret" else None
    head = [mount.kind, mount.target, source, mount.readonly, mount.id, mount.env]
    return [*head, mount.size, owner, content]


def file_record(op: File, parent: Digest | None, contents: Sequence[str | None]) -> dict[str, Any]:
    """``contents``: one digest an action, of what it copies; for Mkdir of the action itself."""
    actions = [[_destination(a), c] for a, c in zip(op.actions, contents, strict=True)]
    return {"op": "file", "parent": parent, "actions": actions}


def _destination(action: Any) -> list[Any]:
    """What of an action decides where and how its content lands; not where the content lay."""
    skip = {"input", "sources", "exclude"}
    return [type(action).__name__, *(v for k, v in zip(action._fields, action, strict=True) if k not in skip)]


def file_definition(op: File, inputs: Sequence[Digest], contents: Sequence[str | None]) -> dict[str, Any]:
    """The same op on inputs with the same keys. What is known of the content (of a build context, whose key
    says nothing) counts too."""
    actions = [[type(a).__name__, *a] for a in op.actions]
    return {"op": "file-definition", "actions": actions, "inputs": list(inputs), "contents": list(contents)}


def merge_key(_: Merge, inputs: Sequence[Digest]) -> Key:
    return key_of({"op": "merge", "inputs": list(inputs)})
