"""Text of strangers made fit for a terminal, and numbers as people read them.

A Dockerfile and the programs it runs decide what stands in step names and logs. Neither may move the
cursor, set the title, write to the clipboard or clear the screen of who builds it.
"""

from __future__ import annotations

ESC = "\x1b"
RESETS = (ESC + "[m", ESC + "[0m")
LONGEST = 16384
"""Characters of one log line; a longer one is shown in pieces (as Docker's logs do)."""

# Controls of C0 and C1, DEL, and the line and paragraph separators that some terminals obey.
# Tab and line feed become spaces: a name of several lines stays readable in one.
_CONTROLS: dict[int, str | None] = dict.fromkeys((*range(32), *range(127, 160), 0x2028, 0x2029))
_CONTROLS |= {9: " ", 10: " "}


def clean(text: str, *, colour: bool = False) -> str:
    """``text`` as one line without control characters and escape sequences.

    With ``colour``, SGR sequences (colours, bold) are kept, and ended at the end of the text.
    """
    if text.isprintable():
        return text
    if ESC not in text and "\x9b" not in text:
        return text.translate(_CONTROLS)
    out: list[str] = []
    position, coloured = 0, False
    while position < len(text):
        start = text.find(ESC, position)
        if start < 0:
            out.append(text[position:].translate(_CONTROLS))
            break
        out.append(text[position:start].translate(_CONTROLS))
        position, sgr = _sequence(text, start)
        if sgr and colour:
            out.append(sgr)
            coloured = sgr not in RESETS
    if coloured:
        out.append(ESC + "[0m")
    return "".join(out)


def _sequence(text: str, start: int) -> tuple[int, str]:
    """Where the escape sequence at ``start`` ends, and the sequence itself if it only sets colours."""
    kind = text[start + 1 : start + 2]
    if kind == "[":
        end = start + 2
        while end < len(text) and " " <= text[end] <= "?":
            end += 1
        if end >= len(text):
            return len(text), ""
        if not "@" <= text[end] <= "~":
            return end, ""
        body = text[start + 2 : end]
        is_sgr = text[end] == "m" and all(c in "0123456789;:" for c in body)
        return end + 1, text[start : end + 1] if is_sgr else ""
    if kind and kind in "]PX^_":
        # OSC, DCS, SOS, PM, APC: a string up to BEL or ESC \. Unended, it takes the rest of the line.
        ends = [
            (at, n) for at, n in ((text.find("\a", start), 1), (text.find(ESC + "\\", start), 2)) if at > 0
        ]
        at, width = min(ends, default=(len(text), 0))
        return at + width, ""
    end = start + 1
    while end < len(text) and " " <= text[end] <= "/":
        end += 1
    return min(end + 1, len(text)) if text[end : end + 1] != ESC else end, ""


class LogLines:
    """Turns the chunks of one output stream into lines: incremental UTF-8, partial lines, ``\\r``.

    A line that was overwritten with ``\\r`` (a progress bar) is its last state.
    """

    __slots__ = ("_pending", "partial")

    def __init__(self) -> None:
        self._pending = b""
        self.partial = ""
        """The unfinished line so far."""

    def feed(self, data: bytes) -> list[str]:
        """The lines that ``data`` completes."""
        data = self._pending + data
        keep = _unfinished(data)
        self._pending = data[len(data) - keep :] if keep else b""
        text = self.partial + data[: len(data) - keep].decode("utf-8", "replace")
        if "\n" not in text and len(text) < LONGEST:
            self.partial = _last_state(text, open_end=True)
            return []
        *complete, rest = text.split("\n")
        lines = [piece for line in complete for piece in _pieces(_last_state(line))]
        rest = _last_state(rest, open_end=True)
        while len(rest) >= LONGEST:
            lines.append(rest[:LONGEST])
            rest = rest[LONGEST:]
        self.partial = rest
        return lines

    def end(self) -> list[str]:
        """The unfinished last line, if there is one."""
        text = self.partial + self._pending.decode("utf-8", "replace")
        self.partial, self._pending = "", b""
        return [_last_state(text)] if text else []


def _last_state(line: str, *, open_end: bool = False) -> str:
    if "\r" not in line:
        return line
    stripped = line.rstrip("\r")
    kept = stripped[stripped.rfind("\r") + 1 :]
    # In an unfinished line the last \r still waits: for \n, or for what overwrites the text.
    return kept + "\r" if open_end and len(stripped) < len(line) else kept


def _pieces(line: str) -> list[str]:
    if len(line) <= LONGEST:
        return [line]
    return [line[at : at + LONGEST] for at in range(0, len(line), LONGEST)]


def _unfinished(data: bytes) -> int:
    """How many bytes at the end begin a UTF-8 sequence that is not complete."""
    for back in range(1, min(4, len(data) + 1)):
        byte = data[-back]
        if byte >= 0xC0:
            need = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return back if need > back else 0
        if byte < 0x80:
            return 0
    return 0


def size(number: float) -> str:
    """Bytes in decimal units, as registries and BuildKit count them: ``10.49MB``."""
    if number < 1000:
        return f"{int(number)}B"
    for unit in ("kB", "MB", "GB"):
        number /= 1000
        if number < 999.995:
            return f"{number:.2f}{unit}"
    return f"{number / 1000:.2f}TB"


def offset(seconds: float) -> str:
    """The time of a log line since its step began, in four digits: 0.123, 12.34, 123.4."""
    seconds = max(seconds, 0.0)
    return f"{seconds:.3f}" if seconds < 10 else f"{seconds:.2f}" if seconds < 100 else f"{seconds:.1f}"


def duration(seconds: float) -> str:
    return f"{max(seconds, 0.0):.1f}s"


def layer(name: str) -> str:
    """A digest cut to what tells layers apart on a screen; other names as they are."""
    return name[:19] + name[71:] if name.startswith("sha256:") and len(name) >= 71 else name
