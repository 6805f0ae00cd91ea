"""Where a Dockerfile names images, to the character: for ``pybuild pin``, which changes nothing else.

Named are: the image of a FROM, of COPY and ADD ``--from``, of RUN ``--mount=from=``; and the default of a
global ARG where a FROM consists of that ARG alone. What holds any other variable is no place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from buildkit_py.frontends.dockerfile.ast import Dockerfile, Instruction
from buildkit_py.tuples import NamedTuple

_ALONE = r"\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)\})\Z"
_RESERVED = ("scratch", "context")


class Place(NamedTuple):
    """An image's name in the text."""

    line: int
    """1-based."""
    start: int
    end: int
    """Offsets into the text, in characters."""
    image: str


class Skipped(NamedTuple):
    line: int
    image: str
    """As written, with the variable that is in it."""


def places(tree: Dockerfile, text: str) -> tuple[list[Place], list[Skipped]]:
    """In the order of the text, none twice. ``text``: that ``tree`` was made of, its line ends as they are.

    Raises nothing: what looks like no image is left out.
    """
    return _Finder(tree, text).find()


def replaced(text: str, images: Mapping[Place, str]) -> str:
    """The text with other images."""
    for place in sorted(images, key=lambda p: p.start, reverse=True):
        text = text[: place.start] + images[place] + text[place.end :]
    return text


class _Finder:
    def __init__(self, tree: Dockerfile, text: str) -> None:
        self.tree = tree
        self.text = text
        self.offsets = [0]
        for line in text.split("\n"):
            self.offsets.append(self.offsets[-1] + len(line) + 1)
        self.stages: set[str] = set()
        self.arguments: dict[str, Instruction] = {}
        """Global ARGs, the last one of each name."""
        self.found: list[Place] = []
        self.skipped: list[Skipped] = []

    def find(self) -> tuple[list[Place], list[Skipped]]:
        before_first = True
        for instruction in self.tree.instructions:
            if instruction.name == "arg" and before_first:
                for word in instruction.args:
                    self.arguments[word.partition("=")[0]] = instruction
            elif instruction.name == "from" and instruction.args:
                before_first = False
                self.base(instruction)
            else:
                self.sources(instruction)
        return sorted(set(self.found), key=lambda p: p.start), self.skipped

    def base(self, instruction: Instruction) -> None:
        image = instruction.args[0]
        alone = re.match(_ALONE, image)
        if alone:
            self.argument(instruction, alone[1] or alone[2], image)
        elif self.is_image(image):
            self.place(instruction, image, r"(?<=\s)IMAGE(?=\s|\Z)")
        if len(instruction.args) == 3:
            self.stages.add(instruction.args[2].lower())

    def argument(self, instruction: Instruction, name: str, written: str) -> None:
        """A FROM that is one variable."""
        setting = self.arguments.get(name)
        if setting is None:
            self.skipped.append(Skipped(instruction.range.start, written))
            return
        for word in setting.args:
            key, equals, value = word.partition("=")
            image = value.strip("\"'")
            if key == name and equals and self.is_image(image):
                self.place(setting, image, rf"(?<=\s){name}=[\"']?IMAGE[\"']?(?=\s|\Z)")

    def sources(self, instruction: Instruction) -> None:
        inner = instruction.sub or instruction
        for flag in inner.flags:
            key, _, value = flag.partition("=")
            if key == "--from" and inner.name in ("copy", "add"):
                images: Sequence[str] = [value]
            elif key == "--mount" and inner.name == "run":
                images = [f.partition("=")[2] for f in value.split(",") if f.lower().startswith("from=")]
            else:
                continue
            for image in images:
                if not image.isdigit() and self.is_image(image):
                    self.place(instruction, image, r"(?i:from)=[\"']?IMAGE(?=[\s,\"'\\]|\Z)")

    def is_image(self, name: str) -> bool:
        if "$" in name:
            return True
        return bool(name) and name.lower() not in self.stages and name not in _RESERVED

    def place(self, instruction: Instruction, image: str, pattern: str) -> None:
        """Note an image in the source of an instruction; ``pattern`` holds it as IMAGE."""
        if "$" in image:
            self.skipped.append(Skipped(instruction.range.start, image))
            return
        start, end = self.offsets[instruction.range.start - 1], self.offsets[instruction.range.end]
        for match in re.finditer(
            pattern.replace("IMAGE", f"(?P<image>{re.escape(image)})"), self.text[start:end]
        ):
            at = start + match.start("image")
            place = Place(self.text.count("\n", 0, at) + 1, at, at + len(image), image)
            if place not in self.found:
                self.found.append(place)
                return


def undigested(image: str) -> str:
    """An image's name without its digest."""
    return image.partition("@")[0]
