"""The garbage collector's policy: ``gc.toml`` in the directory of settings, in the manner of buildkitd's.

    enabled = true
    interval = "10m"

    [[policy]]
    filters = ["type==source.local", "type==exec.cachemount", "type==source.git.checkout"]
    keepDuration = "48h"
    maxUsedSpace = "512MB"

    [[policy]]
    all = true
    reservedSpace = "5GB"
    maxUsedSpace = "60%"
    minFreeSpace = "10GB"

A build in which something ran looks whether there is anything to do, but no more often than ``interval``.
Rules are followed one after the other. Sizes are numbers of bytes, texts with a unit, or a part of the file
system's size. Without a file, DEFAULT counts; with ``enabled = false``, nothing is ever collected.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from buildkit_py.cache.eviction import KINDS, Rule
from buildkit_py.errors import UsageError
from buildkit_py.paths import config_dirs
from buildkit_py.quantities import seconds, size
from buildkit_py.tuples import NamedTuple
from buildkit_py.typed import Any

FILE = "gc.toml"
INTERVAL = 600
"""Seconds."""
DEFAULT: tuple[Mapping[str, Any], ...] = (
    {
        "filters": ["type==source.local", "type==source.http", "type==source.git.checkout"],
        "keepDuration": "48h",
        "maxUsedSpace": "512MB",
    },
    {"keepDuration": "1440h", "reservedSpace": "10%", "maxUsedSpace": "10%"},
    {"reservedSpace": "10%", "maxUsedSpace": "75%", "minFreeSpace": "5%"},
    {"all": True, "reservedSpace": "10%", "maxUsedSpace": "75%", "minFreeSpace": "5%"},
)
"""What is easily had again goes when it was not used for two days, the rest after sixty if there is much of
it; the cache takes no more than three quarters of the disk and leaves a twentieth free, so long as that
leaves it a tenth."""
_SIZES = {
    "reservedSpace": "reserved_space",
    "maxUsedSpace": "max_used_space",
    "minFreeSpace": "min_free_space",
    "keepBytes": "reserved_space",
}
"""The last one is buildkitd's older name."""


def path() -> str:
    """The policy file, "" where there is none."""
    for folder in config_dirs():
        name = os.path.join(folder, FILE)
        if os.path.exists(name):
            return name
    return ""


class Policy(NamedTuple):
    rules: tuple[Rule, ...]
    """None where nothing is to be collected."""
    interval: float = INTERVAL


def load(disk: int) -> Policy:
    """``disk``: bytes that the file system holds. Raises UsageError for a file that is wrong."""
    name = path()
    if not name:
        return Policy(tuple(rule(table, disk, "the default policy") for table in DEFAULT))
    import tomllib

    try:
        with open(name, "rb") as f:
            document = tomllib.load(f)
    except (OSError, ValueError) as e:
        raise UsageError(f"cannot read {name}: {e}") from e
    unknown = set(document) - {"enabled", "interval", "policy"}
    if unknown:
        hint = "enabled, interval and [[policy]] are"
        raise UsageError(f"{name}: there is no setting '{min(unknown)}'", hint=hint)
    interval = seconds(str(document.get("interval", f"{INTERVAL}s")), f"{name}: interval")
    if not document.get("enabled", True):
        return Policy((), interval)
    tables = document.get("policy", DEFAULT)
    if not isinstance(tables, list | tuple) or not all(isinstance(table, Mapping) for table in tables):
        raise UsageError(f"{name}: policy is no list of tables", hint="write [[policy]]")
    return Policy(tuple(rule(table, disk, name) for table in tables), interval)


def rule(table: Mapping[str, Any], disk: int, where: str) -> Rule:
    """One table of a policy. Raises UsageError."""
    found = Rule()
    sizes: dict[str, int] = {}
    for key, value in table.items():
        if key == "all" and isinstance(value, bool):
            found = found._replace(all=value)
        elif key == "filters" and isinstance(value, list):
            found = _filtered(found, value, where)
        elif key == "keepDuration":
            found = found._replace(keep_duration=seconds(str(value), f"{where}: keepDuration"))
        elif key in _SIZES:
            sizes[_SIZES[key]] = amount(str(value), disk, f"{where}: {key}")
        else:
            known = ", ".join(["all", "filters", "keepDuration", *_SIZES])
            raise UsageError(f"{where}: {key} = {value!r} is not understood", hint=f"there are {known}")
    return found._replace(
        reserved_space=sizes.get("reserved_space", 0),
        max_used_space=sizes.get("max_used_space", 0),
        min_free_space=sizes.get("min_free_space", 0),
    )


def _filtered(rule: Rule, filters: list[Any], where: str) -> Rule:
    kinds, ids = list(rule.kinds), list(rule.ids)
    for text in filters:
        key, _, value = str(text).replace("==", "=").partition("=")
        if key == "type" and value in KINDS:
            kinds.append(value)
        elif key == "id" and value:
            ids.append(value)
        else:
            hint = "type==KIND, of " + ", ".join(KINDS) + "; id==BEGINNING"
            raise UsageError(f"{where}: the filter {text!r} is not understood", hint=hint)
    return rule._replace(kinds=tuple(kinds), ids=tuple(ids))


def amount(text: str, disk: int, what: str) -> int:
    """Bytes of ``10GB`` or of ``20%`` of the disk. Raises UsageError."""
    if not text.endswith("%"):
        return size(text, what)
    try:
        part = float(text[:-1])
    except ValueError:
        part = -1.0
    if not 0 <= part <= 100:
        raise UsageError(f"{what}: '{text}' is not a part of the disk", hint="for example 20%")
    return int(disk * part / 100)
