"""What of the cache must go: a rule, the things that are kept, and how their space hangs together.

Nothing here looks at a disk: numbers go in, a list comes out. The rules are those of BuildKit's garbage
collector (docs.docker.com, "Build garbage collection").
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from buildkit_py.tuples import NamedTuple

KINDS = ("regular", "source.local", "source.git.checkout", "source.http", "exec.cachemount")
"""Results of steps, what is remembered of local contexts, git repositories, files by HTTP, cache mounts."""


class Item(NamedTuple):
    """One thing in the cache."""

    id: str
    """A step's cache key; else what names the thing among its kind."""
    kind: str
    """One of KINDS."""
    name: str
    size: int
    """Bytes on disk; of a step its own layer, those below it not counted."""
    created: float
    """Seconds since the epoch, like ``used``."""
    used: float
    """The last use of the thing or of one that stands on it."""
    uses: int = 0
    snapshot: str = ""
    """A step's; "": another kind."""
    images: tuple[str, ...] = ()
    """Names of images (ids of those without) whose layers the snapshot is among."""
    pinned: bool = False
    """Whether an image or a container stands on the snapshot, so that its space is not the cache's alone."""
    shared: bool = False
    """Whether another snapshot has the same layer or stands on this one."""


class Rule(NamedTuple):
    """One rule of a prune or of a policy. Sizes are bytes; 0: no such limit. Without any limit, everything
    that fits the rule goes."""

    all: bool = False
    """What images and containers stand on too."""
    kinds: tuple[str, ...] = ()
    """Any of these; none: every kind."""
    ids: tuple[str, ...] = ()
    """Beginnings of ids, any of which fits; none: every id."""
    keep_duration: float = 0.0
    """Seconds: what was used since stays."""
    reserved_space: int = 0
    """So much stays in any case."""
    max_used_space: int = 0
    min_free_space: int = 0
    """Of the file system."""

    def fits(self, item: Item, now: float) -> bool:
        if item.pinned and not self.all:
            return False
        if self.kinds and item.kind not in self.kinds:
            return False
        if self.ids and not any(_begins(item.id, text) for text in self.ids):
            return False
        return now - item.used >= self.keep_duration

    def keeps(self, total: int, free: int) -> int:
        """How many bytes may stay, with ``total`` in the cache and ``free`` on the disk."""
        if not (self.reserved_space or self.max_used_space or self.min_free_space):
            return 0
        keep = self.max_used_space or (total if self.min_free_space else 0)
        if self.min_free_space > free:
            keep = min(keep, total - (self.min_free_space - free))
        return max(keep, self.reserved_space)


def _begins(whole: str, text: str) -> bool:
    return whole.startswith(text) or whole.partition(":")[2].startswith(text)


class Layout(NamedTuple):
    """How the snapshots of a store hang together."""

    parents: Mapping[str, str | None]
    layers: Mapping[str, str]
    """Snapshot -> layer."""
    sizes: Mapping[str, int]
    """Layer -> bytes."""
    pinned: frozenset[str]
    """Snapshots that images and containers are made of."""


class Space:
    """Counts what would be freed if things went one after the other."""

    def __init__(self, items: Iterable[Item], layout: Layout) -> None:
        self._layout = layout
        self._holders: dict[str, int] = {}
        """Snapshot -> records of it, snapshots on it, and 1 where an image needs it."""
        self._sharers: dict[str, int] = {}
        """Layer -> snapshots that have it."""
        self._items = list(items)
        for item in self._items:
            self._hold(item.snapshot)
        for snapshot in layout.pinned:
            self._hold(snapshot)
        for snapshot in list(self._holders):
            self._build(snapshot)

    def _hold(self, snapshot: str) -> None:
        if snapshot in self._layout.layers:
            self._holders[snapshot] = self._holders.get(snapshot, 0) + 1

    def _build(self, snapshot: str) -> None:
        """Count a snapshot that something holds for its layer and its parent, and so on below."""
        below: str | None = snapshot
        first = True
        while below is not None and below in self._layout.layers:
            if not first:
                self._holders[below] = self._holders.get(below, 0) + 1
                if self._holders[below] > 1:
                    return
            first = False
            layer = self._layout.layers[below]
            self._sharers[layer] = self._sharers.get(layer, 0) + 1
            below = self._layout.parents.get(below)

    def total(self) -> int:
        """Bytes of what images and containers don't need."""
        others = {
            self._layout.layers[snapshot]
            for snapshot in _with_below(self._layout.pinned, self._layout.parents)
            if snapshot in self._layout.layers
        }
        mine = sum(self._layout.sizes.get(layer, 0) for layer in self._sharers if layer not in others)
        return mine + sum(item.size for item in self._items if not item.snapshot)

    def drop(self, item: Item) -> int:
        """Take a thing away; the bytes that frees."""
        if not item.snapshot:
            return item.size
        freed = 0
        below: str | None = item.snapshot
        while below is not None and below in self._holders:
            self._holders[below] -= 1
            if self._holders[below] > 0:
                break
            layer = self._layout.layers[below]
            self._sharers[layer] -= 1
            if self._sharers[layer] == 0:
                freed += self._layout.sizes.get(layer, 0)
            below = self._layout.parents.get(below)
        return freed


def _with_below(snapshots: Iterable[str], parents: Mapping[str, str | None]) -> set[str]:
    found: set[str] = set()
    for snapshot in snapshots:
        below: str | None = snapshot
        while below is not None and below not in found:
            found.add(below)
            below = parents.get(below)
    return found


def choose(
    items: Sequence[Item], layout: Layout, rules: Sequence[Rule], *, free: int, now: float
) -> tuple[list[Item], int]:
    """What goes by the rules, one after the other, in the order in which it goes, and the bytes it frees.

    What was used longest ago goes first; of equals, what others stand on goes last.
    """
    space = Space(items, layout)
    total = start = space.total()
    depths: dict[str, int] = {}
    left = sorted(items, key=lambda i: (i.used, -_depth(i.snapshot, layout.parents, depths), i.id))
    gone: list[Item] = []
    freed = 0
    for rule in rules:
        limited = bool(rule.reserved_space or rule.max_used_space or rule.min_free_space)
        keep = rule.keeps(total, free + start - total)
        stay: list[Item] = []
        for item in left:
            if (limited and total <= keep) or not rule.fits(item, now):
                stay.append(item)
                continue
            size = space.drop(item)
            total -= size
            freed += size
            gone.append(item)
        left = stay
    return gone, freed


def _depth(snapshot: str, parents: Mapping[str, str | None], known: dict[str, int]) -> int:
    chain: list[str] = []
    below: str | None = snapshot or None
    while below is not None and below not in known:
        chain.append(below)
        below = parents.get(below)
    depth = known.get(below, 0) if below is not None else 0
    for name in reversed(chain):
        depth += 1
        known[name] = depth
    return depth
