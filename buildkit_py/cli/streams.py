"""How a command is connected to a container, as it is typed: ``run``, ``start``, ``attach`` and ``exec``."""

from __future__ import annotations

from buildkit_py.cli.command import flag_on, option
from buildkit_py.errors import UsageError

NAMES = ("stdin", "stdout", "stderr")
_SPECIAL = {"@": 0, "[": 27, "\\": 28, "]": 29, "^": 30, "_": 31}


def chosen(texts: tuple[str, ...]) -> tuple[str, ...]:
    """The streams of ``--attach``. Raises UsageError."""
    names = tuple(text.lower() for text in texts)
    for name in names:
        if name not in NAMES:
            raise UsageError(f"--attach: there is no stream '{name}'", hint="stdin, stdout or stderr")
    return tuple(name for name in NAMES if name in names)


def keys(text: str) -> bytes:
    """``ctrl-p,ctrl-q``: characters, and ctrl- with a letter or one of ``@[\\]^_``. Raises UsageError."""
    result = bytearray()
    for word in text.split(",") if text else ():
        low = word.lower()
        if len(word) == 1:
            result += word.encode()
        elif low.startswith("ctrl-") and len(low) == 6 and "a" <= low[5] <= "z":
            result.append(ord(low[5]) - 96)
        elif low.startswith("ctrl-") and low[5:] in _SPECIAL:
            result.append(_SPECIAL[low[5:]])
        else:
            raise UsageError(
                f"--detach-keys: '{word}' is no key", hint="for example ctrl-p,ctrl-q or ctrl-x,d"
            )
    return bytes(result)


DETACH_KEYS = option(
    "--detach-keys", metavar="KEYS", default="ctrl-p,ctrl-q", help="Keys that leave it running"
)
SIG_PROXY = flag_on("--sig-proxy", help="Pass signals on to it")
OPTIONS = (
    option("-a", "--attach", multiple=True, metavar="STREAM", help="Connect stdin, stdout or stderr only"),
    DETACH_KEYS,
    SIG_PROXY,
)
