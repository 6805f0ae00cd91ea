"""Cutting a joined Dockerfile line into words.

White space is two different sets in this language: words of FROM, EXPOSE, COPY, … are cut at the five
ASCII blanks alone, while everything that honours quotes also cuts at Unicode's spaces. Dockerfile
reference: "Format", "Escape", "Here-documents".
"""

from __future__ import annotations

from buildkit_py.tuples import NamedTuple

SPACE = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
"""What is trimmed from the ends of a line, and parts words outside quotes."""

_BLANKS = {ord(c): " " for c in "\t\v\f\r"}


def split_blanks(text: str) -> list[str]:
    """Words between blanks; quotes and escapes are ordinary characters."""
    return [word for word in text.translate(_BLANKS).split(" ") if word]


def split_first(text: str) -> tuple[str, str]:
    """The first word of trimmed text, and the rest behind the blanks that follow it."""
    end = text.translate(_BLANKS).find(" ")
    if end < 0:
        return text, ""
    return text[:end], text[end:].lstrip("\t\v\f\r ")


def split_quoted(text: str, escape: str) -> list[str]:
    """Words between white space that is neither quoted nor escaped; quotes and escapes are kept.

    A quote that is never closed reaches to the end; an escape character at the very end is dropped.
    """
    if '"' not in text and "'" not in text and escape not in text and text.isascii():
        return split_blanks(text.replace("\n", " "))
    words: list[str] = []
    start = -1
    quote = ""
    position, size = 0, len(text)
    while position < size:
        char = text[position]
        if start < 0:
            if char in SPACE:
                position += 1
                continue
            start = position
        if char == escape and quote != "'":
            if position + 1 == size:
                text, size = text[:-1], size - 1
                break
            position += 2
            continue
        if quote:
            if char == quote:
                quote = ""
        elif char in SPACE:
            words.append(text[start:position])
            start = -1
        elif char in "\"'":
            quote = char
        position += 1
    if 0 <= start < size:
        words.append(text[start:])
    return words


def take_flags(text: str, escape: str) -> tuple[tuple[str, ...], str]:
    """The ``--flag`` words at the start of ``text``, unquoted, and the rest of it.

    A bare ``--`` ends the flags and is dropped.
    """
    flags: list[str] = []
    position = _skip_space(text, 0)
    while text.startswith("--", position):
        word, position = _take_word(text, position, escape)
        if word == "--":
            break
        flags.append(word)
        position = _skip_space(text, position)
    return tuple(flags), text[position:].strip(SPACE)


def _skip_space(text: str, position: int) -> int:
    size = len(text)
    while position < size and text[position] in SPACE:
        position += 1
    return position


def _take_word(text: str, position: int, escape: str) -> tuple[str, int]:
    """The word at ``position`` without its quotes and escapes, and where it ends."""
    word: list[str] = []
    quote = ""
    size = len(text)
    while position < size:
        char = text[position]
        if not quote and char in SPACE:
            break
        position += 1
        if char == escape:
            word.append(text[position : position + 1])
            position += 1
        elif quote:
            if char == quote:
                quote = ""
            else:
                word.append(char)
        elif char in "\"'":
            quote = char
        else:
            word.append(char)
    return "".join(word), position


class Opener(NamedTuple):
    """A word that opens a heredoc: ``3<<-"EOF"``."""

    name: str
    """The delimiter without its quotes."""
    expand: bool
    """False where any part of the delimiter was quoted."""
    chomp: bool
    fd: str


def heredoc_opener(word: str) -> Opener | None:
    """The heredoc that a word opens, None where it is an ordinary word.

    The word is ``[fd]<<[-]delimiter``, with its quotes still there.
    """
    fd, mark, rest = word.partition("<<")
    if not mark or "<" in rest or (fd and not (fd.isascii() and fd.isdigit())):
        return None
    chomp = rest.startswith("-")
    rest = rest[chomp:].lstrip(SPACE)
    if not rest:
        return None
    name, left = _dequote(rest)
    if left:
        return None
    return Opener(name, name == rest, chomp, fd)


def heredoc_openers(line: str) -> list[Opener]:
    """The heredocs that a joined line opens, in order.

    A delimiter may stand apart from its ``<<`` (``cat << EOF``); then it must look like a name or be
    quoted, lest ``$((1 << 2))`` be taken for one.
    """
    words = _shell_words(line)
    found = []
    index = 0
    while index < len(words):
        word = words[index]
        index += 1
        if "<<" not in word:
            continue
        if word.lstrip("0123456789") in ("<<", "<<-") and index < len(words):
            if not _plausible(words[index]):
                continue
            word += words[index]
            index += 1
        opener = heredoc_opener(word)
        if opener is not None:
            found.append(opener)
    return found


