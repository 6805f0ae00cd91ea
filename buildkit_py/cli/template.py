"""``--format``: the small part of Go's templates that people use with docker's lists.

Understood: ``{{.Path.To.Field}}``, ``{{json .Path}}``, ``{{.}}``, ``{{json .}}``, ``{{index .Path "key"}}``,
``{{len .Path}}``, ``{{upper …}}``, ``{{lower …}}``, and ``table`` or ``json`` as a whole. Everything else is
refused by name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from buildkit_py.errors import UsageError

FUNCTIONS = ("json", "index", "len", "upper", "lower", "println", "join")


def render(template: str, document: Any) -> str:
    """Raises UsageError for what is not understood, and for a field that isn't there."""
    out: list[str] = []
    position = 0
    while True:
        start = template.find("{{", position)
        if start < 0:
            out.append(_unescape(template[position:]))
            return "".join(out)
        out.append(_unescape(template[position:start]))
        end = template.find("}}", start)
        if end < 0:
            raise UsageError(f"--format: '{{{{' is not closed in '{template}'")
        out.append(_action(template[start + 2 : end].strip().strip("-").strip(), document))
        position = end + 2


def _action(text: str, document: Any) -> str:
    words = _words(text)
    if not words:
        raise UsageError("--format: an empty {{}}")
    name, operands = words[0], words[1:]
    if name in FUNCTIONS:
        return _call(name, [_value(word, document) for word in operands], text)
    if operands or not name.startswith((".", '"')):
        raise UsageError(
            f"--format: '{{{{{text}}}}}' is not understood",
            hint="fields ({{.Config.Env}}), json, index, len, upper, lower and join are",
        )
    return _shown(_value(name, document))


def _call(name: str, values: list[Any], text: str) -> str:
    try:
        if name == "json":
            (value,) = values
            return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        if name == "len":
            return str(len(values[0]))
        if name == "index":
            value = values[0]
            for key in values[1:]:
                value = value[int(key)] if isinstance(value, list) else (value or {}).get(key, "")
            return _shown(value)
        if name == "join":
            return str(values[1]).join(_shown(item) for item in values[0] or ())
        (value,) = values
        return _shown(value).upper() if name == "upper" else _shown(value).lower()
    except (ValueError, IndexError, TypeError, AttributeError):
        raise UsageError(f"--format: wrong arguments in '{{{{{text}}}}}'") from None


def _value(word: str, document: Any) -> Any:
    if word.startswith('"'):
        return word[1:-1]
    if word.isdigit():
        return int(word)
    if not word.startswith("."):
        raise UsageError(f"--format: '{word}' is not understood", hint="a field begins with a dot: .Config")
    value = document
    for name in [part for part in word.split(".") if part]:
        if not isinstance(value, Mapping):
            raise UsageError(f"--format: there is no field '{name}' in '{word}'")
        if name not in value:
            known = ", ".join(sorted(value))
            raise UsageError(f"--format: there is no field '{name}' in '{word}'", hint=f"there are {known}")
        value = value[name]
    return value


def _words(text: str) -> list[str]:
    words: list[str] = []
    rest = text
    while rest := rest.lstrip():
        if rest[0] == '"':
            end = rest.find('"', 1)
            if end < 0:
                raise UsageError(f"--format: a quote is not closed in '{text}'")
            words.append(rest[: end + 1])
            rest = rest[end + 1 :]
        else:
            word, _, rest = rest.partition(" ")
            words.append(word)
    return words


def _shown(value: Any) -> str:
    """As Go prints values: [a b], map[a:b], true, <nil>."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "<no value>"
    if isinstance(value, list | tuple):
        return "[" + " ".join(_shown(item) for item in value) + "]"
    if isinstance(value, Mapping):
        return "map[" + " ".join(f"{key}:{_shown(value[key])}" for key in sorted(value)) + "]"
    return str(value)


def _unescape(text: str) -> str:
    return text.replace("\\t", "\t").replace("\\n", "\n")
