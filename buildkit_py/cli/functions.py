"""The functions of ``--format`` templates: Go's own, and those that docker adds; and how Go prints values.

Source: the documentation of Go's text/template and fmt, and "Format command and log output" of docker's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping

from buildkit_py.errors import UsageError
from buildkit_py.typed import Any

MAPS = frozenset(
    (
        *("Labels", "Options", "Volumes", "ExposedPorts", "Ports", "Networks", "PortBindings", "Tmpfs"),
        *("Sysctls", "DriverOpts", "Data", "Attributes", "Containers", "Annotations", "StorageOpt"),
    )
)
"""Fields of docker's documents that are maps: a missing key is no error. All others are structures."""

OPTIONAL: dict[str, Any] = {
    **dict.fromkeys(("Health", "Healthcheck", "SizeRw", "SizeRootFs", "StopTimeout")),
    **dict.fromkeys(("ExposedPorts", "Shell", "Mounts")),
    **dict.fromkeys(("Name", "Driver", "StopSignal"), ""),
}
"""Fields that are left out of a document where there is nothing to say, and what they are then."""

SPELLED = {"ID": "Id", "DNS": "Dns", "DNSOptions": "DnsOptions", "DNSSearch": "DnsSearch"}
"""Fields that docker's structures call otherwise than its JSON does; templates may use either."""

_LISTS = frozenset(
    (
        *("Binds", "VolumesFrom", "Cmd", "Entrypoint", "Env", "Ulimits", "CapAdd", "CapDrop", "Dns"),
        *("DnsOptions", "DnsSearch", "ExtraHosts", "GroupAdd", "SecurityOpt", "Devices", "Mounts", "Args"),
        *("Aliases", "OnBuild", "RepoTags", "RepoDigests", "ExecIDs", "Links", "Shell", "DeviceRequests"),
        *("DeviceCgroupRules", "BlkioWeightDevice"),
    )
)


class _Missing:
    """What a map has for a key that it hasn't."""

    def __bool__(self) -> bool:
        return False


MISSING = _Missing()


def show(value: Any, field: str = "") -> str:
    """As Go prints values: [a b], map[a:b], {a b}, true, <nil>. ``field``: where it was found."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is MISSING:
        return "<no value>"
    if value is None:
        return "map[]" if field in MAPS else "[]" if field in _LISTS else "<nil>"
    if isinstance(value, list | tuple):
        return "[" + " ".join(show(item) for item in value) + "]"
    if isinstance(value, Mapping):
        if field in MAPS:
            return "map[" + " ".join(f"{key}:{show(value[key])}" for key in sorted(value)) + "]"
        return "{" + " ".join(show(item, key) for key, item in value.items() if not callable(item)) + "}"
    return str(value)


def unquote(text: str) -> str:
    if text[0] == "`":
        return text[1:-1]
    escapes = {"n": "\n", "t": "\t", "r": "\r"}
    return re.sub(r"\\(.)", lambda found: escapes.get(found[1], found[1]), text[1:-1])


def call(name: str, values: tuple[Any, ...], text: str) -> Any:
    """Raises UsageError for operands that the function doesn't take."""
    try:
        return _FUNCTIONS[name](*values)
    except (ValueError, IndexError, TypeError, AttributeError, KeyError):
        raise UsageError(f"--format: wrong arguments in '{{{{{text}}}}}'") from None


def document(value: Any) -> str:
    """``json``"""
    if isinstance(value, Mapping):
        value = {key: item for key, item in value.items() if not callable(item)}
    return json.dumps(None if value is MISSING else value, ensure_ascii=False, separators=(",", ":"))


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if isinstance(value, Mapping):
            # Of Go's maps of strings: the empty one.
            nothing = "" if all(isinstance(item, str) for item in value.values()) else None
            value = value.get(key, nothing)
        elif value is None:
            raise IndexError
        else:
            value = value[_position(key, len(value) - 1)]
    return value


