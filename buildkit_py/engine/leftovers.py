"""What processes that were killed left in the store: things on disk that no row names.

Only where the store's lock is held alone can what is being written be told from what is left over.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from buildkit_py.snapshot.removal import remove_tree
from buildkit_py.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from buildkit_py.engine import Engine


def leftovers(engine: Engine) -> list[str]:
    """Paths, in no order. The store's lock must be held alone, and the identity be entered."""
    staged = _below(engine.root, "staging")
    return [*staged, *_layers(engine), *_parts(engine.root)]


def remove_leftovers(engine: Engine) -> int:
    """Remove them; return the bytes freed."""
    return sum(remove_tree(path) for path in leftovers(engine))


def _layers(engine: Engine) -> Iterator[str]:
    mode = engine.snapshots.mode
    known = engine.snapshots.directories()
    for path in _below(engine.root, "snapshots", mode):
        if os.path.basename(path) not in known:
            yield path


def _parts(root: str) -> Iterator[str]:
    """Files beside those that they were to become."""
    for path in _below(root, "contexts"):
        if not path.endswith((".memo", ".bin")):
            yield path
    for cache in _below(root, "cache-mounts"):
        yield from (path for path in _below(cache) if os.path.basename(path).startswith("data."))
    for repository in _below(root, "git"):
        if repository.endswith(".git"):
            yield from (p for p in _below(repository) if os.path.basename(p).startswith("index-"))


def _below(*path: str) -> list[str]:
    folder = os.path.join(*path)
    try:
        return [os.path.join(folder, name) for name in os.listdir(folder)]
    except (FileNotFoundError, NotADirectoryError):
        return []
