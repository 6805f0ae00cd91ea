"""Why a step ran: the difference between its key and the nearest earlier one.

Earlier keys are those of the same step in the last builds of the same Dockerfile and context, those of a step
of the same text in any build that is kept, else those that a step of this name had. The nearest is the one
with the fewest differences; of several the latest.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from buildkit_py.cache.inputs import HIDDEN, FileState, Inputs, KeyInputs
from buildkit_py.history.match import equal, matches
from buildkit_py.history.record import Build, Step
from buildkit_py.history.store import History
from buildkit_py.tuples import NamedTuple
from buildkit_py.typed import Any

FAR = 50
"""Earlier builds that are looked at."""
NEAR = 5
"""Earlier keys that a key is compared with."""
SETTINGS = {
    "cwd": "working directory",
    "user": "user",
    "network": "network",
    "security": "security",
    "hostname": "host name",
    "hosts": "extra hosts",
    "ulimits": "limits",
    "shm": "size of /dev/shm",
    "devices": "devices",
    "platform": "platform",
}
"""Fields of an Exec's record, as people call them."""
MOUNT = ("kind", "target", "source", "readonly", "id", "env", "size", "owner")
"""Fields of a mount in a record (cache/keys.py), without its content."""
COPY = ("action", "destination", "keep owner", "chown", "chmod", "parents", "unpack")
MKDIR = ("action", "path", "mode", "user")


class FileChange(NamedTuple):
    path: str
    """In what is copied from."""
    old: FileState | None
    """None: it is new."""
    new: FileState | None
    """None: it is gone."""


class Reason(NamedTuple):
    """One cause. ``kind``, and what of the rest belongs to it:

    no-cache     --no-cache or --no-cache-filter
    expired      its kept result was older than --cache-ttl allows
    first        no earlier key
    unknown      its key changed, but what the earlier one was made of is not kept
    failed       it had this key before, and did not end well
    gone         it had this key before; the result is no longer in the store
    step         an earlier step (``name``) ran again
    parent       it stands on another step (``new``) than before (``old``)
    base         the image (``name``) has another digest
    file         files of a source (``name``) changed: ``files``
    content      as file, where no list of the files was kept
    arg, env     a variable (``name``) has another value; ``hidden``: it isn't told
    mount        a RUN --mount (``name``, its target) has other settings
    instruction  its text
    setting      something else that counts for a RUN or COPY (``name``)
    source       the commit or checksum of a remote source (``name``)
    format       this pybuild makes other keys than the one before

    ``old`` is None where there was nothing, ``new`` where there is nothing any more.
    """

    kind: str
    name: str = ""
    old: Any = None
    new: Any = None
    files: tuple[FileChange, ...] = ()
    hidden: bool = False


class Explanation(NamedTuple):
    """Of one step that ran."""

    number: int
    """Of the step in its build, from 1."""
    step: Step
    reasons: tuple[Reason, ...]
    previous_key: str = ""
    previous_build: str = ""
    """"" where only the key is remembered."""


class _Earlier(NamedTuple):
    key: str
    step: Step | None
    build: Build | None
    completed: bool
    """Whether a result was made under this key."""


def explain(build: Build, history: History, inputs: KeyInputs) -> list[Explanation]:
    """For each step of a build that ran, in their order."""
    return _Explainer(build, history, inputs).all()


def ran(step: Step) -> bool:
    """Whether a step was begun: it has a reason then."""
    begun = step.state in ("ran", "failed", "running") or (step.state == "canceled" and step.key)
    return bool(begun and step.op and step.op not in ("LocalSource", "InlineSource"))


