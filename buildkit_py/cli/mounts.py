"""The mounts of a container as they are typed: ``-v``, ``--mount`` and ``--tmpfs``."""

from __future__ import annotations

import os

from buildkit_py.cli import values
from buildkit_py.cli.command import Args, option
from buildkit_py.errors import UsageError
from buildkit_py.request import MountSpec

READONLY = {"ro": True, "rw": False}


def translate(args: Args) -> tuple[MountSpec, ...]:
    """The mounts of a command line. Raises UsageError, for two of one target too."""
    mounts = [volume(text) for text in args.texts("volumes")]
    mounts += [mount(text) for text in args.texts("mounts")]
    mounts += [tmpfs(text) for text in args.texts("tmpfs")]
    targets = [os.path.normpath(m.target) for m in mounts]
    for target in targets:
        if targets.count(target) > 1:
            raise UsageError(f"two mounts have the same target {target}")
    return tuple(mounts)


def volume(text: str) -> MountSpec:
    """``-v [SOURCE:]TARGET[:OPTIONS]``: a path (bind), a name (volume), or nothing (anonymous volume)."""
    parts = text.split(":")
    if len(parts) > 3 or not all(parts):
        raise UsageError(f"--volume: '{text}' is not of the form [SOURCE:]TARGET[:OPTIONS]")
    source, target, options = "", parts[0], ""
    if len(parts) > 1:
        source, target = parts[0], parts[1]
        options = parts[2] if len(parts) == 3 else ""
    _absolute(target, "--volume", text)
    readonly, further = False, []
    for word in options.split(",") if options else ():
        if word in READONLY:
            readonly = READONLY[word]
        else:
            further.append((word, ""))
    if source.startswith(("/", ".", "~")):
        path = os.path.abspath(os.path.expanduser(source) if source.startswith("~") else source)
        return MountSpec("bind", target, path, readonly, (*further, ("bind-create-src", "")))
    if "/" in source:
        raise UsageError(
            f"--volume: '{source}' is neither a path nor a volume's name", hint=f"write ./{source} for a path"
        )
    return MountSpec("volume", target, source, readonly, tuple(further))


def mount(text: str) -> MountSpec:
    """``--mount type=bind|volume|tmpfs,source=…,target=…[,readonly]``"""
    attributes, repeated = _attributes(text)
    kind = attributes.pop("type", "volume")
    source = _first(attributes, "source", "src")
    target = _first(attributes, "target", "dst", "destination")
    readonly = _first(attributes, "readonly", "ro") == "true"
    if kind not in ("bind", "volume", "tmpfs"):
        raise UsageError(f"--mount: unknown type '{kind}'", hint="bind, volume or tmpfs")
    for key in (*attributes, *(key for key, _ in repeated)):
        of = key.partition("-")[0]
        if of in ("bind", "volume", "tmpfs") and of != kind:
            raise UsageError(f"--mount: '{key}' is for type={of}, and not for type={kind}")
    if not target:
        raise UsageError(f"--mount: '{text}' has no target=")
    _absolute(target, "--mount", text)
    if kind == "bind":
        if not source:
            raise UsageError(f"--mount: '{text}' has no source=")
        source = os.path.abspath(source)
        _submounts(attributes, readonly=readonly)
    if kind == "volume" and attributes.pop("volume-driver", "local") != "local":
        raise UsageError("--mount: there is no such volume-driver", hint="local is the only one")
    if kind == "tmpfs" and source:
        raise UsageError("--mount: a tmpfs has no source")
    renamed = {key.removeprefix("tmpfs-"): value for key, value in attributes.items()}
    return MountSpec(kind, target, source, readonly, (*renamed.items(), *repeated))  # type: ignore[arg-type]


_REPEATED = ("volume-label", "volume-opt")
_SWITCHES = ("readonly", "ro", "volume-nocopy", "bind-nonrecursive", "bind-create-src")
_TRUE, _FALSE = ("", "true", "1", "t"), ("false", "0", "f")


def _attributes(text: str) -> tuple[dict[str, str], tuple[tuple[str, str], ...]]:
    """The keys of ``--mount``, switches as "true" or left out, and those that may be given several times."""
    fields = values.fields(text, "--mount")
    repeated = [field.partition("=")[::2] for field in fields if field.partition("=")[0] in _REPEATED]
    single = [field for field in fields if field.partition("=")[0] not in _REPEATED]
    attributes = values.attributes_of(single, text, "--mount") if single or not repeated else {}
    for key in _SWITCHES:
        if key not in attributes:
            continue
        value = attributes[key].lower()
        if value not in _TRUE + _FALSE:
            raise UsageError(f"--mount: '{key}={attributes[key]}' is neither true nor false")
        if value in _TRUE:
            attributes[key] = "true"
        else:
            del attributes[key]
    return attributes, tuple(repeated)


def _submounts(attributes: dict[str, str], *, readonly: bool) -> None:
    """``bind-recursive``, and its old form. Raises UsageError."""
    if attributes.pop("bind-nonrecursive", ""):
        attributes.setdefault("bind-recursive", "disabled")
    value = attributes.get("bind-recursive", "enabled")
    if value not in ("enabled", "disabled", "writable", "readonly"):
        raise UsageError(
            f"--mount: bind-recursive={value} is not known", hint="enabled, disabled, writable or readonly"
        )
    if value in ("writable", "readonly") and not readonly:
        raise UsageError(f"--mount: bind-recursive={value} needs readonly")


def tmpfs(text: str) -> MountSpec:
    """``--tmpfs TARGET[:OPTIONS]``"""
    target, _, options = text.partition(":")
    _absolute(target, "--tmpfs", text)
    pairs = [word.partition("=")[::2] for word in options.split(",") if word]
    readonly = any(name == "ro" for name, _ in pairs)
    further = tuple((name, value) for name, value in pairs if name not in READONLY)
    return MountSpec("tmpfs", target, "", readonly, further)


def _absolute(target: str, option: str, text: str) -> None:
    if not target.startswith("/"):
        raise UsageError(f"{option}: the target of '{text}' is not an absolute path")
    if os.path.normpath(target) in ("/", "//"):
        raise UsageError(f"{option}: the target of '{text}' is the root directory")


def _first(attributes: dict[str, str], *names: str) -> str:
    found = [attributes.pop(name) for name in names if name in attributes]
    return found[0] if found else ""


OPTIONS = (
    option(
        "--mount",
        name="mounts",
        multiple=True,
        metavar="SPEC",
        help="type=bind|volume|tmpfs,source=…,target=…",
    ),
    option("--tmpfs", multiple=True, metavar="TARGET[:OPTIONS]", help="Mount a tmpfs"),
    option(
        "-v",
        "--volume",
        name="volumes",
        multiple=True,
        metavar="SOURCE:TARGET[:ro]",
        help="Mount a directory",
    ),
)
