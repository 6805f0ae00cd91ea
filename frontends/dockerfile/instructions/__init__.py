"""The instructions: one file each, loaded when a Dockerfile first uses it.

A module's ``apply(state, instruction)`` changes the stage's state; a new instruction is a new file and
a line in MODULES. FROM begins a state instead.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from buildkit_py.frontends.dockerfile.ast import Instruction
from buildkit_py.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from buildkit_py.frontends.dockerfile.stage import StageState

Handler = Callable[["StageState", Instruction], None]

MODULES = {
    "add": "add",
    "arg": "arg",
    "cmd": "cmd",
    "copy": "copy",
    "entrypoint": "entrypoint",
    "env": "env",
    "expose": "expose",
    "healthcheck": "healthcheck",
    "label": "label",
    "maintainer": "maintainer",
    "onbuild": "onbuild",
    "run": "run",
    "shell": "shell",
    "stopsignal": "stopsignal",
    "user": "user",
    "volume": "volume",
    "workdir": "workdir",
}
"""Instruction -> module of this package."""

_loaded: dict[str, Handler] = {}


def handler(name: str) -> Handler:
    """The ``apply`` of an instruction. Raises KeyError for an unknown one (semantics.check refuses it)."""
    found = _loaded.get(name)
    if found is None:
        found = _loaded[name] = import_module(f"{__name__}.{MODULES[name]}").apply
    return found