class _Explainer:
    def __init__(self, build: Build, history: History, inputs: KeyInputs) -> None:
        self.build = build
        self.inputs = inputs
        self.steps = {step.digest: step for step in build.steps}
        self.earlier = _earlier_builds(build, history)
        self._matches: dict[str, dict[str, Step]] = {}

    def all(self) -> list[Explanation]:
        return [self.one(n, step) for n, step in enumerate(self.build.steps, 1) if ran(step)]

    def one(self, number: int, step: Step) -> Explanation:
        if step.forced:
            return Explanation(number, step, (Reason("no-cache"),))
        if step.expired:
            return Explanation(number, step, (Reason("expired"),))
        earlier = self.keys_before(step)
        if not earlier:
            return Explanation(number, step, (Reason("first"),))
        compared = [(tuple(self.reasons(step, before)), before) for before in earlier]
        reasons, before = min(compared, key=lambda pair: (len(pair[0]), sum(len(r.files) for r in pair[0])))
        return Explanation(number, step, reasons, before.key, before.build.id if before.build else "")

    def keys_before(self, step: Step) -> list[_Earlier]:
        """Earlier keys of a step, the latest first; where it had this very key before, that one alone."""
        found: dict[str, _Earlier] = {}
        for build in self.earlier:
            old = self.match(build).get(step.digest)
            if old is None or not old.key:
                continue
            completed = old.state in ("ran", "cached")
            known = found.get(old.key)
            if known is None:
                found[old.key] = _Earlier(old.key, old, build, completed)
            elif completed:
                found[old.key] = known._replace(completed=True)
        if step.key in found:
            return [found[step.key]]
        if not found:
            noted = [n for n in self.inputs.of_step(step.name, step.stage) if n.key != step.key]
            found = {n.key: _Earlier(n.key, None, None, True) for n in noted}
        return list(found.values())[:NEAR]

    def match(self, build: Build) -> dict[str, Step]:
        if build.id not in self._matches:
            find = matches if _origin(build) == _origin(self.build) else equal
            self._matches[build.id] = find(self.build.work, build.work)
        return self._matches[build.id]

    # Reasons

    def reasons(self, step: Step, before: _Earlier) -> Iterator[Reason]:
        if before.key == step.key:
            yield from self.same_key(step, before)
            return
        new, old = self.inputs.get(step.key), self.inputs.get(before.key)
        found = [] if new is None or old is None else list(self.differences(step, before, new, old))
        # Without the records, the steps that it stands on are all that is known.
        yield from found or self.of_inputs(step) or [Reason("unknown")]

    def same_key(self, step: Step, before: _Earlier) -> Iterable[Reason]:
        again = [s for s in self.below(step) if s.forced or s.expired or not s.key]
        if not before.completed:
            return [Reason("failed")]
        if again:
            return [Reason("step", s.name) for s in again]
        return [Reason("gone")]

    def below(self, step: Step) -> list[Step]:
        """The steps that ran of those that a step stands on."""
        found: dict[str, Step] = {}
        todo = list(step.inputs)
        while todo:
            other = self.steps.get(todo.pop())
            if other is not None and other.digest not in found and ran(other):
                found[other.digest] = other
                todo += other.inputs
        return list(found.values())

    def of_inputs(self, step: Step) -> list[Reason]:
        """The inputs that ran, or are another image."""
        return [
            Reason("step", s.name) for i in step.inputs if (s := self.steps.get(i)) is not None and ran(s)
        ]

    def differences(self, step: Step, before: _Earlier, new: Inputs, old: Inputs) -> Iterator[Reason]:
        a, b = old.record, new.record
        if not a or not b:
            return
        if a.get("op") != b.get("op"):
            yield Reason("instruction", old=_text(before, old), new=step.text)
            return
        if a.get("v") != b.get("v"):
            yield Reason("format")
            return
        yield from self.of_parent(step, before, a, b)
        op = b.get("op")
        if op == "exec":
            yield from self.of_exec(step, before, new, old)
        elif op == "file":
            yield from self.of_file(step, before, new, old)
        elif op == "merge":
            yield from self.of_merge(step, before)
        elif op == "image":
            yield from self.of_image(step, before, a, b)
        elif op in ("git", "http"):
            field = "commit" if op == "git" else "digest"
            if a.get(field) != b.get(field):
                yield Reason("source", step.text, a.get(field), b.get(field))

    def of_parent(self, step: Step, before: _Earlier, a: Any, b: Any) -> Iterator[Reason]:
        if a.get("parent") == b.get("parent"):
            return
        parent = self.steps.get(step.inputs[0]) if b.get("parent") and step.inputs else None
        old = _input(before, 0) if a.get("parent") else None
        yield from self.of_input(parent, old, a.get("parent"))

    def of_input(self, new: Step | None, old: Step | None, old_key: str | None) -> Iterator[Reason]:
        """An input has another key."""
        if new is not None and new.op == "ImageSource":
            name, _, digest = new.image.partition("@")
            was = old.image.partition("@") if old is not None and old.op == "ImageSource" else None
            if was is not None and was[0] == name:
                yield Reason("base", name, was[2], digest)
                return
            known = self.inputs.get(old_key) if old_key else None
            if was is None and known is not None and known.record.get("op") == "image":
                yield Reason("base", name, known.record.get("digest"), digest)
                return
        elif new is not None and ran(new):
            yield Reason("step", new.name)
            return
        yield Reason("parent", "", old.name if old else None, new.name if new else None)

    def of_exec(self, step: Step, before: _Earlier, new: Inputs, old: Inputs) -> Iterator[Reason]:
        a, b = old.record, new.record
        if a["args"] != b["args"]:
            yield Reason("instruction", old=_text(before, old), new=step.text)
        yield from self.of_environment(before, a["env"], b["env"])
        for field, name in SETTINGS.items():
            if a.get(field) != b.get(field):
                yield Reason("setting", name, a.get(field), b.get(field))
        yield from self.of_mounts(step, before, new, old)

    def of_environment(self, before: _Earlier, old: Sequence[str], new: Sequence[str]) -> Iterator[Reason]:
        a, b = (dict(item.partition("=")[::2] for item in env) for env in (old, new))
        builds = [self.build, *([before.build] if before.build else [])]
        args = {n for build in builds for f in ("args", "declared") for n in build.inputs.get(f, ())}
        for name in [*a, *(n for n in b if n not in a)]:
            was, now = a.get(name), b.get(name)
            if was != now:
                hidden = HIDDEN in (was or "") or HIDDEN in (now or "")
                values = (None, None) if hidden else (was, now)
                yield Reason("arg" if name in args else "env", name, *values, hidden=hidden)

    def of_mounts(self, step: Step, before: _Earlier, new: Inputs, old: Inputs) -> Iterator[Reason]:
        a, b = ({(m[0], m[1]): m for m in r.record["mounts"]} for r in (old, new))
        for place in [*a, *(p for p in b if p not in a)]:
            was, now = a.get(place), b.get(place)
            name = f"{place[0]} {place[1]}".strip()
            if was is None or now is None:
                yield Reason("mount", name, _mount(was), _mount(now))
                continue
            if was[:-1] != now[:-1]:
                yield Reason("mount", name, _mount(was), _mount(now))
            if was[-1] != now[-1]:
                yield from self.of_content(f"mount {name}", was[-1], now[-1], new, old)

    def of_file(self, step: Step, before: _Earlier, new: Inputs, old: Inputs) -> Iterator[Reason]:
        a, b = old.record["actions"], new.record["actions"]
        if len(a) != len(b) or any(x[0][0] != y[0][0] for x, y in zip(a, b, strict=True)):
            yield Reason("instruction", old=_text(before, old), new=step.text)
            return
        same_text = before.step is not None and before.step.text == step.text
        if not same_text and _text(before, old) != step.text:
            yield Reason("instruction", old=_text(before, old), new=step.text)
        for was, now in zip(a, b, strict=True):
            if same_text:
                names = MKDIR if now[0][0] == "Mkdir" else COPY
                for name, x, y in zip(names, was[0], now[0], strict=False):
                    if x != y:
                        yield Reason("setting", name, x, y)
            if was[1] != now[1] and now[0][0] != "Mkdir":
                yield from self.of_content(self.sources(step), was[1], now[1], new, old)

    def sources(self, step: Step) -> str:
        """What a step copies from."""
        inputs = [self.steps.get(i) for i in step.inputs]
        base = inputs[:1] if len(inputs) > 1 else []
        names = [_source(s) for s in inputs if s is not None and s not in base]
        return " and ".join(dict.fromkeys(names)) or "its source"

    def of_content(self, name: str, old: str, new: str, now: Inputs, was: Inputs) -> Iterator[Reason]:
        a = self.inputs.files(old, was.roots.get(old, ()))
        b = self.inputs.files(new, now.roots.get(new, ()))
        files = () if a is None or b is None else tuple(_changes(a, b))
        yield Reason("file" if files else "content", name, old, new, files)

    def of_merge(self, step: Step, before: _Earlier) -> Iterator[Reason]:
        for n, digest in enumerate(step.inputs):
            new, old = self.steps.get(digest), _input(before, n)
            if new is not None and old is not None and new.key != old.key:
                yield from self.of_input(new, old, old.key)

    def of_image(self, step: Step, before: _Earlier, a: Any, b: Any) -> Iterator[Reason]:
        if a.get("platform") != b.get("platform"):
            yield Reason("setting", "platform", a.get("platform"), b.get("platform"))
        if a.get("digest") != b.get("digest"):
            yield Reason("base", step.image.partition("@")[0], a.get("digest"), b.get("digest"))


