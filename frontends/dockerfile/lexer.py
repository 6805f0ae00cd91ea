"""From the bytes of a Dockerfile to joined lines and heredoc bodies.

Rules: Dockerfile reference, "Format", "Parser directives", "Escape", "Here-documents". Each step looks
at a line once, so the work is linear in the size of the file.
"""

from __future__ import annotations

from buildkit_py.errors import DockerfileError
from buildkit_py.frontends.dockerfile.words import SPACE
from buildkit_py.tuples import NamedTuple

MAX_LINE = 65_535
"""Bytes of one line, its line feed not counted."""

_DIRECTIVES = ("syntax", "escape", "check")
_CHECK_OPTIONS = ("skip", "error", "experimental")
_BOOLEANS = ("1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False")


class JoinedLine(NamedTuple):
    """An instruction's line with its continuations, without the marks that join them."""

    text: str
    start: int
    end: int
    comments: tuple[str, ...]
    """The comment lines directly above."""
    blank: int
    """The line number of the first empty line within, 0 for none."""


class Lexer:
    """Reads a Dockerfile from front to back. ``position`` is the index of the next line.

    Raises DockerfileError for a line that is too long, and for invalid or repeated directives.
    """

    def __init__(self, data: bytes, path: str) -> None:
        self.path = path
        self.escape = "\\"
        self.directives: list[tuple[str, str, int]] = []
        self.position = 0
        if data.startswith(b"\xef\xbb\xbf"):
            data = data[3:]
        text = data.decode("utf-8", "replace")
        self._raw = text.split("\n")
        if self._raw[-1] == "":
            self._raw.pop()
        self.lines = tuple([line.rstrip("\r") for line in self._raw] if "\r" in text else self._raw)
        self._check(data)
        self._read_directives()

    def next(self) -> JoinedLine | None:
        """The next instruction's line, None at the end of the file."""
        lines, escape = self.lines, self.escape
        comments: list[str] = []
        position, size = self.position, len(lines)
        while position < size:
            line = lines[position].lstrip(SPACE)
            position += 1
            if line.startswith("#"):
                comments.append(line[1:].strip(SPACE))
                continue
            if not line:
                comments.clear()
                continue
            start = position
            part, more = _continued(line, escape)
            if not more:
                self.position = position
                return JoinedLine(line, start, start, tuple(comments), 0)
            parts = [part]
            blank = 0
            while more and position < size:
                line = lines[position]
                position += 1
                bare = line.lstrip(SPACE)
                if not bare:
                    blank = blank or position
                elif not bare.startswith("#"):
                    part, more = _continued(line, escape)
                    parts.append(part)
            text = "".join(parts)
            if text.strip(SPACE):
                self.position = position
                return JoinedLine(text, start, position, tuple(comments), blank)
            comments.clear()
        self.position = position
        return None

    def heredoc(self, name: str, chomp: bool, opened: int) -> str:
        """The lines up to the terminator, which is consumed. ``opened`` is the line that opens it."""
        start = self.position
        lines = self.lines
        for index in range(start, len(lines)):
            line = lines[index]
            if (line.lstrip("\t") if chomp else line) == name:
                self.position = index + 1
                body = self._raw[start:index]
                if chomp:
                    body = [line.lstrip("\t") for line in body]
                return "\n".join(body) + "\n" if body else ""
        hint = ""
        for index in range(start, len(lines)):
            if lines[index].strip(SPACE) == name:
                hint = f"line {index + 1} holds {name!r}, but with white space around it"
                if not chomp and lines[index].strip("\t") == name:
                    hint += "; <<- would remove leading tabs"
                break
        line = self.lines[opened - 1]
        column = line.find(name, line.find("<<")) + 1 if "<<" in line else 0
        raise self.error(f"unterminated heredoc: no line is {name!r} alone", opened, column=column, hint=hint)

    def error(
        self, message: str, start: int, end: int = 0, *, column: int = 0, hint: str = ""
    ) -> DockerfileError:
        return DockerfileError(
            message,
            path=self.path,
            start=start,
            end=end or start,
            column=column,
            lines=self.lines,
            hint=hint,
        )

    def _check(self, data: bytes) -> None:
        if not data:
            raise self.error("the Dockerfile cannot be empty", 0)
        if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise self.error("the Dockerfile is UTF-16 text", 0, hint="save it as UTF-8")
        if len(data) <= MAX_LINE:
            return
        for number, line in enumerate(data.split(b"\n"), 1):
            if len(line) > MAX_LINE:
                # Nobody wants to see a megabyte in an error message.
                self.lines = tuple(line if len(line) < 400 else line[:400] + "…" for line in self.lines)
                raise self.error(f"line {number} is longer than the limit of {MAX_LINE:,} bytes", number)

    def _read_directives(self) -> None:
        lines = self.lines
        index = 1 if lines and lines[0].startswith("#!") else 0
        while index < len(lines):
            found = _directive(lines[index])
            if found is None:
                break
            index += 1
            name, value = found
            column = lines[index - 1].index("#") + 1
            if any(name == earlier for earlier, _, _ in self.directives):
                raise self.error(f"only one {name} parser directive can be used", index, column=column)
            if name == "escape":
                if value not in ("\\", "`"):
                    message = f"invalid escape directive {value!r}: the escape character is \\ or `"
                    raise self.error(message, index, column=lines[index - 1].rindex(value) + 1)
                self.escape = value
            elif name == "check":
                message = check_problem(value)
                if message:
                    raise self.error(message, index, column=lines[index - 1].rindex(value) + 1)
            self.directives.append((name, value, index))
        if self.directives:
            self.position = index


def column_of(line: str, word: str) -> int:
    """The 1-based column of a word, rather where it follows white space than within another; 0: nowhere."""
    for before in (" ", "\t"):
        found = line.find(before + word)
        if found >= 0:
            return found + 2
    return line.find(word) + 1


def _continued(line: str, escape: str) -> tuple[str, bool]:
    """The line without a continuation mark, and whether there was one."""
    bare = line.rstrip(" \t")
    if not bare.endswith(escape) or bare.endswith(escape + escape):
        return line, False
    return bare[:-1], True


def _directive(line: str) -> tuple[str, str] | None:
    line = line.lstrip(SPACE)
    if not line.startswith("#"):
        return None
    name, equals, value = line[1:].partition("=")
    name = name.strip("\t\n\f\r ").lower()
    value = value.strip("\t\n\f\r ")
    if not equals or not value or name not in _DIRECTIVES:
        return None
    return name, value


def check_problem(value: str) -> str:
    """What is wrong with a check directive's value, empty for nothing."""
    for option in value.split(";"):
        name, equals, setting = option.partition("=")
        name = name.strip(SPACE)
        if not equals or name not in _CHECK_OPTIONS:
            return f"invalid check option {option.strip(SPACE)!r}: expected skip=, error= or experimental="
        if name == "error" and setting.strip(SPACE) not in _BOOLEANS:
            return f"invalid check option {option.strip(SPACE)!r}: error takes true or false"
    return ""
