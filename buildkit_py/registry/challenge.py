"""``WWW-Authenticate`` (RFC 9110, 11.6.1) as registries use it: Basic, and Bearer with a token server."""

from __future__ import annotations

import re

from buildkit_py.tuples import NamedTuple

_TOKEN = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"
_PARAMETER = re.compile(rf'\s*({_TOKEN})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|({_TOKEN}))\s*(?:,|\Z)')
_SCHEME = re.compile(rf"\s*({_TOKEN})(?:\s+|\Z)")
_MAX_HEADER = 8192


class Challenge(NamedTuple):
    scheme: str
    """Lower case: ``basic``, ``bearer``."""
    parameters: dict[str, str]


def parse(header: str) -> list[Challenge]:
    """The challenges of a header, in order; what cannot be read ends the list."""
    header = header[:_MAX_HEADER]
    challenges: list[Challenge] = []
    at = 0
    while at < len(header):
        parameter = _PARAMETER.match(header, at) if challenges else None
        if parameter is not None:
            quoted, plain = parameter[2], parameter[3]
            value = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            challenges[-1].parameters.setdefault(parameter[1].lower(), value)
            at = parameter.end()
            continue
        scheme = _SCHEME.match(header, at)
        if scheme is None:
            break
        challenges.append(Challenge(scheme[1].lower(), {}))
        at = scheme.end()
    return challenges