def _earlier_builds(build: Build, history: History) -> list[Build]:
    """The nearest first: of the same Dockerfile and context, then all others."""
    before = [other for other in history.builds() if other.started < build.started][:FAR]
    same = [other for other in before if _origin(other) == _origin(build)]
    return list(chain(same, (other for other in before if other not in same)))


def _origin(build: Build) -> tuple[Any, Any]:
    return build.inputs.get("context"), build.inputs.get("dockerfile")


def _input(before: _Earlier, number: int) -> Step | None:
    if before.step is None or before.build is None or number >= len(before.step.inputs):
        return None
    wanted = before.step.inputs[number]
    return next((step for step in before.build.steps if step.digest == wanted), None)


def _text(before: _Earlier, old: Inputs) -> str:
    from buildkit_py.history.record import instruction

    return before.step.text if before.step else instruction(old.name)


def _source(step: Step) -> str:
    if step.op == "LocalSource":
        return "the build context" if step.name.startswith("[internal]") else step.name.partition("]")[0][1:]
    return "the heredoc" if step.op == "InlineSource" else step.name


def _mount(mount: Sequence[Any] | None) -> dict[str, Any] | None:
    if mount is None:
        return None
    return {
        name: value for name, value in zip(MOUNT, mount, strict=False) if value not in (None, "", 0, False)
    }


