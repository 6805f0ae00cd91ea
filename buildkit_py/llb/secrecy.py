"""Variables whose values people don't want to see written down."""

from __future__ import annotations

from buildkit_py.llb.address import public
from buildkit_py.typed import Any

_SECRET = frozenset(
    ("apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token")
)
_HARMLESS = frozenset(("public", "file", "version"))
"""Parts of a name, between its underscores."""
_STEMS = ("password", "passwd", "passphrase", "secret", "token", "credential", "apikey", "privatekey")
_SHORT = frozenset(("pass", "pat", "pwd", "pw", "cred", "creds", "dsn"))


def is_for_secrets(name: str) -> bool:
    """Whether a name says that it holds a secret, by the rule of Docker's check SecretsUsedInArgOrEnv."""
    parts = name.lower().split("_")
    return not _SECRET.isdisjoint(parts) and _HARMLESS.isdisjoint(parts)


def is_hidden(name: str) -> bool:
    """Whether the value of a variable stays out of records and reports: rather one too many."""
    lower = name.lower()
    parts = lower.replace("-", "_").split("_")
    return is_for_secrets(lower) or not _SHORT.isdisjoint(parts) or any(stem in lower for stem in _STEMS)


def shown_value(name: str, value: str) -> str | None:
    """A variable's value as it may be written down, logins in URLs left out; None: not at all."""
    return None if is_hidden(name) else public(value)


def hidden(record: dict[str, Any], mark: str) -> dict[str, Any]:
    """A key's record as it may be kept: ``mark`` in place of what shown_value() leaves out."""
    if not record.get("env"):
        return record
    env = []
    for item in record["env"]:
        name, _, value = item.partition("=")
        shown = shown_value(name, value)
        env.append(item if shown == value else f"{name}={mark}")
    return {**record, "env": env}
