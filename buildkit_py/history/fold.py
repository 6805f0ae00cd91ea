"""How the events of a solve become steps: documents with those fields of record.Step that say anything."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from buildkit_py.progress.events import CANCELED
from buildkit_py.typed import Any

Document = dict[str, Any]


class Fold:
    """Takes events in the order in which they came."""

    def __init__(self, nodes: Mapping[str, Document]) -> None:
        """``nodes``: what is known of the graph's nodes beside events, as fields of a Step."""
        self._nodes = nodes
        self._steps: dict[str, Document] = {}
        self._lanes: dict[int, str] = {}
        """What runs, by lane."""

    def vertex(
        self,
        digest: str,
        name: str,
        started: float | None,
        completed: float | None,
        cached: bool,
        error: str,
    ) -> None:
        """As a VertexEvent."""
        step = self._steps.get(digest)
        if step is None:
            step = self._steps[digest] = {"digest": digest, "name": name, **self._nodes.get(digest, {})}
            if completed is None and (lane := self._enter(digest)):
                step["lane"] = lane
        step["state"] = _state(completed, cached, error)
        if started is not None:
            step["started"] = round(started, 4)
        if completed is not None:
            step["completed"] = round(completed, 4)
            self._leave(digest)
        if error:
            step["error"] = error

    def ran(self, digest: str, key: str, parents: Iterable[str | None]) -> None:
        """A step began to run, with this key."""
        if digest in self._steps:
            self._steps[digest].update(key=key, parents=list(parents))

    def steps(self, keys: Mapping[Any, str], expired: Collection[Any] = ()) -> list[Document]:
        """``keys`` by node, as far as they are known; ``expired``: nodes whose kept result was too old."""
        for digest, step in self._steps.items():
            if "key" not in step and digest in keys:
                step["key"] = keys[digest]
            if digest in expired:
                step["expired"] = True
        return list(self._steps.values())

    def _enter(self, digest: str) -> int:
        lane = 0
        while lane in self._lanes:
            lane += 1
        self._lanes[lane] = digest
        return lane

    def _leave(self, digest: str) -> None:
        for lane, holder in self._lanes.items():
            if holder == digest:
                del self._lanes[lane]
                return


def _state(completed: float | None, cached: bool, error: str) -> str:
    if error:
        return "canceled" if error in CANCELED else "failed"
    if cached:
        return "cached"
    return "running" if completed is None else "ran"
