"""What a container was made of: ``config.json`` in its directory, from which it is started again.

Replaced by rename when it is changed (rename, update). What it holds are the values of
buildkit_py.request as JSON objects, so a newer pybuild reads what an older one wrote: what it doesn't
know is left out, what is missing has its default.
"""

# Annotations are not postponed here: runtime.config.decode reads them.

import json
import os

from buildkit_py.digest import Digest, SnapshotID
from buildkit_py.errors import NotFoundError
from buildkit_py.request import MountSpec, RunRequest
from buildkit_py.tuples import NamedTuple
from buildkit_py.typed import Any

FILE = "config.json"


class Config(NamedTuple):
    id: str
    """64 hexadecimal digits."""
    name: str
    created: float
    image: Digest
    snapshot: SnapshotID | None
    platform: str
    request: RunRequest
    """As asked for at its creation; ``update`` changes its restart policy and limits."""
    image_config: dict[str, Any]
    """The image's run configuration."""
    command: tuple[str, ...]
    """ENTRYPOINT and CMD together."""
    mounts: tuple[MountSpec, ...] = ()
    """All of them, the image's volumes too; anonymous volumes have got their names."""
    anonymous: tuple[str, ...] = ()
    """Names of the volumes that were made for this container alone."""


def encode(value: Any) -> Any:
    """A named tuple as an object, with those inside of it."""
    if hasattr(value, "_fields"):
        return {name: encode(part) for name, part in zip(value._fields, value, strict=True)}
    if isinstance(value, tuple | list):
        return [encode(part) for part in value]
    return value


def decode(kind: Any, value: Any) -> Any:
    """The value of a type, from what encode() made of it. Raises TypeError, KeyError for another document."""
    if hasattr(kind, "_fields"):
        kinds = kind.__annotations__
        return kind(**{name: decode(kinds[name], part) for name, part in value.items() if name in kinds})
    if isinstance(value, list):
        # Of a union with None the other type counts.
        inner = [k for k in _arguments(kind) if k is not type(None)]
        if inner and _arguments(inner[0]) and getattr(kind, "__origin__", None) is not tuple:
            return decode(inner[0], value)
        if len(inner) == 2 and inner[1] is ...:
            return tuple(decode(inner[0], part) for part in value)
        if len(inner) == len(value):
            return tuple(decode(k, part) for k, part in zip(inner, value, strict=True))
        return tuple(value)
    return value


def _arguments(kind: Any) -> tuple[Any, ...]:
    return tuple(getattr(kind, "__args__", ()))


def read(directory: str) -> Config:
    """Raises NotFoundError where the container is gone, or its document is."""
    try:
        with open(os.path.join(directory, FILE), "rb") as f:
            config: Config = decode(Config, json.loads(f.read()))
            return config
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as e:
        raise NotFoundError(f"the container {os.path.basename(directory)[:12]} can't be read: {e}") from e


def write(directory: str, config: Config) -> None:
    """Raises OSError."""
    path = os.path.join(directory, FILE)
    with open(os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as f:
        f.write(json.dumps(encode(config)))
    os.rename(path + ".new", path)
