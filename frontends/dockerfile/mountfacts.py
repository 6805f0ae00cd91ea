"""The options of ``RUN --mount=…``, as far as they can be judged before variables are expanded.

Dockerfile reference, "RUN --mount". Imported only where a file has such a flag.
"""

from __future__ import annotations

TYPES = ("bind", "cache", "tmpfs", "secret", "ssh")
SHARING = ("shared", "private", "locked")

ALIASES = {
    "src": "source",
    "dst": "target",
    "destination": "target",
    "ro": "readonly",
    "rw": "readwrite",
}
_BOOLEAN = frozenset(("readonly", "readwrite", "required"))
_KEYS = frozenset(
    (
        *("type", "from", "source", "target", "readonly", "readwrite", "id", "sharing"),
        *("size", "mode", "uid", "gid", "required", "env"),
    )
)
_TRUE = frozenset(("1", "t", "T", "TRUE", "true", "True"))
_FALSE = frozenset(("0", "f", "F", "FALSE", "false", "False"))
_NUMBERS = frozenset(("uid", "gid"))
_ONLY = {
    "required": ("secret", "ssh"),
    "size": ("tmpfs",),
    "sharing": ("cache",),
    "mode": ("cache", "secret", "ssh"),
    "uid": ("cache", "secret", "ssh"),
    "gid": ("cache", "secret", "ssh"),
    "env": ("secret",),
}


def fields(value: str) -> list[tuple[str, str | None]]:
    """The options in order: key in lower case with aliases resolved, and value (None: no ``=``).

    Raises ValueError where the value is no line of comma-separated values.
    """
    words = _split(value)
    found: list[tuple[str, str | None]] = []
    for word in words:
        key, equals, setting = word.partition("=")
        key = key.strip().lower()
        found.append((ALIASES.get(key, key), setting if equals else None))
    return found


def _split(value: str) -> list[str]:
    if '"' not in value:
        return value.split(",")
    import csv

    try:
        rows = list(csv.reader([value], strict=True))
    except csv.Error as error:
        raise ValueError(f"invalid --mount={value}: {error}") from None
    return rows[0] if rows else [""]


def boolean(value: str | None) -> bool:
    """``ro``, ``ro=true``, ``ro=0``. Raises ValueError."""
    if value is None or value in _TRUE:
        return True
    if value in _FALSE:
        return False
    raise ValueError(f"expected true or false, not {value!r}")


def check(value: str) -> None:
    """Raise ValueError, with a message for a person, if the mount can't be right."""
    options = fields(value)
    kind = "bind"
    for key, setting in options:
        if key == "type" and setting is not None:
            kind = setting.lower()
    if "$" not in kind and kind not in TYPES:
        raise ValueError(f"unsupported mount type {kind!r}{near(kind, TYPES)}")
    for key, setting in options:
        if setting is None and key not in _BOOLEAN and key in _KEYS:
            raise ValueError(f"invalid field {key!r} of --mount: it needs a value, {key}=…")
        if key not in _KEYS:
            raise ValueError(f"unexpected key {key!r} in --mount{near(key, (*sorted(_KEYS), *ALIASES))}")
        allowed = _ONLY.get(key)
        if allowed and "$" not in kind and kind not in allowed:
            raise ValueError(f"--mount=type={kind} takes no {key}")
        _check_value(key, setting)


def _check_value(key: str, setting: str | None) -> None:
    if setting is None:
        return
    if "$" in setting:
        if key == "from":
            raise ValueError(
                f"--mount from={setting}: variables are not expanded here; "
                "give the image a name with FROM … AS name, and take it from there"
            )
        return
    if key in _BOOLEAN:
        try:
            boolean(setting)
        except ValueError as error:
            raise ValueError(f"invalid value for {key} of --mount: {error}") from None
    elif key in _NUMBERS and not _is_digits(setting):
        raise ValueError(f"invalid value for {key} of --mount: {setting!r} is no number")
    elif key == "mode" and not (_is_digits(setting) and set(setting) <= set("01234567")):
        raise ValueError(f"invalid value for mode of --mount: {setting!r} is no octal number")
    elif key == "sharing" and setting not in SHARING:
        raise ValueError(f"unsupported sharing {setting!r} of --mount{near(setting, SHARING)}")


def _is_digits(text: str) -> bool:
    return text.isascii() and text.isdigit()


def near(word: str, known: tuple[str, ...]) -> str:
    """`` (did you mean bind?)``, or nothing."""
    import difflib

    found = difflib.get_close_matches(word, known, 1, 0.65)
    return f" (did you mean {found[0]}?)" if found else ""
