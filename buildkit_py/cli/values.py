"""The forms that option values take: comma-separated fields, sizes, ulimits, hosts, variables.

Every function raises UsageError, with the option's name in the message, for a value that is wrong.
"""

from __future__ import annotations

import os

from buildkit_py.errors import UsageError

Pairs = tuple[tuple[str, str], ...]


def fields(text: str, option: str) -> list[str]:
    """The comma-separated fields of a value; a field in double quotes may hold commas (RFC 4180)."""
    if '"' not in text:
        return text.split(",")
    result: list[str] = []
    position = 0
    while True:
        if text[position : position + 1] == '"':
            end = position + 1
            field = ""
            while True:
                close = text.find('"', end)
                if close < 0:
                    raise UsageError(f'{option}: a quote is not closed in "{text}"')
                field += text[end:close]
                if text[close + 1 : close + 2] != '"':
                    break
                field += '"'
                end = close + 2
            position = close + 1
            if position < len(text) and text[position] != ",":
                raise UsageError(f'{option}: text after a closing quote in "{text}"')
        else:
            comma = text.find(",", position)
            end = len(text) if comma < 0 else comma
            field, position = text[position:end], end
            if '"' in field:
                raise UsageError(
                    f'{option}: a quote inside a field in "{text}"', hint="quote the whole field"
                )
        result.append(field)
        if position >= len(text):
            return result
        position += 1


def attributes(text: str, option: str) -> dict[str, str]:
    """``key=value,key=value``; a key without a value maps to ""; keys are lower-cased."""
    return attributes_of(fields(text, option), text, option)


def attributes_of(given: list[str], text: str, option: str) -> dict[str, str]:
    """The same of fields that are apart; ``text`` is all of them, for errors."""
    result: dict[str, str] = {}
    for field in given:
        key, _, value = field.partition("=")
        key = key.strip().lower()
        if not key:
            raise UsageError(f"{option}: an empty field in '{text}'", hint="the form is key=value,key=value")
        if key in result:
            raise UsageError(f"{option}: '{key}' is given twice in '{text}'")
        result[key] = value
    return result


def pairs(texts: tuple[str, ...], option: str, *, value_needed: bool = False) -> Pairs:
    """``KEY=VALUE`` each; without ``=`` the value is "", or an error where one is needed."""
    result = []
    for text in texts:
        key, equals, value = text.partition("=")
        if not key or (value_needed and not equals):
            raise UsageError(f"{option}: '{text}' is not of the form NAME=VALUE")
        result.append((key, value))
    return tuple(result)


def variables(texts: tuple[str, ...], option: str) -> Pairs:
    """``KEY=VALUE``, or ``KEY`` for the value that it has in our environment (left out where unset)."""
    result = []
    for text in texts:
        key, equals, value = text.partition("=")
        if not key:
            raise UsageError(f"{option}: '{text}' has no name before the '='")
        if equals:
            result.append((key, value))
        elif key in os.environ:
            result.append((key, os.environ[key]))
    return tuple(result)


