"""``RUN --device``: devices by the names that CDI specs of this machine give them.

Container Device Interface specification 1.1 (SPEC.md): a spec names devices of a kind, ``vendor.com/class``,
and for each what a container needs: nodes, mounts, variables. Specs in JSON are read; what would have to run
for a device (hooks) is refused, as a device without it may seem to work and does not.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

from buildkit_py.errors import StepError
from buildkit_py.sandbox.spec import SandboxMount
from buildkit_py.typed import Any

FOLDERS = ("/etc/cdi", "/var/run/cdi")
"""The later ones come first."""
_REFUSED = ("hooks", "netDevices", "intelRdt")

Edits = dict[str, Any]


def attach(wanted: tuple[str, ...], mounts: list[SandboxMount], env: dict[str, str]) -> None:
    """Add what the devices need. ``wanted``: values of ``--device``. Raises StepError for a required device
    that is not there; another one that is not there is left out."""
    for value in wanted:
        name, required = parse(value)
        found = list(_find(name))
        if not found and required:
            raise StepError(
                f"the device {name} is required and no CDI spec of this machine names it",
                hint=f"specs are JSON files in {' and '.join(FOLDERS)}; those of NVIDIA's are made by "
                "nvidia-ctk cdi generate --format=json",
            )
        try:
            for edits in found:
                _apply(name, edits, mounts, env)
        except (AttributeError, KeyError, TypeError) as e:
            raise StepError(f"the CDI spec of {name} is damaged: {e}") from e


def parse(value: str) -> tuple[str, bool]:
    """``NAME[,required[=BOOL]]`` -> (name, whether it is required). Raises StepError."""
    name, required = "", False
    for field in value.split(","):
        key, equals, setting = field.partition("=")
        if key == "required" and setting in ("", "true", "1", "false", "0"):
            required = setting in ("true", "1") or not equals
        elif key == "name":
            name = setting
        elif not name and field:
            name = field
        else:
            raise StepError(f"--device={value}: {field!r} is no option", hint="write NAME[,required]")
    return name, required


def _find(name: str) -> Iterator[Edits]:
    """The edits for a device: ``kind=name``, ``kind=*`` (all) or ``kind`` (the first)."""
    kind, _, wanted = name.partition("=")
    for spec in _specs():
        if spec.get("kind") != kind:
            continue
        devices = [d for d in spec.get("devices") or () if isinstance(d, dict)]
        chosen = devices if wanted == "*" else [d for d in devices if d.get("name") == wanted]
        if not wanted:
            chosen = devices[:1]
        if chosen:
            yield spec.get("containerEdits") or {}
            yield from (d.get("containerEdits") or {} for d in chosen)
            return


def _specs() -> Iterator[dict[str, Any]]:
    for folder in reversed(FOLDERS):
        try:
            names = sorted(os.listdir(folder))
        except OSError:
            continue
        for name in names:
            if not name.endswith(".json"):
                continue
            try:
                with open(os.path.join(folder, name), encoding="utf-8") as file:
                    spec = json.load(file)
            except (OSError, ValueError) as e:
                raise StepError(f"the CDI spec {folder}/{name} cannot be read: {e}") from e
            if isinstance(spec, dict):
                yield spec


def _apply(name: str, edits: Edits, mounts: list[SandboxMount], env: dict[str, str]) -> None:
    for field in _REFUSED:
        if edits.get(field):
            raise StepError(f"the CDI spec of {name} asks for {field}, which is not supported")
    for variable in edits.get("env") or ():
        key, _, value = str(variable).partition("=")
        env[key] = value
    for node in edits.get("deviceNodes") or ():
        path = str(node["path"])
        mounts.append(SandboxMount("bind", path, source=str(node.get("hostPath") or path), readonly=False))
    for mount in edits.get("mounts") or ():
        readonly = "rw" not in (mount.get("options") or ())
        target, source = str(mount["containerPath"]), os.path.realpath(str(mount["hostPath"]))
        mounts.append(SandboxMount("bind", target, source=source, readonly=readonly))
