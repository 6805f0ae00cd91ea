"""A parsed Dockerfile as JSON: ``pybuild debug dump-ast``. The form is a contract: docs/dump-ast.md."""

from __future__ import annotations

import json

from buildkit_py import textfile
from buildkit_py.errors import NotFoundError
from buildkit_py.frontends.dockerfile import parser, semantics
from buildkit_py.frontends.dockerfile.ast import Dockerfile, Instruction
from buildkit_py.typed import Any


def dump(dockerfile: Dockerfile) -> bytes:
    """The file as one line of JSON, UTF-8, with a line end."""
    problem = semantics.check_instructions(dockerfile)
    document = {
        "escape": dockerfile.escape,
        "semantic_error": None if problem is None else problem.message,
        "stages": [
            {"name": stage.name, "base": stage.base, "platform": stage.platform}
            for stage in semantics.stages(dockerfile)
        ],
        "instructions": [_instruction(instruction) for instruction in dockerfile.instructions],
    }
    return json.dumps(document, ensure_ascii=False).encode() + b"\n"


def dump_ast(path: str) -> bytes:
    """Read, parse and dump a file. Raises DockerfileError, and NotFoundError where it can't be read."""
    return dump(parser.parse(read_file(path), path))


def read_file(path: str) -> bytes:
    """A Dockerfile's bytes. Raises NotFoundError."""
    try:
        return textfile.read(path)
    except OSError as error:
        raise NotFoundError(f"cannot read {path}: {error.strerror}") from error


def _instruction(instruction: Instruction) -> dict[str, Any]:
    return {
        "instruction": instruction.name,
        "flags": list(instruction.flags),
        "args": list(instruction.args),
        "json": instruction.json,
        "heredocs": [
            {
                "name": heredoc.name,
                "content": heredoc.content,
                "expand": heredoc.expand,
                "chomp": heredoc.chomp,
            }
            for heredoc in instruction.heredocs
        ],
        "sub": None if instruction.sub is None else _instruction(instruction.sub),
        "start_line": instruction.range.start,
        "end_line": instruction.range.end,
    }
