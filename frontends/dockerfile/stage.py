"""The state of one stage while its instructions are converted, one after the other."""

from __future__ import annotations

import posixpath

from buildkit_py.digest import Digest
from buildkit_py.errors import DockerfileError
from buildkit_py.frontends.dockerfile import expand
from buildkit_py.frontends.dockerfile.args import Scope
from buildkit_py.frontends.dockerfile.ast import Instruction, Stage
from buildkit_py.frontends.dockerfile.platform import Platform
from buildkit_py.frontends.dockerfile.words import split_first
from buildkit_py.llb.graph import Meta
from buildkit_py.llb.ops import InlineSource, Op
from buildkit_py.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from buildkit_py.frontends.dockerfile.conversion import Conversion

COMMENT = "buildkit.dockerfile.v0"
"""History's ``comment``: tools tell by it that ``created_by`` has BuildKit's form."""

STEPS = frozenset(("run", "copy", "add", "workdir"))
"""Instructions that count in ``[2/4]``; FROM of an image is one more."""


class StageState:
    """``root`` is the snapshot so far (None: nothing yet), ``document`` the image config so far.

    ``own_cmd``: this stage has had a CMD; ``own_workdir``: this file has set the working directory;
    ``places``: where variables stand in the config's Env, once this stage has set one.
    """

    __slots__ = (
        "conversion",
        "document",
        "index",
        "label",
        "no_cache",
        "number",
        "own_cmd",
        "own_workdir",
        "places",
        "platform",
        "root",
        "scope",
        "stage",
        "total",
    )

    def __init__(
        self,
        conversion: Conversion,
        stage: Stage,
        *,
        root: Digest | None,
        document: dict[str, Any],
        scope: Scope,
        platform: Platform,
    ) -> None:
        self.conversion = conversion
        self.stage = stage
        self.index = stage.index
        self.root = root
        self.document = document
        self.scope = scope
        self.platform = platform
        self.label = conversion.label(stage)
        self.no_cache = conversion.skips_cache(stage)
        self.own_cmd = False
        self.places: dict[str, int] | None = None
        self.own_workdir = False
        self.number = 0
        self.total = 0

    # What the image config says so far

    @property
    def config(self) -> dict[str, Any]:
        config: dict[str, Any] = self.document["config"]
        return config

    @property
    def user(self) -> str:
        return str(self.config.get("User") or "")

    @property
    def workdir(self) -> str:
        return str(self.config.get("WorkingDir") or "/")

    @property
    def shell(self) -> list[str]:
        return list(self.config.get("Shell") or ("/bin/sh", "-c"))

    def command(self, instruction: Instruction) -> list[str]:
        """The argument vector of an exec or shell form (shell form: SHELL and one string)."""
        if instruction.json or not instruction.args:
            return list(instruction.args)
        return [*self.shell, instruction.args[0]]

    def absolute(self, path: str) -> str:
        """path joined to the working directory, cleaned; a trailing ``/`` is not kept."""
        return "/" + posixpath.normpath(posixpath.join(self.workdir, path)).lstrip("/")

    # Words

    def expand(self, instruction: Instruction, word: str) -> str:
        """Quotes and variables of a word resolved. Raises DockerfileError with its place."""
        return self._expanded(instruction, word, expand.expand)

    def expand_heredoc(self, instruction: Instruction, text: str) -> str:
        return self._expanded(instruction, text, expand.expand_heredoc)

    def split(self, instruction: Instruction, word: str) -> list[str]:
        """Expanded, then cut at white space again (EXPOSE)."""
        result: expand.SplitExpansion = self.conversion.expand(
            instruction, word, self.scope.values, expand.split_expansion
        )
        self._note_unset(instruction, result.unset)
        return list(result.words)

    def _expanded(self, instruction: Instruction, word: str, how: Any) -> str:
        result: expand.Expansion = self.conversion.expand(instruction, word, self.scope.values, how)
        if result.unset:
            self._note_unset(instruction, result.unset)
        return result.text

    def _note_unset(self, instruction: Instruction, names: tuple[str, ...]) -> None:
        for name in names:
            if name not in self.scope.declared:
                self.conversion.note_unset("unset", instruction, name, self.scope.values)

    def fail(
        self, instruction: Instruction, message: str, *, hint: str = "", word: str = ""
    ) -> DockerfileError:
        return self.conversion.fail(instruction.range, message, hint=hint, word=word)

    # Nodes

    def step(self, instruction: Instruction, text: str = "", *, secret_env: tuple[str, ...] = ()) -> Meta:
        """The Meta of the next step that counts: ``[build 2/4] RUN make``."""
        self.number += 1
        total = str(max(self.total, self.number))
        label = f"{self.label} " if self.label else ""
        name = f"[{label}{self.number:>{len(total)}}/{total}] {text or title(instruction)}"
        return self.meta(instruction, name, secret_env=secret_env)

    def meta(self, instruction: Instruction, name: str, *, secret_env: tuple[str, ...] = ()) -> Meta:
        return Meta(
            name=name,
            path=self.conversion.dockerfile.path,
            start=instruction.range.start,
            end=instruction.range.end,
            stage=self.stage.name or str(self.index),
            no_cache=self.no_cache,
            secret_env=secret_env,
        )

    def add(self, op: Op, inputs: tuple[Digest, ...], meta: Meta) -> Digest:
        return self.conversion.graph.add(op, inputs, meta)

    def inline(self, instruction: Instruction, files: tuple[tuple[str, str, int], ...]) -> Digest:
        """A tree of files that stand in the Dockerfile."""
        meta = self.meta(instruction, "[internal] preparing inline document")
        return self.add(InlineSource(files), (), meta._replace(no_cache=False))

    # History

    def commit(self, created_by: str, *, layer: bool = False) -> None:
        """One history entry; without ``layer`` it says that no layer belongs to it."""
        self.conversion.spend(len(created_by))
        entry: dict[str, Any] = {
            "created": self.conversion.created,
            "created_by": created_by,
            "comment": COMMENT,
        }
        if not layer:
            entry["empty_layer"] = True
        self.document["history"].append(entry)


def title(instruction: Instruction) -> str:
    """An instruction as progress shows it: ``RUN make``; ``RUN <<EOF (echo hi...)``."""
    text = instruction.text.strip() or instruction.name
    word, rest = split_first(text)
    text = f"{word.upper()} {rest}".rstrip()
    for heredoc in instruction.heredocs:
        first, _, more = heredoc.content.strip().partition("\n")
        text += f" ({first}{'...' if more else ''})"
    return text


def flag(instruction: Instruction, name: str) -> str:
    """The value of ``--name=value``; empty for none."""
    prefix = f"--{name}="
    for word in instruction.flags:
        if word.startswith(prefix):
            return word[len(prefix) :]
    return ""


def flag_list(instruction: Instruction, name: str) -> tuple[str, ...]:
    prefix = f"--{name}="
    return tuple(word[len(prefix) :] for word in instruction.flags if word.startswith(prefix))


def flag_bool(instruction: Instruction, name: str) -> bool | None:
    """``--name``, ``--name=true``, ``--name=false``; None where it is not given."""
    for word in instruction.flags:
        key, equals, value = word.partition("=")
        if key == f"--{name}":
            return not equals or value.lower() == "true"
    return None
