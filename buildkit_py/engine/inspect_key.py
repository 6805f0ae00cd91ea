"""All that is known of a cache key: what it was made of, to the single file, and what it led to."""

from __future__ import annotations

from buildkit_py.cache.eviction import Item
from buildkit_py.cache.inputs import FileState, Inputs, contents_of
from buildkit_py.errors import NotFoundError, UsageError
from buildkit_py.tuples import NamedTuple
from buildkit_py.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from buildkit_py.engine import Engine


class Inspected(NamedTuple):
    inputs: Inputs
    """Its record, values of secrets hidden."""
    item: Item | None
    """What it led to; None where that is gone."""
    steps: dict[str, str]
    """Keys in the record -> the names of their steps, as far as they are known."""
    files: dict[str, dict[str, FileState]]
    """Content digests in the record -> files by their path in the source, where the list is kept."""


def inspect(engine: Engine, text: str) -> Inspected:
    """``text``: a key or its beginning. Raises NotFoundError, UsageError where several begin so."""
    key = find(engine, text)
    inputs = engine.inputs.get(key)
    assert inputs is not None
    files = {}
    for _, digest in contents_of(inputs.record):
        found = engine.inputs.files(digest, inputs.roots.get(digest, ()))
        if found is not None:
            files[str(digest)] = found
    items = {item.id: item for item in engine.inventory().items}
    steps = {}
    for other in _texts(inputs.record):
        known = engine.inputs.get(other) if other.startswith("sha256:") and other not in files else None
        if known is not None:
            steps[other] = known.name
    return Inspected(inputs, items.get(key), steps, files)


def find(engine: Engine, text: str) -> str:
    """A whole key."""
    digits = text.removeprefix("sha256:").lower()
    if len(digits) < 4 or set(digits) - set("0123456789abcdef"):
        raise UsageError(f"'{text}' is no beginning of a cache key", hint="'pybuild cache ls' shows them")
    found = sorted({*engine.index.keys(digits), *engine.inputs.keys(digits)})
    if not found:
        raise NotFoundError(f"there is no cache key {text}", hint="'pybuild cache ls' shows them")
    if len(found) > 1:
        raise UsageError(f"several cache keys begin with {text}", hint="give more digits")
    return found[0]


def _texts(value: Any) -> set[str]:
    """Every text in a JSON value."""
    if isinstance(value, str):
        return {value}
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return set().union(*map(_texts, parts))


def document(found: Inspected) -> dict[str, Any]:
    """For JSON."""
    inputs, item = found.inputs, found.item
    result: dict[str, Any] = {"key": inputs.key, "step": inputs.name, "stage": inputs.stage}
    if item is not None:
        result["result"] = {
            "kind": item.kind,
            "size": item.size,
            "created": item.created,
            "used": item.used,
            "uses": item.uses,
            "snapshot": item.snapshot,
            "images": list(item.images),
        }
    files = {
        digest: {path: _file(state) for path, state in states.items()}
        for digest, states in found.files.items()
    }
    return result | {"record": inputs.record, "steps": found.steps, "files": files}


def _file(state: FileState) -> dict[str, Any]:
    return {
        "mode": f"{state.mode:o}",
        "uid": state.uid,
        "gid": state.gid,
        "size": state.size,
        "content": state.content,
        "xattrs": state.xattrs.hex(),
    }
