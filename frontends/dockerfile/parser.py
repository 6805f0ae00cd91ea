"""From the bytes of a Dockerfile to its syntax tree.

Knows how each instruction's words are cut and nothing of what they mean: that is semantics.py's. The
form of the tree is docs/dump-ast.md.
"""

from __future__ import annotations

from buildkit_py.errors import DockerfileError
from buildkit_py.frontends.dockerfile.ast import Dockerfile, Heredoc, Instruction, ParseWarning, Range
from buildkit_py.frontends.dockerfile.lexer import JoinedLine, Lexer, column_of
from buildkit_py.frontends.dockerfile.semantics import check as check
from buildkit_py.frontends.dockerfile.semantics import stages as stages
from buildkit_py.frontends.dockerfile.words import (
    SPACE,
    heredoc_openers,
    json_strings,
    split_blanks,
    split_first,
    split_quoted,
    take_flags,
)

_WORDS = frozenset(("from", "expose"))
_STRING = frozenset(("maintainer", "stopsignal", "user", "workdir"))
_JSON_OR_WORDS = frozenset(("add", "copy", "volume"))
_JSON_OR_STRING = frozenset(("run", "cmd", "entrypoint", "shell"))
_PAIRS = frozenset(("env", "label"))
_HEREDOC = frozenset(("run", "add", "copy"))

MAX_ONBUILD = 16
"""How deep ONBUILD ONBUILD … may nest before it is refused; one inside another is an error anyway."""


def parse(data: bytes, path: str = "Dockerfile") -> Dockerfile:
    """Parse a Dockerfile. ``path`` is how the user calls it, for messages.

    Raises DockerfileError for what is no Dockerfile by syntax; what needs to know an instruction's
    meaning is found by semantics.check. Bytes that are not UTF-8 become U+FFFD.
    """
    return read_all(Lexer(data, path))


def read_all(lexer: Lexer) -> Dockerfile:
    """As ``parse``, from where the lexer stands: behind the directives."""
    dockerfile = read(lexer)
    if not dockerfile.instructions:
        raise lexer.error("the file has no instructions", 0)
    return dockerfile


def read(lexer: Lexer) -> Dockerfile:
    """As ``parse``, but the file may be without instructions."""
    instructions: list[Instruction] = []
    warnings: list[ParseWarning] = []
    while (line := lexer.next()) is not None:
        instruction = _instruction(lexer, line, line.text.strip(SPACE), 0)
        if line.blank:
            message = f"Empty continuation line found in: {line.text.strip(SPACE)}"
            warnings.append(
                ParseWarning("NoEmptyContinuation", message, Range(line.start, instruction.range.end))
            )
        instructions.append(instruction)
    return Dockerfile(
        lexer.path, lexer.lines, lexer.escape, tuple(lexer.directives), tuple(instructions), tuple(warnings)
    )


def _instruction(lexer: Lexer, line: JoinedLine, text: str, depth: int) -> Instruction:
    written, rest = split_first(text)
    name = written.lower()
    rest = rest.lstrip(SPACE)
    flags: tuple[str, ...] = ()
    if rest.startswith("--"):
        flags, rest = take_flags(rest, lexer.escape)
    sub = None
    args: tuple[str, ...] = ()
    json = False
    if "\0" in text:
        raise _error(lexer, line, "the line holds a NUL byte", "\0")
    if name == "onbuild":
        if rest:
            if depth == MAX_ONBUILD:
                raise _error(lexer, line, "ONBUILD is nested too deeply", written)
            sub = _instruction(lexer, line, rest, depth + 1)
    else:
        args, json = _arguments(lexer, line, name, rest)
    heredocs: tuple[Heredoc, ...] = ()
    if name in _HEREDOC and not json and "<<" in text:
        heredocs = _heredocs(lexer, line, text, name)
    return Instruction(
        name,
        flags,
        args,
        json,
        heredocs,
        sub,
        Range(line.start, lexer.position),
        text,
        written,
        line.comments if depth == 0 else (),
    )


def _arguments(lexer: Lexer, line: JoinedLine, name: str, rest: str) -> tuple[tuple[str, ...], bool]:
    """The arguments, and whether they were a JSON array."""
    if not rest:
        return (), False
    if name in _JSON_OR_STRING:
        return _json(lexer, line, rest) or ((rest,), False)
    if name in _STRING:
        return (rest,), False
    if name in _JSON_OR_WORDS:
        return _json(lexer, line, rest) or (tuple(split_blanks(rest)), False)
    if name in _WORDS:
        return tuple(split_blanks(rest)), False
    if name in _PAIRS:
        return _pairs(lexer, line, name, rest), False
    if name == "arg":
        return tuple(split_quoted(rest, lexer.escape)), False
    if name == "healthcheck":
        kind, rest = _split_space(rest)
        if not rest:
            return (kind,), False
        args, json = _json(lexer, line, rest) or ((rest,), False)
        return (kind, *args), json
    return (), False


def _json(lexer: Lexer, line: JoinedLine, rest: str) -> tuple[tuple[str, ...], bool] | None:
    if not rest.startswith("["):
        return None
    try:
        strings = json_strings(rest)
    except ValueError:
        raise _error(lexer, line, "a JSON array of arguments may hold nothing but strings", rest) from None
    return None if strings is None else (strings, True)


def _pairs(lexer: Lexer, line: JoinedLine, name: str, rest: str) -> tuple[str, ...]:
    """Name, value, name, value, …"""
    words = split_quoted(rest, lexer.escape)
    if not words:
        return ()
    if "=" not in words[0]:
        key, value = split_first(rest)
        if not value:
            message = f"{name.upper()} must have two arguments: a name and a value"
            raise _error(lexer, line, message, rest, hint=f"write {name.upper()} {key}=value")
        return key, value
    found: list[str] = []
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            message = f"can't find = in {word!r}: words must have the form name=value"
            raise _error(lexer, line, message, word, hint=_missing_equals(rest, found))
        found.append(key)
        found.append(value)
    return tuple(found)


def _missing_equals(rest: str, before: list[str]) -> str:
    if "\u201c" in rest or "\u201d" in rest:
        return 'typographic quotes are no quotes: write "'
    return f'a value with spaces stands in quotes: {before[0]}="…"'


def _split_space(text: str) -> tuple[str, str]:
    for position, char in enumerate(text):
        if char in SPACE:
            return text[:position], text[position:].lstrip(SPACE)
    return text, ""


def _heredocs(lexer: Lexer, line: JoinedLine, text: str, name: str) -> tuple[Heredoc, ...]:
    found = []
    for opener in heredoc_openers(text):
        start = lexer.position
        content = lexer.heredoc(opener.name, opener.chomp, line.end)
        if name == "run" and "\0" in content:
            raise lexer.error("a heredoc of RUN holds a NUL byte", start + 1, lexer.position)
        found.append(Heredoc(opener.name, content, opener.expand, opener.chomp, opener.fd))
    return tuple(found)


def _error(lexer: Lexer, line: JoinedLine, message: str, word: str, *, hint: str = "") -> DockerfileError:
    """With the caret under ``word`` if the first line holds it."""
    column = column_of(lexer.lines[line.start - 1], word)
    return lexer.error(message, line.start, line.end, column=column, hint=hint)
