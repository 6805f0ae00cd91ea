"""A terminal of its own for tests: knows the few sequences that the live display uses, refuses all others."""

from __future__ import annotations

import re

_TOKEN = re.compile(r"\x1b\[([?0-9;]*)([A-Za-z])|([\x00-\x1f\x7f])|([^\x00-\x1f\x7f]+)")


class Screen:
    def __init__(self, columns: int = 80, lines: int = 24) -> None:
        self.columns, self.lines = columns, lines
        self.rows: list[str] = [""]
        """All rows ever written, those that scrolled out at the top included."""
        self.row = self.column = 0
        self.cursor_shown = True
        self.wrapped = False

    def feed(self, text: str) -> None:
        position = 0
        for match in _TOKEN.finditer(text):
            assert match.start() == position, f"unknown sequence at {text[position : position + 20]!r}"
            position = match.end()
            numbers, final, control, printable = match.groups()
            if final:
                self._sequence(numbers, final)
            elif control:
                self._control(control)
            else:
                for char in printable:
                    self._put(char)
        assert position == len(text), f"unknown sequence at {text[position : position + 20]!r}"

    def _sequence(self, numbers: str, final: str) -> None:
        if final == "A":
            top = max(len(self.rows) - self.lines, 0)
            self.row = max(self.row - int(numbers or 1), top)
        elif final == "K":
            self.rows[self.row] = self.rows[self.row][: self.column]
        elif final == "J":
            self.rows[self.row] = self.rows[self.row][: self.column]
            self.rows[self.row + 1 :] = []
        elif final in "hl" and numbers == "?25":
            self.cursor_shown = final == "h"
        else:
            assert final == "m" or (final in "hl" and numbers == "?2026"), (
                f"unknown sequence {numbers}{final}"
            )

    def _control(self, char: str) -> None:
        if char == "\r":
            self.column = 0
        elif char == "\n":
            self.row += 1
            self.column = 0
            if self.row == len(self.rows):
                self.rows.append("")
        else:
            raise AssertionError(f"control character {char!r}")

    def _put(self, char: str) -> None:
        if self.column >= self.columns:
            self.wrapped = True
            self._control("\n")
        row = self.rows[self.row].ljust(self.column)
        self.rows[self.row] = row[: self.column] + char + row[self.column + 1 :]
        self.column += 1

    @property
    def text(self) -> str:
        return "\n".join(row.rstrip() for row in self.rows).rstrip("\n") + "\n"