def _changes(old: dict[str, FileState], new: dict[str, FileState]) -> Iterator[FileChange]:
    for path in sorted({*old, *new}):
        a, b = old.get(path), new.get(path)
        if a != b:
            yield FileChange(path, a, b)


# As documents


def document(explanation: Explanation) -> dict[str, Any]:
    """For --format json."""
    step = explanation.step
    return {
        "number": explanation.number,
        "name": step.name,
        "state": step.state,
        "line": step.line,
        "key": step.key,
        "previous": {"key": explanation.previous_key, "build": explanation.previous_build or None}
        if explanation.previous_key
        else None,
        "reasons": [reason_document(reason) for reason in explanation.reasons],
    }


def reason_document(reason: Reason) -> dict[str, Any]:
    found: dict[str, Any] = {"kind": reason.kind}
    if reason.name:
        found["name"] = reason.name
    if reason.hidden:
        found["hidden"] = True
    elif reason.kind in VALUES:
        found |= {"old": reason.old, "new": reason.new}
    if reason.files:
        found["files"] = [_file_document(change) for change in reason.files]
    return found


VALUES = ("base", "parent", "arg", "env", "mount", "instruction", "setting", "source", "file", "content")
"""Kinds with an old and a new value."""


def _file_document(change: FileChange) -> dict[str, Any]:
    return {"path": change.path, "old": _state_document(change.old), "new": _state_document(change.new)}


def _state_document(state: FileState | None) -> dict[str, Any] | None:
    if state is None:
        return None
    found: dict[str, Any] = {"type": file_type(state.mode), "mode": f"{state.mode & 0o7777:04o}"}
    if state.uid or state.gid:
        found |= {"uid": state.uid, "gid": state.gid}
    if stat.S_ISREG(state.mode):
        found |= {"size": state.size, "digest": state.content}
    elif stat.S_ISLNK(state.mode):
        found["target"] = state.content
    if state.xattrs:
        found["xattrs"] = state.xattrs.hex()
    return found


def file_type(mode: int) -> str:
    kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link", stat.S_IFIFO: "pipe"}
    return kinds.get(stat.S_IFMT(mode), "device")
