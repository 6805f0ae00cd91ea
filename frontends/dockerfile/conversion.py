"""The stages of one Dockerfile while they are converted, and everything that they share.

A stage is converted when it is first wanted, so what the target doesn't need is neither resolved nor
emitted, and ONBUILD triggers may bring new dependencies at any time.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping

from buildkit_py.digest import Digest
from buildkit_py.errors import DockerfileError, ImageError, NotFoundError, RegistryError, UsageError
from buildkit_py.frontends.dockerfile import args, expand, platform, semantics
from buildkit_py.frontends.dockerfile.ast import Dockerfile, Instruction, Range, Stage
from buildkit_py.frontends.dockerfile.instructions import handler
from buildkit_py.frontends.dockerfile.instructions.from_ import begin
from buildkit_py.frontends.dockerfile.options import ConvertOptions, context_image, epoch, timestamp
from buildkit_py.frontends.dockerfile.platform import Platform
from buildkit_py.frontends.dockerfile.stage import StageState
from buildkit_py.llb.address import shown
from buildkit_py.llb.graph import Graph, Meta
from buildkit_py.llb.ops import GitSource, ImageSource, InlineSource, LocalSource
from buildkit_py.llb.result import BuildTarget, ImageResolver, ResolvedImage
from buildkit_py.tuples import NamedTuple
from buildkit_py.typed import Any

_MAX_HISTORY = 16 << 20
"""Characters. A short file can ask for gigabytes: EXPOSE 0-65535 and long variables, line after line."""

_MAX_SUGGESTIONS = 20
"""Unset variables that are compared with the names of others."""

_MAX_NESTING = 60
"""Of stages that refer to later ones; Python's stack ends somewhere."""


class Note(NamedTuple):
    """What a build check wants to know and only the conversion sees."""

    kind: str
    range: Range
    data: tuple[str, ...]


class Resolver:
    """Resolves each image once, whatever number of stages uses it."""

    def __init__(self, images: ImageResolver) -> None:
        self._images = images
        self._found: dict[tuple[str, str], ResolvedImage] = {}

    def __call__(self, ref: str, wanted: Platform) -> ResolvedImage:
        key = (ref, str(wanted))
        if key not in self._found:
            self._found[key] = self._images.resolve(ref, str(wanted))
        return self._found[key]


