"""Which steps of a build were cached, as the program itself tells."""

from __future__ import annotations

import json

HIT, MISS = "hit", "miss"


def verdicts(rawjson: str) -> dict[str, str]:
    """Step -> HIT or MISS, from ``--progress=rawjson``. A step is named without its number."""
    found: dict[str, str] = {}
    for line in rawjson.splitlines():
        if not line.startswith("{"):
            continue
        for vertex in json.loads(line).get("vertexes", ()):
            place, bracket, name = vertex["name"].partition("] ")
            if bracket and place != "[internal" and "completed" in vertex:
                found[name] = HIT if vertex.get("cached") else MISS
    return found


def verdict(rawjson: str, start: str) -> str:
    """Of the step with this name, or else of the one whose name begins so."""
    steps = verdicts(rawjson)
    if start in steps:
        return steps[start]
    (found,) = [v for name, v in steps.items() if name.startswith(start)] or [f"no such step in {steps}"]
    return found
