"""What each instruction takes: one table that the checker, the documentation and the linter read.

Dockerfile reference, the section of each instruction. A new instruction or flag is a line here.
"""

from __future__ import annotations

from buildkit_py.tuples import NamedTuple


class Facts(NamedTuple):
    """Of one instruction. A flag's kind is ``text`` (needs a value), ``bool`` (none, true or false)
    or ``list`` (text that may be given several times).
    """

    minimum: int = 0
    maximum: int = 1 << 30
    flags: tuple[tuple[str, str], ...] = ()
    arity: str = ""
    """The arguments it takes, in words."""


_ONE = "exactly one argument"
_SOME = "at least one argument"
_TWO = "at least two arguments"

INSTRUCTIONS: dict[str, Facts] = {
    "add": Facts(
        2,
        flags=(
            ("chmod", "text"),
            ("checksum", "text"),
            ("chown", "text"),
            ("exclude", "list"),
            ("keep-git-dir", "bool"),
            ("link", "bool"),
            ("unpack", "bool"),
        ),
        arity=_TWO,
    ),
    "arg": Facts(1, arity=_SOME),
    "cmd": Facts(),
    "copy": Facts(
        2,
        flags=(
            ("chmod", "text"),
            ("chown", "text"),
            ("exclude", "list"),
            ("from", "text"),
            ("link", "bool"),
            ("parents", "bool"),
        ),
        arity=_TWO,
    ),
    "entrypoint": Facts(),
    "env": Facts(2, arity=_SOME),
    "expose": Facts(1, arity=_SOME),
    "from": Facts(1, 3, (("platform", "text"),), "either one or three arguments"),
    "healthcheck": Facts(
        1,
        flags=(
            ("interval", "text"),
            ("retries", "text"),
            ("start-interval", "text"),
            ("start-period", "text"),
            ("timeout", "text"),
        ),
        arity=_SOME,
    ),
    "label": Facts(2, arity=_SOME),
    "maintainer": Facts(1, 1, arity=_ONE),
    "onbuild": Facts(),
    "run": Facts(
        flags=(("device", "list"), ("mount", "list"), ("network", "text"), ("security", "text")),
    ),
    "shell": Facts(1, arity=_SOME),
    "stopsignal": Facts(1, 1, arity=_ONE),
    "user": Facts(1, 1, arity=_ONE),
    "volume": Facts(1, arity=_SOME),
    "workdir": Facts(1, 1, arity=_ONE),
}

NOT_ON_BUILD = ("onbuild", "from", "maintainer")

NETWORKS = ("default", "none", "host")
SECURITIES = ("sandbox", "insecure")