class Conversion:
    """One platform's conversion: the stages, and everything that they share."""

    def __init__(
        self,
        dockerfile: Dockerfile,
        options: ConvertOptions,
        resolve: Resolver,
        graph: Graph,
        target_platform: Platform,
        *,
        several: bool = False,
    ) -> None:
        """``several``: other platforms are built beside this one, so that steps are to be told apart."""
        self.dockerfile = dockerfile
        self._prefix = str(target_platform) if several else ""
        self.options = options
        self.graph = graph
        self.target_platform = target_platform
        self.build_platform = platform.host()
        self.stages: tuple[Stage, ...] = semantics.stages(dockerfile)
        self._named: dict[str, list[int]] = {}
        for stage in self.stages:
            if stage.name:
                self._named.setdefault(stage.name, []).append(stage.index)
        self.notes: list[Note] = []
        self.states: dict[int, StageState] = {}
        self.created = timestamp(epoch(options))
        self._resolve = resolve
        self._converting: list[int] = []
        self._spent = 0
        self._unset = 0
        self.target_stage = self._find_target()
        self.globals = args.automatic(
            target_platform, self.build_platform, options.target, options.build_args
        )
        self.declared_globals: dict[str, str | None] = {}
        self._convert_globals()

    # Errors and words

    def fail(self, place: Range | None, message: str, *, hint: str = "", word: str = "") -> DockerfileError:
        """The error to raise; its caret goes to ``word``, and where that isn't found to the instruction."""
        return DockerfileError(
            message,
            path=self.dockerfile.path,
            start=place.start if place else 0,
            end=place.end if place else 0,
            lines=self.dockerfile.lines,
            hint=hint,
            word=word,
        )

    def expand(
        self, instruction: Instruction, word: str, values: Mapping[str, str], how: Any = expand.expand
    ) -> Any:
        """Call an expansion, with the instruction's place in its error."""
        try:
            return how(word, values, self.dockerfile.escape)
        except expand.ExpansionError as error:
            failure = self.fail(instruction.range, error.message, hint=error.hint, word=word)
            at = self.dockerfile.lines[failure.start - 1].find(word) if failure.start else -1
            failure.column = at + error.offset + 1 if at >= 0 else 0
            raise failure from None

    def note(self, kind: str, instruction: Instruction, *data: str) -> None:
        self.notes.append(Note(kind, instruction.range, data))

    def note_unset(self, kind: str, instruction: Instruction, name: str, known: Iterable[str]) -> None:
        """An unset variable, and the names that it may be a slip of: of so many only, for a short file can
        hold thousands of both."""
        self._unset += 1
        self.note(kind, instruction, name, *(known if self._unset <= _MAX_SUGGESTIONS else ()))

    def spend(self, characters: int) -> None:
        """Count text that ends in the config. Raises DockerfileError where it is beyond all reason."""
        self._spent += characters
        if self._spent > _MAX_HISTORY:
            raise self.fail(None, f"the image's history grows beyond {_MAX_HISTORY >> 20} MiB")

    def check(self, dockerfile: Dockerfile) -> DockerfileError | None:
        return semantics.check(dockerfile)

    def expand_global(self, instruction: Instruction, word: str) -> str:
        """A word of FROM or of a global ARG."""
        result: expand.Expansion = self.expand(instruction, word, self.globals)
        for name in result.unset:
            if name not in self.declared_globals:
                self.note_unset("unset-global", instruction, name, self.globals)
        return result.text

    # Stages

    def _find_target(self) -> Stage:
        wanted = self.options.target
        if not wanted:
            return self.stages[-1]
        found = self.find(wanted)
        if found is None:
            names = [stage.name for stage in self.stages if stage.name]
            raise self.fail(
                None,
                f"target stage {wanted!r} could not be found",
                hint="stages of this file: " + ", ".join(names) if names else "this file names no stage",
            )
        return found

    def find(self, name: str) -> Stage | None:
        """A stage by name, or by index."""
        found = self.find_name(name)
        if found is None and name.isascii() and name.isdigit() and len(name) < 10:
            return self.stages[int(name)] if int(name) < len(self.stages) else None
        return found

    def find_name(self, name: str, *, before: int | None = None, but: int = -1) -> Stage | None:
        """The last stage of a name, whatever its case: of all, of those before an index, or but one."""
        indexes = self._named.get(name.lower(), [])
        end = len(indexes) if before is None else bisect_left(indexes, before)
        if end and indexes[end - 1] == but:
            end -= 1
        return self.stages[indexes[end - 1]] if end else None

    def label(self, stage: Stage) -> str:
        """How progress names a stage; empty for the only, unnamed one."""
        name = stage.name if stage.name or len(self.stages) == 1 else f"stage-{stage.index}"
        return f"{self._prefix} {name}".strip()

    def skips_cache(self, stage: Stage) -> bool:
        wanted = {name.lower() for name in self.options.no_cache_filter}
        return self.options.no_cache or stage.name in wanted - {""} or str(stage.index) in wanted

    def state(self, stage: Stage, wanted_by: Instruction) -> StageState:
        """A stage, converted; ``wanted_by`` is the instruction that refers to it."""
        if stage.index in self.states:
            return self.states[stage.index]
        if stage.index in self._converting:
            self._fail_cycle(stage, wanted_by)
        if len(self._converting) >= _MAX_NESTING:
            raise self.fail(wanted_by.range, f"more than {_MAX_NESTING} stages need each other in a row")
        self._converting.append(stage.index)
        try:
            state = begin(self, stage)
            for instruction in () if self.is_replaced(stage) else stage.instructions[1:]:
                handler(instruction.name)(state, instruction)
        finally:
            self._converting.pop()
        self.states[stage.index] = state
        return state

    def is_replaced(self, stage: Stage) -> bool:
        """Whether a named context stands for the stage, and nothing of it is built."""
        return bool(stage.name) and self.named_context(stage.name) is not None

    def _fail_cycle(self, stage: Stage, wanted_by: Instruction) -> None:
        chain = self._converting[self._converting.index(stage.index) :] + [stage.index]
        names = [self.stages[i].name or str(i) for i in chain]
        if len(chain) == 2:
            message = f"stage {names[0]!r} refers to itself"
        else:
            message = "circular dependency between stages: " + " needs ".join(names)
        raise self.fail(
            wanted_by.range,
            message,
            hint="a stage can only take files from stages that don't need it",
            word=names[-1],
        )

    def target(self) -> BuildTarget:
        stage = self.target_stage
        # Stages that earlier ones are known to lead to come first, so that a long chain of them is no
        # deep recursion.
        for index in sorted(self._leading_to(stage)):
            self.state(self.stages[index], stage.instructions[0])
        state = self.state(stage, stage.instructions[0])
        document = dict(state.document)
        if self.options.labels:
            config = dict(document["config"])
            config["Labels"] = {**(config.get("Labels") or {}), **self.options.labels}
            document["config"] = config
        return BuildTarget(state.root, document, str(state.platform))

    def _leading_to(self, stage: Stage) -> set[int]:
        """The earlier stages that a stage surely needs."""
        found: set[int] = set()
        pending = [stage]
        while pending:
            for other in self._references(pending.pop()):
                if other.index not in found:
                    found.add(other.index)
                    pending.append(other)
        return found

    def _references(self, stage: Stage) -> list[Stage]:
        if self.is_replaced(stage):
            return []
        names = [(stage.base, False)]
        for instruction in stage.instructions:
            if instruction.name == "copy":
                names.extend((f[7:], True) for f in instruction.flags if f.startswith("--from="))
        found = []
        for name, by_index in names:
            other = self.find_name(name, before=stage.index)
            if other is None and by_index and "$" not in name:
                other = self.find(name)
            later = self.find_name(name, but=stage.index) if by_index else other
            if other is None or later is not other or other.index >= stage.index:
                continue
            if self.named_context(name) is None:
                found.append(other)
        return found

    # Global scope

    def _convert_globals(self) -> None:
        for instruction in self.dockerfile.instructions:
            if instruction.name != "arg":
                return
            for word in instruction.args:
                self._declare_global(instruction, word)

    def _declare_global(self, instruction: Instruction, word: str) -> None:
        name, default = args.split(word)
        value: str | None = self.options.build_args.get(name)
        if value is None and default is not None:
            value = self.expand_global(instruction, default)
        if value is None:
            value = self.globals.get(name)
        self.declared_globals[name] = value
        if value is not None:
            self.globals[name] = value

    # Sources

    def image(self, ref: str, wanted: Platform, instruction: Instruction) -> ResolvedImage:
        """Resolve an image; a failure is an error at the instruction that names it."""
        try:
            return self._resolve(ref, wanted)
        except (NotFoundError, ImageError, RegistryError, UsageError) as error:
            message = error.message if repr(ref) in error.message else f"{ref}: {error.message}"
            raise self.fail(instruction.range, message, hint=error.hint, word=ref) from error

    def image_node(self, found: ResolvedImage, wanted: Platform, meta: Meta) -> Digest:
        return self.graph.add(ImageSource(found.ref, found.digest, str(wanted)), (), meta)

    def local(self, name: str = "context") -> Digest:
        """The tree of the build context or of a named context that is no image."""
        remote = self.options.sources.get(name)
        if remote is not None:
            what = "git source" if isinstance(remote, GitSource) else "remote file"
            label = f"[internal] load {what}" if name == "context" else f"[context {name}]"
            return self.graph.add(remote, (), Meta(f"{label} {shown(remote.url)}"))
        if name == "context":
            source = LocalSource(name, self.options.ignore)
            meta = Meta("[internal] load build context")
        else:
            source = LocalSource(name, self.options.context_ignores.get(name, ()))
            meta = Meta(f"[context {name}] load from client")
        return self.graph.add(source, (), meta)

    def empty(self) -> Digest:
        """The tree of a stage without any file."""
        return self.graph.add(InlineSource(()), (), Meta("[internal] empty stage"))

    def named_context(self, name: str) -> tuple[str, str] | None:
        """(name, value) of the named context that stands for ``name``, in any of its spellings."""
        contexts = self.options.contexts
        if not contexts:
            return None
        lower = name.lower()
        short = lower.removeprefix("docker.io/").removeprefix("library/")
        spellings = {lower, short, short.removesuffix(":latest"), f"{short}:latest"}
        for key, value in contexts.items():
            plain = key.lower().removeprefix("docker.io/").removeprefix("library/")
            if key.lower() == lower or plain in spellings:
                return key, value
        return None

    def other_tree(self, name: str, wanted: Platform, instruction: Instruction) -> Digest:
        """What ``--from=name`` means where name is no stage: a named context, else an image."""
        context = self.named_context(name)
        ref = name if context is None else context_image(context[1])
        if ref is None:
            assert context is not None
            return self.local(context[0])
        found = self.image(ref, wanted, instruction)
        meta = Meta(f"FROM {found.ref}", self.dockerfile.path, instruction.range.start, instruction.range.end)
        return self.image_node(found, wanted, meta)
