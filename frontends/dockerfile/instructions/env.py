"""ENV: variables of later steps and of the image. All words see the environment from before."""

from __future__ import annotations

from buildkit_py.frontends.dockerfile.ast import Instruction
from buildkit_py.frontends.dockerfile.stage import StageState


def apply(state: StageState, instruction: Instruction) -> None:
    words = [state.expand(instruction, word) for word in instruction.args]
    pairs = list(zip(words[::2], words[1::2], strict=True))
    env, places = _variables(state)
    for name, value in pairs:
        if not name:
            raise state.fail(instruction, "ENV: the name of a variable is empty")
        place = places.setdefault(name, len(env))
        env[place : place + 1] = [f"{name}={value}"]
        state.scope.set_env(name, value)
    state.commit("ENV " + " ".join(f"{name}={value}" for name, value in pairs))


def _variables(state: StageState) -> tuple[list[str], dict[str, int]]:
    """The image's variables as ``K=V``, the stage's own list, and where each name stands in it."""
    env = state.config.get("Env")
    if state.places is None:
        env = state.config["Env"] = list(env or ())
        state.places = {}
        for place, item in enumerate(env):
            state.places.setdefault(item.partition("=")[0], place)
    assert env is not None
    return env, state.places
