"""dockerfile-parse's reader and editor, over the full grammar.

``DockerfileParser`` knows neither heredocs nor flags, and of directives only ``escape``. Here its
``structure`` comes from our parser and its values from our expansion, so that tools written for that
class go on working, and its editing properties serve ``pybuild pin`` and the like.
"""

from __future__ import annotations

from collections.abc import Iterator
from shlex import quote

from dockerfile_parse import DockerfileParser
from dockerfile_parse.parser import Args, Envs, Labels
from dockerfile_parse.util import Context

from buildkit_py.frontends.dockerfile import expand
from buildkit_py.frontends.dockerfile.ast import Dockerfile, Instruction
from buildkit_py.frontends.dockerfile.lexer import Lexer
from buildkit_py.frontends.dockerfile.parser import read
from buildkit_py.frontends.dockerfile.words import split_first
from buildkit_py.typed import Any

_WRAPPERS = {"LABEL": Labels, "ENV": Envs, "ARG": Args}


class DockerfileReader(DockerfileParser):  # type: ignore[misc]  # the package has no types
    """Reads and edits a Dockerfile given by ``path`` (its directory, or a file whose name ends in
    ``Dockerfile``) or ``fileobj`` (a seekable binary file).

    Raises DockerfileError where the file can't be parsed. A file without instructions is read as one.
    """

    @property
    def lines(self) -> list[str]:
        """The lines with their ends; only a line feed ends one."""
        return [line + "\n" for line in self.content.split("\n")[:-1]] + self._last_line()

    @lines.setter
    def lines(self, lines: list[str]) -> None:
        self.content = "".join(lines)

    @property
    def content(self) -> str:
        """The text. Bytes that are not UTF-8 are kept as surrogates, and written as they were."""
        cached: str = self.__dict__.get("cached_content", "")
        if self.cache_content and cached:
            return cached
        with self._open_dockerfile("rb") as file:
            content: str = file.read().decode("utf-8", "surrogateescape")
        if self.cache_content:
            self.__dict__["cached_content"] = content
        return content

    @content.setter
    def content(self, content: str | bytes) -> None:
        data = content if isinstance(content, bytes) else content.encode("utf-8", "surrogateescape")
        if self.cache_content:
            self.__dict__["cached_content"] = data.decode("utf-8", "surrogateescape")
        with self._open_dockerfile("wb") as file:
            file.write(data)

    def _last_line(self) -> list[str]:
        last = self.content.rpartition("\n")[2]
        return [last] if last else []

    @property
    def tree(self) -> Dockerfile:
        """The syntax tree. Raises DockerfileError."""
        path = getattr(self, "dockerfile_path", "Dockerfile")
        data = self.content.encode("utf-8", "surrogateescape")
        return read(Lexer(data or b"\n", path))

    @property
    def structure(self) -> list[dict[str, Any]]:
        """As in the base class: ``instruction`` (upper case, COMMENT for a comment), ``startline``,
        ``endline`` (from 0), ``content`` (the source, heredoc bodies included) and ``value`` (the joined
        line without the instruction; heredoc bodies follow it).
        """
        tree = self.tree
        lines = self.lines
        found: list[dict[str, Any]] = []
        at = 0
        for instruction in tree.instructions:
            start, end = instruction.range.start - 1, instruction.range.end
            found += _comments(lines, at, start)
            found += _comments(lines, start, end - _body_lines(instruction))
            found.append(_described(instruction, start, end - 1, "".join(lines[start:end])))
            at = end
        found += _comments(lines, at, len(lines))
        return found

    @property
    def parent_images(self) -> list[str]:
        """The image of each FROM, ARGs before the first FROM put in."""
        return [
            self._from_words(i, values)[0] for i, values, _ in self._walk() if i.name == "from" and i.args
        ]

    @parent_images.setter
    def parent_images(self, parents: list[str]) -> None:
        images = list(parents)
        tree = self.tree
        froms = [i for i in tree.instructions if i.name == "from" and i.args]
        if len(images) < len(froms):
            raise RuntimeError("not enough parents to match build stages")
        if len(images) > len(froms):
            raise RuntimeError("trying to update too many parents for build stages")
        lines = self.lines
        for instruction, image in reversed(list(zip(froms, images, strict=True))):
            if image == instruction.args[0]:
                continue
            words = [instruction.written, *instruction.flags, image, *instruction.args[1:]]
            lines[instruction.range.start - 1 : instruction.range.end] = [" ".join(words) + "\n"]
        self.lines = lines

    @property
    def baseimage(self) -> str | None:
        """The image of the last FROM, None where there is none."""
        images = self.parent_images
        return images[-1] if images else None

    @baseimage.setter
    def baseimage(self, image: str) -> None:
        written = [i.args[0] for i in self.tree.instructions if i.name == "from" and i.args]
        if not written:
            raise RuntimeError("No stage defined to set base image on")
        self.parent_images = [*written[:-1], image]

    @property
    def context_structure(self) -> list[Context]:
        """For each entry of ``structure``, comments aside, the variables and labels behind it."""
        found = []
        before = Context()
        for instruction, _, pairs in self._walk():
            if instruction.name == "from":
                before = Context(envs=dict(self.parent_env))
            context = Context(args=dict(before.args), envs=dict(before.envs), labels=dict(before.labels))
            if instruction.name in ("arg", "env", "label"):
                kept = pairs if self.env_replace else self._plain_pairs(instruction)
                context.set_line_value(context_type=instruction.name.upper(), value=dict(kept))
            found.append(context)
            before = context
        return found

    # Values

    def _from_words(self, instruction: Instruction, values: dict[str, str]) -> list[str]:
        escape = self.tree.escape
        return [expand.expand(word, values, escape).text for word in instruction.args[:1]]

    def _walk(self) -> Iterator[tuple[Instruction, dict[str, str], list[tuple[str, str]]]]:
        """Each instruction, the variables that it sees, and the pairs that ARG, ENV or LABEL set."""
        tree = self.tree
        top: dict[str, str] = {}
        values: dict[str, str] = {}
        stages: dict[str, dict[str, str]] = {}
        in_stage = False
        parent_env: dict[str, str] = self.parent_env
        for instruction in tree.instructions:
            if instruction.name == "from":
                yield instruction, top, []
                base = self._from_words(instruction, top)
                values = dict(stages.get(base[0].lower() if base else "", parent_env))
                in_stage = True
                if len(instruction.args) == 3:
                    stages[instruction.args[2].lower()] = values
                continue
            seen = values if in_stage else top
            pairs = self._pairs(instruction, seen, top, tree.escape)
            yield instruction, seen, pairs
            if instruction.name in ("arg", "env"):
                bare = {word for word in instruction.args if "=" not in word}
                for name, value in pairs:
                    if instruction.name == "env" or value or name not in bare:
                        seen[name] = value

    def _pairs(
        self, instruction: Instruction, values: dict[str, str], top: dict[str, str], escape: str
    ) -> list[tuple[str, str]]:
        if instruction.name in ("env", "label"):
            words = [expand.expand(word, values, escape).text for word in instruction.args]
            return list(zip(words[::2], words[1::2], strict=True))
        if instruction.name != "arg":
            return []
        found = []
        for word in instruction.args:
            name, equals, default = word.partition("=")
            name = expand.unquote(name, escape)
            value = expand.expand(default, values, escape).text if equals else top.get(name, "")
            found.append((name, str(self.build_args.get(name, value))))
        return found

    def _plain_pairs(self, instruction: Instruction) -> list[tuple[str, str]]:
        """Names and values with quotes removed and variables as they stand."""
        escape = self.tree.escape
        words = list(instruction.args)
        if instruction.name == "arg":
            words = [part for word in words for part in word.partition("=")[::2]]
        words = [expand.unquote(word, escape) for word in words]
        return list(zip(words[::2], words[1::2], strict=True))

    def _instruction_getter(self, name: str, env_replace: bool) -> Any:
        """What the last stage sets; the base class builds ``labels``, ``envs`` and ``args`` on it."""
        if name not in _WRAPPERS:
            raise ValueError(f"Unsupported instruction '{name}'")
        found: dict[str, str] = {}
        for instruction, _, pairs in self._walk():
            if instruction.name == "from":
                found.clear()
            elif instruction.name == name.lower():
                # A value of ARG is replaced by build arguments whatever env_replace says.
                plain = not env_replace and name != "ARG"
                found.update(self._plain_pairs(instruction) if plain else pairs)
        return _WRAPPERS[name](found, self)

    # Editing

    def _modify_instruction_label_env(
        self, instruction: str, instr_key: str, instr_value: str | None
    ) -> None:
        """Change the last place that sets a name, or take every place of the last stage away."""
        if instr_key not in self._instruction_getter(instruction, self.env_replace):
            raise KeyError(f"{instr_key} not in {instruction}s")
        lines = self.lines
        for candidate, names in reversed(self._last_stage(instruction)):
            if instr_key not in names:
                continue
            words = _assignments(candidate)
            if instr_value is None:
                words = [word for word, name in zip(words, names, strict=True) if name != instr_key]
            else:
                index = len(names) - 1 - names[::-1].index(instr_key)
                words[index] = f"{words[index].partition('=')[0]}={quote(instr_value)}"
            line = [" ".join([candidate.written, *words]) + "\n"] if words else []
            lines[candidate.range.start - 1 : candidate.range.end] = line
            if instr_value is not None:
                break
        self.lines = lines

    def _last_stage(self, name: str) -> list[tuple[Instruction, list[str]]]:
        """The last stage's instructions of a kind, with the names that each sets."""
        found: list[tuple[Instruction, list[str]]] = []
        for instruction, _, pairs in self._walk():
            if instruction.name == "from":
                found = []
            elif instruction.name == name.lower():
                found.append((instruction, [key for key, _ in pairs]))
        return found

    def _add_instruction(self, instruction: str, value: Any) -> None:
        if instruction in _WRAPPERS and len(value) == 2:
            value = "=".join(map(quote, value))
        lines = self.lines
        if lines and not lines[-1].endswith("\n"):
            lines[-1] += "\n"
        self.lines = [*lines, f"{instruction} {value}\n"]