def env_file(path: str, option: str = "--env-file", *, ours: bool = True) -> Pairs:
    """Docker's env files: ``KEY=VALUE`` lines taken as they are, ``KEY`` from our environment (or, with
    ``ours`` off, as an empty one), ``#``."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{option}: can't read {path}: {_reason(error)}") from error
    result = []
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        line = line.removesuffix("\r").lstrip()
        if not line or line.startswith("#"):
            continue
        key, equals, value = line.partition("=")
        if not key or key != key.strip() or " " in key or "\t" in key:
            raise UsageError(f"{option}: {path}:{number}: '{key}' is not a variable's name")
        if equals:
            result.append((key, value))
        elif not ours:
            result.append((key, ""))
        elif key in os.environ:
            result.append((key, os.environ[key]))
    return tuple(result)


def directory(path: str, option: str) -> str:
    """A path in a container."""
    if path and not path.startswith("/"):
        raise UsageError(f"{option}: '{path}' is not an absolute path")
    return path


def size(text: str, option: str) -> int:
    """Bytes of ``64m``; 0 of nothing."""
    if not text:
        return 0
    from buildkit_py import quantities

    return quantities.size(text, option)


def whole(text: str, option: str) -> int | None:
    """A whole number; None for none."""
    if not text:
        return None
    try:
        number = int(text)
    except ValueError:
        raise UsageError(f"{option}: '{text}' is not a whole number") from None
    if abs(number) >= 1 << 63:
        raise UsageError(f"{option}: {text} is too large a number")
    return number


def seconds(text: str, option: str) -> float:
    """Of ``24h``, ``7d``."""
    from buildkit_py import quantities

    return quantities.seconds(text, option)


def moment(text: str, option: str) -> float:
    """Seconds since the epoch of a time (RFC 3339 or a part of it, in the local zone where it names none),
    a number of seconds since then, or a duration (``10m``: so long ago); 0 for ""."""
    if not text:
        return 0.0
    try:
        number = float(text)
    except ValueError:
        pass
    else:
        if not 0 <= number < _LAST:
            raise UsageError(
                f"{option}: {text} is no time", hint="seconds since 1970, or 10m for ten minutes ago"
            )
        return number
    import re
    from datetime import datetime

    whole = re.sub(r"(\.\d{6})\d+", r"\1", text)
    try:
        return datetime.fromisoformat(whole).timestamp()
    except ValueError:
        import time

        # As 0 stands for none.
        return max(time.time() - seconds(text, option), 1.0)


_LAST = 253402300800.0
"""The end of the year 9999, in seconds since the epoch."""


def ulimits(texts: tuple[str, ...], option: str = "--ulimit") -> tuple[tuple[str, int, int], ...]:
    """``name=soft[:hard]``."""
    result = []
    known = _limits() if texts else ()
    for text in texts:
        name, equals, limit = text.partition("=")
        soft, _, hard = limit.partition(":")
        try:
            low, high = int(soft), int(hard or soft)
            if max(abs(low), abs(high)) >= 1 << 63:
                raise ValueError
        except ValueError:
            equals = ""
            low = high = 0
        if not name or not equals:
            raise UsageError(
                f"{option}: '{text}' is not of the form name=soft[:hard]", hint="for example nofile=1024:4096"
            )
        if high != -1 and (low == -1 or low > high):
            raise UsageError(f"{option}: the soft limit of '{text}' is above its hard limit")
        if name.lower() not in known:
            raise UsageError(f"{option}: there is no limit named '{name}'", hint="one of " + ", ".join(known))
        result.append((name.lower(), low, high))
    return tuple(result)


def _limits() -> list[str]:
    """The names of setrlimit(2)'s limits."""
    import resource

    return sorted(name[7:].lower() for name in dir(resource) if name.startswith("RLIMIT_"))


def hosts(texts: tuple[str, ...], option: str = "--add-host") -> Pairs:
    """``name:address`` or ``name=address``; an IPv6 address may stand in brackets."""
    result = []
    for text in texts:
        name, separator, address = text.partition("=")
        if not separator:
            name, separator, address = text.partition(":")
        if not name or not address:
            raise UsageError(f"{option}: '{text}' is not of the form name:address")
        address = address.removeprefix("[").removesuffix("]")
        if address != "host-gateway":
            _check_address(address, option, text)
        result.append((name, address))
    return tuple(result)


def _check_address(address: str, option: str, text: str) -> None:
    import ipaddress

    try:
        ipaddress.ip_address(address)
    except ValueError:
        raise UsageError(
            f"{option}: '{address}' in '{text}' is no address",
            hint="for example db:10.1.2.3, or host-gateway",
        ) from None


def _reason(error: OSError | UnicodeDecodeError) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else "it is not UTF-8"