def _plausible(word: str) -> bool:
    if word[0] in "\"'\\":
        return True
    return word.replace("-", "_").replace(".", "_").isidentifier()


def _dequote(text: str) -> tuple[str, bool]:
    """Without quotes and backslashes; True if white space or an open quote makes it no single word."""
    name: list[str] = []
    position, size = 0, len(text)
    while position < size:
        char = text[position]
        position += 1
        if char == "'" or char == '"':
            end = _quote_end(text, position, char)
            if end < 0:
                return "", True
            inner = text[position:end]
            if char == '"' and "\\" in inner:
                for escaped in ('\\"', "\\$", "\\\\"):
                    inner = inner.replace(escaped, escaped[1])
            name.append(inner)
            position = end + 1
        elif char == "\\":
            name.append(text[position : position + 1])
            position += 1
        elif char in SPACE:
            return "", True
        else:
            name.append(char)
    return "".join(name), False


def _quote_end(text: str, position: int, quote: str) -> int:
    """Where the quote that was opened before ``position`` ends, -1 for nowhere."""
    while True:
        end = text.find(quote, position)
        if end < 0 or quote == "'":
            return end
        slashes = end
        while slashes > position and text[slashes - 1] == "\\":
            slashes -= 1
        if (end - slashes) % 2 == 0:
            return end
        position = end + 1


def _shell_words(line: str) -> list[str]:
    """Words as a shell would cut them, quotes kept; none at all where a quote stays open.

    ``${x:-a b}`` is one word. Backslash is the escape character whatever the directive says, for the
    delimiters are the shell's business in RUN.
    """
    words: list[str] = []
    start = -1
    position, size = 0, len(line)
    last_brace = line.rfind("}")
    while position < size:
        char = line[position]
        if char in SPACE:
            if start >= 0:
                words.append(line[start:position])
                start = -1
            position += 1
            continue
        if start < 0:
            start = position
        position += 1
        if char == "'" or char == '"':
            position = _quote_end(line, position, char) + 1
            if position == 0:
                return []
        elif char == "\\":
            position += 1
        elif char == "$" and position < last_brace and line[position] == "{":
            position = line.index("}", position) + 1
    if start >= 0:
        words.append(line[start:])
    return words


def json_strings(text: str) -> tuple[str, ...] | None:
    """The strings of a JSON array; None where ``text`` is no JSON array, and so is meant for a shell.

    Raises ValueError where it is valid JSON that holds anything but strings.
    """
    found: list[str] = []
    position = _skip(text, 1)
    if text.startswith("]", position):
        return () if _skip(text, position + 1) == len(text) else None
    while text.startswith('"', position):
        end = _quote_end(text, position + 1, '"')
        if end < 0:
            return None
        value = text[position + 1 : end]
        if not value.isprintable() and any(char < " " for char in value):
            return None
        if "\\" in value:
            unescaped = _json_unescape(value)
            if unescaped is None:
                return None
            value = unescaped
        found.append(value)
        position = _skip(text, end + 1)
        if text.startswith("]", position):
            return tuple(found) if _skip(text, position + 1) == len(text) else None
        if not text.startswith(",", position):
            return None
        position = _skip(text, position + 1)
    if _is_json(text):
        raise ValueError("arrays must be comprised of strings only")
    return None


_JSON_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


def _json_unescape(value: str) -> str | None:
    """The inside of a JSON string; None where an escape is malformed. A lone surrogate is U+FFFD."""
    parts: list[str] = []
    position = 0
    surrogates = False
    while (mark := value.find("\\", position)) >= 0:
        parts.append(value[position:mark])
        char = value[mark + 1 : mark + 2]
        position = mark + 2
        if char == "u":
            digits = value[position : position + 4]
            position += 4
            if len(digits) < 4 or not _HEX.issuperset(digits):
                return None
            char = chr(int(digits, 16))
            surrogates = surrogates or "\ud800" <= char <= "\udfff"
            parts.append(char)
        elif char in _JSON_ESCAPES:
            parts.append(_JSON_ESCAPES[char])
        else:
            return None
    parts.append(value[position:])
    text = "".join(parts)
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") if surrogates else text


_HEX = frozenset("0123456789abcdefABCDEF")


def _skip(text: str, position: int) -> int:
    size = len(text)
    while position < size and text[position] in " \t\r\n":
        position += 1
    return position


def _is_json(text: str) -> bool:
    """As Go reads it. Importing json costs 2 ms, so only arrays with something wrong get this far."""
    import json

    def number(digits: str) -> float:
        value = float(digits)
        if value in (float("inf"), float("-inf")):
            raise ValueError(digits)
        return value

    def constant(name: str) -> object:
        raise ValueError(name)

    try:
        json.loads(text, parse_int=number, parse_float=number, parse_constant=constant)
    except (ValueError, RecursionError):
        return False
    return True
