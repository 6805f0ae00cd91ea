"""A syntax tree as a Dockerfile again: one line for each instruction, and the bodies of its heredocs.

What it prints parses to the same tree, but for line numbers and the text as it was written.
"""

from __future__ import annotations

import json

from buildkit_py.frontends.dockerfile.ast import Dockerfile, Instruction
from buildkit_py.frontends.dockerfile.words import (
    SPACE,
    heredoc_openers,
    json_strings,
    split_blanks,
    split_first,
    split_quoted,
)

_PAIRS = ("env", "label")


def print_dockerfile(dockerfile: Dockerfile) -> str:
    """The file in canonical form, with the comments that belong to instructions."""
    escape = dockerfile.escape
    parts = [f"# {name}={value}\n" for name, value, _ in dockerfile.directives]
    # Whatever the first comment looks like, behind an empty line it is no directive.
    parts.append("\n")
    for instruction in dockerfile.instructions:
        for comment in instruction.comments:
            parts.append(f"# {comment}\n" if comment else "#\n")
        line = print_line(instruction, escape)
        if line.endswith(escape) and not line.endswith(escape * 2):
            # Only white space that is neither a blank nor a tab keeps this from being a continuation.
            line += "\v"
        parts.append(line + "\n")
        parts.extend(_bodies(instruction))
    return "".join(parts)


def _bodies(instruction: Instruction) -> list[str]:
    found = []
    current: Instruction | None = instruction
    while current is not None:
        found += [f"{heredoc.content}{heredoc.name}\n" for heredoc in current.heredocs]
        current = current.sub
    return found


def print_line(instruction: Instruction, escape: str) -> str:
    """The instruction without heredoc bodies, on one line."""
    words = [instruction.written or instruction.name.upper()]
    words += [_flag(flag, escape) for flag in instruction.flags]
    if instruction.sub is not None:
        rest = print_line(instruction.sub, escape)
    else:
        rest = _arguments(instruction, escape)
    # A bare -- also keeps Unicode's spaces at the end of a name from being trimmed.
    if rest.startswith("--") or (not rest and words[-1][-1] in SPACE):
        words.append("--")
    return " ".join([*words, rest]) if rest else " ".join(words)


def _flag(flag: str, escape: str) -> str:
    special = [char for char in flag if char in SPACE or char in "\"'" or char == escape]
    if not special:
        return flag
    for quote in "'\"":
        if quote not in flag and escape not in flag:
            name, equals, value = flag.partition("=")
            if equals and not any(char in SPACE or char in "\"'" for char in name):
                return f"{name}={quote}{value}{quote}"
    return "".join(escape + char if char in special else char for char in flag)


def _arguments(instruction: Instruction, escape: str) -> str:
    args = instruction.args
    if instruction.name == "healthcheck":
        kind = " ".join(args[:1])
        rest = _array(args[1:]) if instruction.json else " ".join(args[1:])
        return f"{kind} {rest}".rstrip(" ")
    if instruction.json:
        return _array(args)
    if instruction.name in _PAIRS:
        pairs = [f"{name}={value}" for name, value in zip(args[::2], args[1::2], strict=True)]
        line = " ".join(pairs)
        return line if split_quoted(line, escape) == pairs else " ".join(args)
    line = " ".join(args)
    if instruction.name in ("add", "copy") and _delimiters(line) != [
        heredoc.name for heredoc in instruction.heredocs
    ]:
        line = _as_written(instruction)
    if line.startswith("[") and instruction.name in ("add", "copy", "volume") and _is_json(line):
        return "\v".join(args)
    return line


def _delimiters(line: str) -> list[str]:
    return [opener.name for opener in heredoc_openers(line)]


def _as_written(instruction: Instruction) -> str:
    """The arguments with the blanks that the file has between them.

    What looks for heredocs lets a backslash take one blank along (``\\ <<EOF`` opens none), what splits words
    does not: so the number of blanks is part of the tree there.
    """
    rest = instruction.text
    for _ in range(len(split_blanks(rest)) - len(instruction.args)):
        rest = split_first(rest)[1]
    return rest.strip(SPACE)


def _array(strings: tuple[str, ...]) -> str:
    return json.dumps(list(strings), ensure_ascii=False)


def _is_json(text: str) -> bool:
    try:
        return json_strings(text) is not None
    except ValueError:
        return True
