"""EXPOSE: the ports that the container listens on, ``port[-end][/tcp,udp,sctp]``."""

from __future__ import annotations

from buildkit_py.frontends.dockerfile.ast import Instruction
from buildkit_py.frontends.dockerfile.stage import StageState

_PROTOCOLS = ("tcp", "udp", "sctp")


def apply(state: StageState, instruction: Instruction) -> None:
    words: list[str] = []
    for word in instruction.args:
        words.extend(state.split(instruction, word))
    added: dict[str, dict[str, str]] = {}
    for word in words:
        try:
            added.update((port, {}) for port in parse_ports(word))
        except ValueError as error:
            raise state.fail(
                instruction,
                f"EXPOSE {word}: {error}",
                hint="write port, port/protocol or first-last",
                word=word,
            ) from None
    state.conversion.note("expose", instruction, *words)
    state.config["ExposedPorts"] = {**(state.config.get("ExposedPorts") or {}), **added}
    state.commit(f"EXPOSE map[{' '.join(f'{port}:{{}}' for port in sorted(added))}]")


def parse_ports(word: str) -> list[str]:
    """``8000-8002/UDP`` -> ``8000/udp`` … An address and a host port before it have no meaning here.

    Raises ValueError.
    """
    ports, _, protocol = word.partition("/")
    protocol = protocol.lower() or "tcp"
    if protocol not in _PROTOCOLS:
        raise ValueError(f"{protocol!r} is not one of tcp, udp, sctp")
    container = ports.rpartition(":")[2]
    first, dash, last = container.partition("-")
    start = _port(first)
    end = _port(last) if dash else start
    if end < start:
        raise ValueError("the range ends before it begins")
    return [f"{port}/{protocol}" for port in range(start, end + 1)]


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text[:6]) > 65535:
        raise ValueError(f"{text!r} is not a port number between 0 and 65535")
    return int(text[:6])
