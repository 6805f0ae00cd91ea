"""The rules of a .dockerignore file.

Dockerfile reference, ".dockerignore file": patterns in the manner of Go's filepath.Match, and ``**``; the
last one that matches a path, or a directory above it, decides; ``!`` takes back. Unlike .gitignore,
``foo`` matches at the root only.

Since only the last match counts, neighbouring patterns of one kind (hiding or taking back) share a
*rank*, and a path needs to know just the highest rank that matches it: the greater of its own and of its
directory's, which is remembered. Literal patterns are looked up in dictionaries; the others of a rank
are one regular expression.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable

from buildkit_py.errors import DockerfileError
from buildkit_py.globs import component, translate

_SPECIAL = frozenset("*?[\\")
_GLOB = frozenset("*?[")


def parse_ignore(text: bytes | str, path: str = ".dockerignore") -> tuple[str, ...]:
    """The patterns, cleaned, in order; comments and blank lines are gone, ``!`` stays in front.

    Raises DockerfileError with the line of a pattern that is none.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8", "surrogateescape")
    lines = text.removeprefix("\ufeff").split("\n")
    found: list[str] = []
    for number, line in enumerate(lines, 1):
        if line.startswith("#"):
            continue
        pattern = line.strip()
        if not pattern:
            continue
        try:
            cleaned = _clean(pattern)
            if _GLOB.intersection(cleaned) or "\\" in cleaned:
                translate(cleaned.removeprefix("!"))
        except ValueError as error:
            raise DockerfileError(
                f"{pattern}: {error}", path=path, start=number, lines=tuple(lines)
            ) from None
        if cleaned.removeprefix("!") != ".":
            found.append(cleaned)
    return tuple(found)


def _clean(pattern: str) -> str:
    """Without ``.``, ``..``, doubled and leading slashes, as Go's filepath.Clean does it."""
    mark = ""
    if pattern.startswith("!"):
        mark = "!"
        pattern = pattern[1:].strip()
        if not pattern:
            raise ValueError("nothing stands behind the !")
    cleaned = posixpath.normpath(pattern)
    if len(cleaned) > 1:
        cleaned = cleaned.lstrip("/") or "/"
    return mark + cleaned


class Matcher:
    """Answers for paths relative to the context's root, ``/``-separated, without leading ``/``."""

    def __init__(self, lines: tuple[str, ...]) -> None:
        """``lines`` as parse_ignore gives them."""
        self._back: list[bool] = []
        """By rank: whether it takes back."""
        self._paths: dict[str, int] = {}
        """Literal patterns -> rank."""
        self._names: dict[str, int] = {}
        """``**/name`` -> rank."""
        self._directories: dict[str, int] = {"": -1}
        """The highest rank that matches a directory or one above it; -1: none."""
        self._returning: list[tuple[int, str]] = []
        """(rank, pattern) of those that take back."""
        wild_names: dict[int, list[str]] = {}
        wild_paths: dict[int, list[str]] = {}
        for line in lines:
            back = line.startswith("!")
            pattern = line[1:] if back else line
            if not self._back or self._back[-1] != back:
                self._back.append(back)
            rank = len(self._back) - 1
            if back:
                self._returning.append((rank, pattern))
            self._sort_in(pattern, rank, wild_names, wild_paths)
        self._wild = [
            (rank, _compile(wild_names.get(rank)), _compile(wild_paths.get(rank)))
            for rank in sorted({*wild_names, *wild_paths}, reverse=True)
        ]
        self._prefixes: list[tuple[int, list[re.Pattern[str]], bool]] | None = None

    def _sort_in(
        self, pattern: str, rank: int, wild_names: dict[int, list[str]], wild_paths: dict[int, list[str]]
    ) -> None:
        if not _SPECIAL.intersection(pattern):
            self._paths[pattern] = rank
            return
        name = pattern[3:] if pattern.startswith("**/") else "/"
        if "/" in name or "**" in name:
            wild_paths.setdefault(rank, []).append(translate(pattern))
        elif _SPECIAL.intersection(name):
            wild_names.setdefault(rank, []).append(component(name))
        else:
            self._names[name] = rank

    def excluded(self, path: str, is_dir: bool = False) -> bool:
        """Whether a path is hidden, by itself or with a directory above it."""
        rank = self._rank(path, is_dir)
        return rank >= 0 and not self._back[rank]

    def may_descend(self, directory: str) -> bool:
        """Whether something below a hidden directory may have been taken back."""
        if not self._returning:
            return False
        rank = self._rank(directory, True)
        parts = directory.split("/")
        if self._prefixes is None:
            self._prefixes = [(rank, *_leading(pattern)) for rank, pattern in self._returning]
        for other, leading, anywhere in self._prefixes:
            if other <= rank or (len(leading) <= len(parts) and not anywhere):
                continue
            if all(regex.match(part) for regex, part in zip(leading, parts, strict=False)):
                return True
        return False

    def _rank(self, path: str, is_dir: bool) -> int:
        head, _, name = path.rpartition("/")
        best = self._directories.get(head)
        if best is None:
            best = self._rank_of_directory(head)
        last = len(self._back) - 1
        if best < last:
            rank = self._paths.get(path, -1)
            if rank > best:
                best = rank
            rank = self._names.get(name, -1)
            if rank > best:
                best = rank
            for rank, names, paths in self._wild:
                if rank <= best:
                    break
                if (names and names(name)) or (paths and paths(path)):
                    best = rank
                    break
        if is_dir:
            self._directories[path] = best
        return best

    def _rank_of_directory(self, path: str) -> int:
        """From the top down, for a path may be deeper than recursion goes."""
        position = 0
        rank = -1
        while position >= 0:
            position = path.find("/", position + 1)
            above = path if position < 0 else path[:position]
            known = self._directories.get(above)
            rank = self._rank(above, True) if known is None else known
        return rank


def _compile(patterns: list[str] | None) -> Callable[[str], object] | None:
    if not patterns:
        return None
    return re.compile(f"(?s:{'|'.join(patterns)})\\Z").match


def _leading(pattern: str) -> tuple[list[re.Pattern[str]], bool]:
    """The components before the first ``**``, and whether there is one (then the rest may lie anywhere)."""
    parts = pattern.split("/")
    anywhere = False
    for position, part in enumerate(parts):
        if "**" in part:
            parts = parts[:position]
            anywhere = True
            break
    return [re.compile(f"(?s:{component(part)})\\Z") for part in parts], anywhere
