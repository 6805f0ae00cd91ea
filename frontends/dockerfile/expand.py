"""Variables and quotes in the words of an instruction.

Rules: Dockerfile reference, "Environment replacement"; POSIX shell, "Parameter Expansion", where that
is silent.
"""

from __future__ import annotations

from collections.abc import Mapping

from buildkit_py.errors import DockerfileError
from buildkit_py.frontends.dockerfile.words import SPACE
from buildkit_py.tuples import NamedTuple
from buildkit_py.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from buildkit_py.frontends.dockerfile.patterns import Segment

MAX_GROWTH = 1 << 18
"""Characters that variables may add to one word. Doubling a variable 60 times would fill any memory, and
the kernel takes no longer string than 128 KiB anyway.
"""

_MAX_DEPTH = 50
_SPECIAL = "@*#?-$!"


class ExpansionError(DockerfileError):
    """A word that can't be expanded; ``offset`` is the 0-based place in the word. The caller, who knows
    where the word stands, sets the file's path, lines and range.
    """

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.offset = offset


class Expansion(NamedTuple):
    text: str
    used: tuple[str, ...]
    """Variables that were asked for, set or not, in order of appearance."""
    unset: tuple[str, ...]
    """Of these the ones without a value, where no operator provides for that."""


def expand(word: str, env: Mapping[str, str], escape: str = "\\", *, keep_quotes: bool = False) -> Expansion:
    """Replace variables, remove quotes and escapes.

    With ``keep_quotes`` quotes and escapes stay as they are written. Raises ExpansionError.
    """
    if "$" not in word and '"' not in word and "'" not in word and escape not in word:
        return Expansion(word, (), ())
    reader = _Reader(word, env, escape, keep=keep_quotes)
    text = reader.all()
    return Expansion(text, tuple(reader.used), tuple(reader.unset))


class SplitExpansion(NamedTuple):
    words: tuple[str, ...]
    used: tuple[str, ...]
    unset: tuple[str, ...]


def split_expand(word: str, env: Mapping[str, str], escape: str = "\\") -> list[str]:
    """Expand, then cut at white space that is neither quoted nor escaped: EXPOSE.

    Raises ExpansionError.
    """
    return list(split_expansion(word, env, escape).words)


def split_expansion(word: str, env: Mapping[str, str], escape: str = "\\") -> SplitExpansion:
    """As ``split_expand``, with the variables that were asked for. Raises ExpansionError."""
    reader = _Reader(word, env, escape)
    reader.all()
    words: list[str] = []
    current: list[str] = []
    inside = False
    for text, splits in reader.pieces:
        if not splits:
            current.append(text)
            inside = True
            continue
        for char in text:
            if char not in SPACE:
                current.append(char)
                inside = True
            elif inside:
                words.append("".join(current))
                current.clear()
                inside = False
    if inside:
        words.append("".join(current))
    return SplitExpansion(tuple(words), tuple(reader.used), tuple(reader.unset))


def expand_heredoc(text: str, env: Mapping[str, str], escape: str = "\\") -> Expansion:
    """The body of a heredoc of COPY or ADD: quotes are ordinary characters.

    Escapes are processed, and an escaped line end vanishes. Raises ExpansionError.
    """
    if "$" not in text and escape not in text:
        return Expansion(text, (), ())
    reader = _Reader(text, env, escape, heredoc=True)
    expanded = reader.all()
    return Expansion(expanded, tuple(reader.used), tuple(reader.unset))


def unquote(word: str, escape: str = "\\") -> str:
    """Without quotes and escapes; ``$`` is an ordinary character. Raises ExpansionError."""
    if '"' not in word and "'" not in word and escape not in word:
        return word
    return _Reader(word, {}, escape, variables=False).all()