def _slice(value: Any, start: int = 0, end: int | None = None) -> Any:
    last = len(value)
    return value[_position(start, last) : last if end is None else _position(end, last)]


def _position(number: int, last: int) -> int:
    if not 0 <= number <= last:
        raise IndexError
    return number


def _equal(first: Any, *others: Any) -> bool:
    if not others:
        raise TypeError
    return any(_alike(first, other) and first == other for other in others)


def _alike(first: Any, second: Any) -> bool:
    kinds = (bool, str, int | float)
    for kind in kinds:
        if isinstance(first, kind) and isinstance(second, kind):
            return isinstance(first, bool) == isinstance(second, bool)
    if first is None or second is None or MISSING in (first, second):
        return first is second
    raise TypeError


def _ordered(test: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    return lambda a, b: _alike(a, b) and test(a, b)


def _print(*values: Any) -> str:
    out = ""
    for n, value in enumerate(values):
        if n and not isinstance(value, str) and not isinstance(values[n - 1], str):
            out += " "
        out += show(value)
    return out


def _println(*values: Any) -> str:
    return " ".join(show(value) for value in values) + "\n"


def _printf(form: str, *values: Any) -> str:
    rest = list(values)

    def one(found: re.Match[str]) -> str:
        flags, verb = found[1], found[2]
        if verb == "%":
            return "%"
        if not rest:
            return f"%!{verb}(MISSING)"
        value = rest.pop(0)
        if verb in "sv":
            return f"%{flags}s" % show(value)
        if verb == "q":
            return f"%{flags}s" % json.dumps(show(value), ensure_ascii=False)
        if verb == "T":
            return _kind(value)
        if verb == "t" and isinstance(value, bool):
            return f"%{flags}s" % show(value)
        if isinstance(value, int) and not isinstance(value, bool) and verb in "dxXoc":
            return f"%{flags}{verb}" % value
        if isinstance(value, float) and verb in "feg":
            return f"%{flags}{verb}" % value
        if isinstance(value, str) and verb in "xX":
            return value.encode().hex()
        return f"%!{verb}({_kind(value)}={show(value)})"

    text = re.sub(r"%([-+# 0]*\d*(?:\.\d+)?)([a-zA-Z%])", one, form)
    return text + (f"%!(EXTRA {', '.join(f'{_kind(v)}={show(v)}' for v in rest)})" if rest else "")


def _kind(value: Any) -> str:
    names = {bool: "bool", int: "int", float: "float64", str: "string", type(None): "<nil>"}
    return names.get(type(value), "[]string" if isinstance(value, list | tuple) else "map[string]string")


def _title(text: str) -> str:
    return re.sub(r"\b[^\W\d_]", lambda found: found[0].upper(), text)


def _truncate(text: str, length: int) -> str:
    return text[:length]


def _pad(text: str, before: int, after: int) -> str:
    return " " * before + text + " " * after if text else ""


def _html(value: Any) -> str:
    from html import escape

    return escape(show(value))


def _urlquery(value: Any) -> str:
    from urllib.parse import quote_plus

    return quote_plus(show(value))


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "and": lambda *values: values[-1],
    "or": lambda *values: values[-1],
    "not": lambda value: not value,
    "eq": _equal,
    "ne": lambda a, b: not _equal(a, b),
    "lt": _ordered(lambda a, b: a < b),
    "le": _ordered(lambda a, b: a <= b),
    "gt": _ordered(lambda a, b: a > b),
    "ge": _ordered(lambda a, b: a >= b),
    "index": _index,
    "slice": _slice,
    "len": len,
    "print": _print,
    "println": _println,
    "printf": _printf,
    "html": _html,
    "urlquery": _urlquery,
    "json": document,
    "join": lambda items, separator: separator.join(show(item) for item in items or ()),
    "split": lambda text, separator: text.split(separator),
    "lower": lambda value: show(value).lower(),
    "upper": lambda value: show(value).upper(),
    "title": _title,
    "truncate": _truncate,
    "pad": _pad,
}

KNOWN = tuple(_FUNCTIONS)
