"""ENV: variables of later steps and of the image. All words see the environment from before."""

from __future__ import annotations

from buildkit_py.frontends.dockerfile.ast import Instruction
from buildkit_py.frontends.dockerfile.stage import StageState


def apply(state: StageState, instruction: Instruction) -> None:
    words = [state.expand(instruction, word) for word in instruction.args]
    pairs = list(zip(words[::2], words[1::2], strict=True))
    env = list(state.config.get("Env") or ())
    for name, value in pairs:
        if not name:
            raise state.fail(instruction, "ENV: the name of a variable is empty")
        set_variable(env, name, value)
        state.scope.set_env(name, value)
    state.config["Env"] = env
    state.commit("ENV " + " ".join(f"{name}={value}" for name, value in pairs))


def set_variable(env: list[str], name: str, value: str) -> None:
    """Change a list of ``K=V`` where the name stands, or append."""
    prefix = name + "="
    for position, item in enumerate(env):
        if item.startswith(prefix) or item == name:
            env[position] = prefix + value
            return
    env.append(prefix + value)
