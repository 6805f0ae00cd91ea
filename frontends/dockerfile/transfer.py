"""What COPY and ADD have in common: their words, flags, heredocs, and the node that they make."""

from __future__ import annotations

import posixpath
import re

from buildkit_py.digest import Digest
from buildkit_py.frontends.dockerfile.ast import Instruction
from buildkit_py.frontends.dockerfile.stage import StageState, flag, flag_bool, flag_list
from buildkit_py.frontends.dockerfile.words import heredoc_opener
from buildkit_py.llb.graph import Meta
from buildkit_py.llb.ops import Copy, File, Merge
from buildkit_py.tuples import NamedTuple

_CLAUSE = r"[ugoa]*(?:[-+=](?:[rwxXst]*|[ugo]))+\Z"


class Words(NamedTuple):
    """An instruction's words after expansion."""

    sources: tuple[str, ...]
    """Without heredocs."""
    heredocs: tuple[tuple[str, str, int], ...]
    """As InlineSource takes them."""
    dest: str
    shown: str
    """All of them, for history."""


def words(state: StageState, instruction: Instruction) -> Words:
    """Expand the words; sources are cut before and never again. Raises DockerfileError."""
    sources: list[str] = []
    inline: list[tuple[str, str, int]] = []
    shown: list[str] = []
    pending = list(instruction.heredocs)
    raw = iter(instruction.args[:-1])
    for word in raw:
        if pending and word in ("<<", "<<-"):
            word += next(raw, "")
        if pending and heredoc_opener(word) is not None:
            heredoc = pending.pop(0)
            content = heredoc.content
            if heredoc.expand:
                content = state.expand_heredoc(instruction, content)
            if "/" in heredoc.name or heredoc.name in (".", ".."):
                raise state.fail(instruction, f"{heredoc.name!r} can't be the name of a file", word=word)
            inline.append((heredoc.name, content, 0o644))
            shown.append(word)
            continue
        source = state.expand(instruction, word)
        # Nothing is the root, as everywhere; the check UndefinedVar has told of the variable.
        sources.append(source or "/")
        shown.append(source)
    dest = state.expand(instruction, instruction.args[-1])
    shown.append(dest)
    destination = _destination(state, dest)
    if inline and sources:
        need_directory(state, instruction, destination)
    names = [name for name, _, _ in inline]
    if len(set(names)) < len(names):
        raise state.fail(
            instruction, f"{instruction.name.upper()}: two heredocs have the same name", word=shown[-2]
        )
    return Words(tuple(sources), tuple(inline), destination, " ".join(shown))


def need_directory(state: StageState, instruction: Instruction, destination: str) -> None:
    """Sources of several kinds are copied one after the other: the last would replace the others."""
    if not destination.endswith("/"):
        message = (
            f"{instruction.name.upper()} of several sources needs a directory as destination, ending in /"
        )
        raise state.fail(instruction, message, word=instruction.args[-1])


def _destination(state: StageState, dest: str) -> str:
    """Absolute and cleaned; what can only be a directory ends in ``/``."""
    path = state.absolute(dest)
    if posixpath.basename(dest) in ("", ".", ".."):
        return path.rstrip("/") + "/"
    return path


def ownership(state: StageState, instruction: Instruction) -> tuple[str, str]:
    """(``--chown``, ``--chmod``) after expansion; empty for none."""
    chown = state.expand(instruction, flag(instruction, "chown"))
    chmod = state.expand(instruction, flag(instruction, "chmod"))
    if chmod and not is_mode(chmod):
        raise state.fail(
            instruction,
            f"--chmod={chmod} is not a mode",
            hint="give an octal mode up to 7777 (755) or a symbolic one (u=rwX,go=rX)",
            word=f"--chmod={flag(instruction, 'chmod')}",
        )
    if chown and (not chown.partition(":")[0] or chown.count(":") > 1):
        raise state.fail(
            instruction,
            f"--chown={chown} is not of the form user[:group]",
            hint="for example --chown=app:app",
            word=f"--chown={flag(instruction, 'chown')}",
        )
    return chown, chmod


def is_mode(text: str) -> bool:
    """An octal mode up to 07777, or a symbolic one (chmod(1))."""
    if text.isascii() and text.isdigit():
        return len(text.lstrip("0")) <= 4 and set(text) <= set("01234567")
    return all(re.match(_CLAUSE, clause) for clause in text.split(","))


def emit(
    state: StageState, instruction: Instruction, actions: list[Copy], inputs: list[Digest], meta: Meta
) -> None:
    """Add the node. ``inputs`` are the sources' trees, which actions name from 0 on."""
    # 0644 is 644, for the cache's key too.
    actions = [a._replace(chmod=a.chmod.lstrip("0") or "0") if a.chmod.isdigit() else a for a in actions]
    names_ids = any(a.chown and not a.chown.replace(":", "").isdigit() for a in actions)
    # A name can only be looked up in the root file system below, so such a copy depends on it anyway.
    link = flag_bool(instruction, "link") is True and not names_ids
    if state.root is None or link:
        made = state.add(File(tuple(actions), base=False), tuple(inputs), meta)
        if state.root is not None:
            made = state.add(Merge(), (state.root, made), meta._replace(name=f"{meta.name} (link)"))
        state.root = made
        return
    shifted = tuple(action._replace(input=action.input + 1) for action in actions)
    state.root = state.add(File(shifted), (state.root, *inputs), meta)


def history(state: StageState, instruction: Instruction, found: Words, chown: str, chmod: str) -> None:
    """``COPY --chown=a --chmod=755 --link a b # buildkit``."""
    text = instruction.name.upper()
    if chown:
        text += f" --chown={chown}"
    if chmod:
        text += f" --chmod={chmod}"
    if flag_bool(instruction, "link"):
        text += " --link"
    state.commit(f"{text} {found.shown} # buildkit", layer=True)


def excludes(instruction: Instruction) -> tuple[str, ...]:
    return flag_list(instruction, "exclude")