def _assignments(instruction: Instruction) -> list[str]:
    """``name=value`` words as written."""
    if instruction.name == "arg":
        return list(instruction.args)
    # The old form has one pair, which is either replaced or dropped: its quoting doesn't matter.
    return [
        f"{name}={value}" for name, value in zip(instruction.args[::2], instruction.args[1::2], strict=True)
    ]


def _described(instruction: Instruction, start: int, end: int, content: str) -> dict[str, Any]:
    value = split_first(instruction.text)[1]
    current: Instruction | None = instruction
    while current is not None:
        for heredoc in current.heredocs:
            value += f"\n{heredoc.content}{heredoc.name}"
        current = current.sub
    return {
        "instruction": instruction.name.upper(),
        "startline": start,
        "endline": end,
        "content": content,
        "value": value,
    }


def _body_lines(instruction: Instruction) -> int:
    count = 0
    current: Instruction | None = instruction
    while current is not None:
        count += sum(heredoc.content.count("\n") + 1 for heredoc in current.heredocs)
        current = current.sub
    return count


def _comments(lines: list[str], start: int, end: int) -> list[dict[str, Any]]:
    return [
        {
            "instruction": "COMMENT",
            "startline": index,
            "endline": index,
            "content": lines[index],
            "value": _bare(lines[index])[1:].lstrip().rstrip("\n"),
        }
        for index in range(start, end)
        if _bare(lines[index]).startswith("#")
    ]


def _bare(line: str) -> str:
    return line.removeprefix("\ufeff").lstrip()