class _Reader:
    """Reads one word from left to right."""

    def __init__(
        self,
        text: str,
        env: Mapping[str, str],
        escape: str,
        *,
        keep: bool = False,
        heredoc: bool = False,
        variables: bool = True,
    ) -> None:
        self.text = text
        self.position = 0
        self.env = env
        self.escape = escape
        self.keep = keep
        self.heredoc = heredoc
        self.variables = variables
        self.depth = 0
        self.grown = 0
        self.used: dict[str, None] = {}
        self.unset: dict[str, None] = {}
        self.pieces: list[tuple[str, bool]] = []
        """Of the outermost level: text, and whether white space in it parts words."""

    def all(self) -> str:
        text, _ = self.until("")
        return text

    def until(self, stops: str, *, raw: bool = False) -> tuple[str, str]:
        """Expand up to one of the characters ``stops``, which is consumed and given back; empty at the
        end of the text. ``raw`` keeps escapes, for patterns.
        """
        text = self.text
        size = len(text)
        pieces: list[tuple[str, bool]] = []
        special = stops + self.escape + ("$" if self.variables else "") + ("" if self.heredoc else "\"'")
        stop = ""
        while self.position < size:
            start = position = self.position
            while position < size and text[position] not in special:
                position += 1
            if position > start:
                pieces.append((text[start:position], True))
                self.position = position
                continue
            char = text[position]
            self.position = position + 1
            if char in stops:
                stop = char
                break
            pieces.append(self._special(char, raw=raw))
        if self.depth == 0:
            self.pieces = pieces
        return "".join([piece[0] for piece in pieces]), stop

    def _special(self, char: str, *, raw: bool) -> tuple[str, bool]:
        if char == self.escape:
            return self._escaped(raw=raw), False
        if char == "$":
            return self._variable(), True
        if char == "'":
            return self._single(), False
        return self._double(raw=raw), False

    def _escaped(self, *, raw: bool) -> str:
        char = self.text[self.position : self.position + 1]
        self.position += len(char)
        if raw or self.keep:
            return self.escape + char
        if self.heredoc and char == "\n":
            return ""
        return char

    def _single(self) -> str:
        start = self.position
        end = self.text.find("'", start)
        if end < 0:
            raise ExpansionError(
                "unexpected end of the word while looking for the matching single quote", start - 1
            )
        self.position = end + 1
        inner = self.text[start:end]
        return f"'{inner}'" if self.keep else inner

    def _double(self, *, raw: bool) -> str:
        text = self.text
        size = len(text)
        opened = self.position - 1
        parts: list[str] = []
        special = '"' + self.escape + ("$" if self.variables else "")
        while True:
            start = position = self.position
            while position < size and text[position] not in special:
                position += 1
            parts.append(text[start:position])
            if position == size:
                message = "unexpected end of the word while looking for the matching double quote"
                raise ExpansionError(message, opened)
            char = text[position]
            self.position = position + 1
            if char == '"':
                inner = "".join(parts)
                return f'"{inner}"' if self.keep else inner
            if char == "$" and char != self.escape:
                parts.append(self._variable())
            else:
                parts.append(self._escaped_in_double(raw=raw))

    def _escaped_in_double(self, *, raw: bool) -> str:
        """Only the quote, ``$`` and the escape character itself can be escaped here."""
        char = self.text[self.position : self.position + 1]
        if char and char in '"$' + self.escape:
            self.position += 1
            return self.escape + char if raw or self.keep else char
        return self.escape

    def _variable(self) -> str:
        """What follows ``$``."""
        opened = self.position - 1
        if not self.text.startswith("{", self.position):
            name = self._name()
            value = self._value(name) if name else "$"
        elif self.depth == _MAX_DEPTH:
            raise ExpansionError("variables are nested too deeply", opened)
        else:
            self.depth += 1
            self.position += 1
            value = self._braced(opened)
            self.depth -= 1
        self.grown += len(value)
        if self.grown > MAX_GROWTH:
            raise ExpansionError(f"variables add more than {MAX_GROWTH:,} characters to a word", opened)
        return value

    def _name(self) -> str:
        text = self.text
        start = position = self.position
        size = len(text)
        if start == size:
            return ""
        char = text[start]
        if char in _SPECIAL:
            position += 1
        elif char.isdecimal():
            while position < size and text[position].isdecimal():
                position += 1
        else:
            while position < size and ((char := text[position]) == "_" or char.isalpha() or char.isdecimal()):
                position += 1
        self.position = position
        return text[start:position]

    def _value(self, name: str) -> str:
        self.used[name] = None
        value = self.env.get(name)
        if value is None:
            self.unset[name] = None
            return ""
        return value

    def _braced(self, opened: int) -> str:
        """``${name}`` and ``${name OPERATOR word}``, after the brace."""
        text = self.text
        char = text[self.position : self.position + 1]
        if char and char in "{}:":
            raise ExpansionError("bad substitution: a variable's name must follow ${", opened)
        name = self._name()
        operator = text[self.position : self.position + 1]
        if not operator:
            raise ExpansionError("missing '}' after ${" + name, opened)
        if not name:
            raise ExpansionError("bad substitution: a variable's name must follow ${", opened)
        at = self.position
        self.position += 1
        if operator == "}":
            return self._value(name)
        self.used[name] = None
        if operator == "/":
            return self._replace(name, opened)
        colon = operator == ":"
        if colon:
            operator = text[self.position : self.position + 1]
            self.position += 1
            if not operator:
                raise ExpansionError("missing '}' after ${" + name + ":", opened)
        if operator in "-+?":
            return self._default(name, operator, opened, colon=colon)
        if operator in "#%" and not colon:
            return self._trim(name, operator, opened)
        raise ExpansionError(
            f"unsupported modifier ({':' if colon else ''}{operator}) in substitution of {name}", at
        )

    def _default(self, name: str, operator: str, opened: int, *, colon: bool) -> str:
        word, stop = self.until("}")
        if not stop:
            raise ExpansionError("missing '}' after ${" + name, opened)
        value = self.env.get(name)
        missing = value is None or (colon and not value)
        if operator == "+":
            return "" if missing else word
        if not missing:
            return value or ""
        if operator == "-":
            return word
        reason = word or ("is not allowed to be empty" if value is not None else "is not allowed to be unset")
        raise ExpansionError(f"{name}: {reason}", opened)

    def _trim(self, name: str, operator: str, opened: int) -> str:
        from buildkit_py.frontends.dockerfile import patterns

        at = self.position
        pattern, stop = self.until("}", raw=True)
        if not stop:
            raise ExpansionError("missing '}' after ${" + name, opened)
        longest = pattern.startswith(operator)
        value = self._value(name)
        segments = self._compile(pattern[longest:], at)
        remove = patterns.remove_prefix if operator == "#" else patterns.remove_suffix
        return remove(segments, value, longest=longest)

    def _replace(self, name: str, opened: int) -> str:
        from buildkit_py.frontends.dockerfile import patterns

        every = self.text.startswith("/", self.position)
        self.position += every
        at = self.position
        pattern, stop = self.until("/", raw=True)
        if not stop:
            raise ExpansionError("missing '/' after ${" + name + "/" + pattern, opened)
        replacement, stop = self.until("}")
        if not stop:
            raise ExpansionError("missing '}' after ${" + name, opened)
        value = self._value(name)
        segments = self._compile(pattern, at)
        if (len(value) + 1) * len(replacement) > MAX_GROWTH * 256:
            raise ExpansionError(f"variables add more than {MAX_GROWTH:,} characters to a word", opened)
        return patterns.replace(segments, value, replacement, every=every)

    def _compile(self, pattern: str, at: int) -> list[Segment]:
        from buildkit_py.frontends.dockerfile import patterns

        try:
            return patterns.compile_pattern(pattern, self.escape)
        except ValueError as error:
            raise ExpansionError(str(error), at) from None
