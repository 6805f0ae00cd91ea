"""RUN --mount: options with their variables expanded -> Mount values."""

from __future__ import annotations

import posixpath
import re

from buildkit_py.digest import Digest
from buildkit_py.frontends.dockerfile import mountfacts
from buildkit_py.frontends.dockerfile.ast import Instruction
from buildkit_py.frontends.dockerfile.references import tree_from
from buildkit_py.frontends.dockerfile.stage import StageState
from buildkit_py.llb.ops import Mount

_SIZE = r"([0-9]{1,15})(?:\.([0-9]{1,9}))? ?([bkmgtp]?)i?b?\Z"
_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}


def convert_mounts(
    state: StageState, instruction: Instruction, values: tuple[str, ...], inputs: list[Digest]
) -> list[Mount]:
    """One Mount for each ``--mount``, in order; their sources are added to ``inputs``."""
    mounts: list[Mount] = []
    for value in values:
        options = _options(state, instruction, value)
        try:
            mounts.append(_mount(state, instruction, options, inputs, mounts))
        except ValueError as error:
            raise state.fail(instruction, f"--mount={value}: {error}", word=f"--mount={value}") from None
    seen: set[str] = set()
    for mount in mounts:
        if mount.target in seen:
            raise state.fail(
                instruction, f"RUN: two mounts have the target {mount.target}", word=mount.target
            )
        if mount.target:
            seen.add(mount.target)
    return mounts


def _options(state: StageState, instruction: Instruction, value: str) -> dict[str, str | None]:
    """Key -> expanded value (None: given without one)."""
    options: dict[str, str | None] = {}
    try:
        for key, setting in mountfacts.fields(value):
            if setting is not None and key != "from":
                setting = state.expand(instruction, setting)
            if key in ("readonly", "readwrite"):
                yes = mountfacts.boolean(setting)
                options["readonly"] = "true" if yes == (key == "readonly") else "false"
                continue
            options[key] = setting
        mountfacts.check(",".join(_plain(k, v) for k, v in options.items()))
    except ValueError as error:
        raise state.fail(instruction, str(error), word=f"--mount={value}") from None
    return options


def _plain(key: str, value: str | None) -> str:
    """An option for checking alone: commas and quotes in a value have had their meaning."""
    return key if value is None else f"{key}={value}".replace(",", "_").replace('"', "_")


def _mount(
    state: StageState,
    instruction: Instruction,
    options: dict[str, str | None],
    inputs: list[Digest],
    before: list[Mount],
) -> Mount:
    kind = (options.get("type") or "bind").lower()
    if kind == "secret":
        return _secret(state, options)
    if kind == "ssh":
        return _ssh(state, options, sum(m.kind == "ssh" for m in before))
    target = _target(state, options.get("target") or "")
    if not target:
        raise ValueError("it needs a target")
    if kind == "tmpfs":
        _refuse_keys(options, kind, ("from", "source", "id", "readonly"))
        return Mount("tmpfs", target, readonly=False, size=_size(options.get("size")))
    mount = Mount(
        "cache" if kind == "cache" else "bind",
        target,
        source=_source(options.get("source")),
        readonly=options.get("readonly", "true" if kind == "bind" else "false") == "true",
    )
    if kind == "cache":
        return _cache(state, instruction, options, inputs, mount)
    origin = options.get("from")
    if origin is None:
        inputs.append(state.conversion.local())
    else:
        inputs.append(tree_from(state, instruction, origin, flag_name="--mount from", index=False))
    return mount._replace(input=len(inputs) - 1)


def _cache(
    state: StageState,
    instruction: Instruction,
    options: dict[str, str | None],
    inputs: list[Digest],
    mount: Mount,
) -> Mount:
    name = options.get("id") or posixpath.normpath(options.get("target") or mount.target)
    space = state.conversion.options.build_args.get("BUILDKIT_CACHE_MOUNT_NS", "")
    origin = options.get("from")
    if origin is not None:
        inputs.append(tree_from(state, instruction, origin, flag_name="--mount from", index=False))
    sharing = options.get("sharing") or "shared"
    return mount._replace(
        input=len(inputs) - 1 if origin is not None else -1,
        id=f"{space}/{name}" if space else name,
        sharing="locked" if sharing == "locked" else "private" if sharing == "private" else "shared",
        mode=_mode(options),
        uid=_number(options, "uid"),
        gid=_number(options, "gid"),
    )


def _secret(state: StageState, options: dict[str, str | None]) -> Mount:
    _refuse_keys(options, "secret", ("from", "readonly"))
    name = options.get("id") or options.get("source") or ""
    target = options.get("target") or ""
    variable = options.get("env") or ""
    name = name or posixpath.basename(target.rstrip("/"))
    if not name:
        raise ValueError("a secret needs an id or a target")
    if target:
        target = _target(state, target)
    elif not variable:
        target = f"/run/secrets/{posixpath.basename(name.rstrip('/'))}"
    return Mount(
        "secret",
        target,
        id=name,
        required=_required(options),
        env=variable,
        mode=_mode(options),
        uid=_number(options, "uid"),
        gid=_number(options, "gid"),
    )


def _ssh(state: StageState, options: dict[str, str | None], number: int) -> Mount:
    _refuse_keys(options, "ssh", ("from", "readonly"))
    target = options.get("target") or f"/run/buildkit/ssh_agent.{number}"
    return Mount(
        "ssh",
        _target(state, target),
        id=options.get("id") or "default",
        required=_required(options),
        mode=_mode(options),
        uid=_number(options, "uid"),
        gid=_number(options, "gid"),
    )


def _target(state: StageState, target: str) -> str:
    if not target:
        return ""
    path = state.absolute(target)
    if path == "/":
        raise ValueError("the target / would hide the whole file system")
    return path


def _source(source: str | None) -> str:
    """Rooted and cleaned: it can't climb out of its tree."""
    return "/" + posixpath.normpath("/" + (source or "")).lstrip("/")


def _refuse_keys(options: dict[str, str | None], kind: str, keys: tuple[str, ...]) -> None:
    for key in keys:
        if key in options:
            raise ValueError(f"a {kind} mount takes no {key}")


def _required(options: dict[str, str | None]) -> bool:
    return "required" in options and mountfacts.boolean(options["required"])


def _number(options: dict[str, str | None], key: str) -> int:
    text = options.get(key) or "0"
    if not (text.isascii() and text.isdigit() and len(text) < 11 and int(text) < 1 << 32):
        raise ValueError(f"{key}={text} is not an id")
    return int(text)


def _mode(options: dict[str, str | None]) -> int:
    text = options.get("mode")
    if not text:
        return -1
    if len(text) > 8 or not set(text) <= set("01234567") or int(text, 8) > 0o7777:
        raise ValueError(f"mode={text} is not an octal mode up to 7777")
    return int(text, 8)


def _size(text: str | None) -> int:
    """Bytes of ``100m``, ``1.5GiB``, ``4096``."""
    if not text:
        return 0
    found = re.match(_SIZE, text.strip(), re.IGNORECASE)
    if found is None:
        raise ValueError(f"size={text} is not a size: expected a number with b, k, m, g")
    unit = _UNITS[found[3].lower()]
    fraction = found[2] or ""
    part = int(fraction) * unit // 10 ** len(fraction) if fraction else 0
    return int(found[1]) * unit + part
