"""RUN: a command in the stage's file system. Shell, exec and heredoc forms."""

from __future__ import annotations

from buildkit_py.digest import Digest
from buildkit_py.frontends.dockerfile.args import PROXY
from buildkit_py.frontends.dockerfile.ast import Instruction
from buildkit_py.frontends.dockerfile.stage import StageState, flag, flag_list
from buildkit_py.frontends.dockerfile.words import heredoc_opener
from buildkit_py.llb.ops import Exec, Mount
from buildkit_py.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Literal

    Network = Literal["default", "none", "host"]

PIPES = "/dev/pipes"
"""Where scripts are mounted; /dev is a file system of its own, so nothing of it stays in the layer."""


def apply(state: StageState, instruction: Instruction) -> None:
    options = state.conversion.options
    inputs: list[Digest] = []
    if state.root is not None:
        inputs.append(state.root)
    mounts = _mounts(state, instruction, inputs)
    args = _command(state, instruction, mounts, inputs)
    if not args:
        raise state.fail(instruction, "RUN needs a command")
    op = Exec(
        args=tuple(args),
        env=tuple(f"{name}={value}" for name, value in state.scope.values.items()),
        cwd=state.workdir,
        user=state.user,
        mounts=tuple(mounts),
        network=_network(state, instruction),
        security=_security(state, instruction),
        hostname=options.build_args.get("BUILDKIT_SANDBOX_HOSTNAME", options.hostname),
        extra_hosts=options.extra_hosts,
        shm_size=options.shm_size,
        ulimits=options.ulimits,
        devices=_devices(state, instruction),
        platform=str(state.platform),
        base=state.root is not None,
    )
    state.root = state.add(op, tuple(inputs), state.step(instruction, secret_env=_proxy(state)))
    declared = state.scope.history()
    arguments = [f"|{len(declared)}", *declared, *args] if declared else args
    state.commit(f"RUN {' '.join(arguments)} # buildkit", layer=True)


def _command(
    state: StageState, instruction: Instruction, mounts: list[Mount], inputs: list[Digest]
) -> list[str]:
    """The argument vector; a script with its own interpreter is added to the mounts."""
    if instruction.json or not instruction.heredocs:
        return state.command(instruction)
    text = instruction.args[0]
    opener = heredoc_opener(text)
    first = instruction.heredocs[0]
    if opener is None or opener.fd or len(instruction.heredocs) > 1:
        whole = text + "".join(f"\n{h.content}{h.name}" for h in instruction.heredocs)
        return [*state.shell, whole]
    if not first.content.startswith("#!"):
        return [*state.shell, first.content]
    name = first.name.replace("/", "_")
    target = f"{PIPES}/{name}"
    inputs.append(state.inline(instruction, ((name, first.content, 0o755),)))
    mounts.append(Mount("bind", target, input=len(inputs) - 1, source=f"/{name}"))
    return [target]


def _mounts(state: StageState, instruction: Instruction, inputs: list[Digest]) -> list[Mount]:
    values = flag_list(instruction, "mount")
    if not values:
        return []
    from buildkit_py.frontends.dockerfile.mount import convert_mounts

    return convert_mounts(state, instruction, values, inputs)


def _network(state: StageState, instruction: Instruction) -> Network:
    wanted = flag(instruction, "network")
    if wanted == "host" and "network.host" not in state.conversion.options.allow:
        raise state.fail(
            instruction,
            "RUN --network=host is not allowed",
            hint="allow it with --allow network.host",
            word="--network=host",
        )
    value = wanted or state.conversion.options.network
    return "none" if value == "none" else "host" if value == "host" else "default"


def _security(state: StageState, instruction: Instruction) -> Literal["sandbox", "insecure"]:
    if flag(instruction, "security") != "insecure":
        return "sandbox"
    if "security.insecure" not in state.conversion.options.allow:
        raise state.fail(
            instruction,
            "RUN --security=insecure is not allowed",
            hint="allow it with --allow security.insecure",
            word="--security=insecure",
        )
    return "insecure"


def _devices(state: StageState, instruction: Instruction) -> tuple[str, ...]:
    devices = flag_list(instruction, "device")
    allow = state.conversion.options.allow
    for device in devices:
        if "device" not in allow and not any(f"device={part}" in allow for part in device.split(",")):
            raise state.fail(
                instruction,
                f"RUN --device={device} is not allowed",
                hint=f"allow it with --allow device, or with --allow device={device.partition(',')[0]} alone",
                word=f"--device={device}",
            )
    return devices


def _proxy(state: StageState) -> tuple[str, ...]:
    """Proxy variables that nobody declared: RUN gets them, its key doesn't."""
    options = state.conversion.options
    given = {**options.proxy, **{k: v for k, v in options.build_args.items() if k in PROXY}}
    return tuple(f"{k}={v}" for k, v in sorted(given.items()) if k not in state.scope.values)
