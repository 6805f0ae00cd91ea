"""ADD: as COPY, and archives are unpacked, URLs and git repositories fetched."""

from __future__ import annotations

import posixpath

from buildkit_py.digest import Digest, is_valid
from buildkit_py.frontends.dockerfile import transfer
from buildkit_py.frontends.dockerfile.ast import Instruction
from buildkit_py.frontends.dockerfile.stage import StageState, flag, flag_bool
from buildkit_py.llb.address import shown
from buildkit_py.llb.ops import Copy, GitSource, HttpSource


def apply(state: StageState, instruction: Instruction) -> None:
    found = transfer.words(state, instruction)
    chown, chmod = transfer.ownership(state, instruction)
    inputs: list[Digest] = []
    actions: list[Copy] = []
    exclude = transfer.excludes(instruction)
    unpack = flag_bool(instruction, "unpack")
    local = tuple(source for source in found.sources if not is_git(source) and not is_url(source))
    _check_remote_flags(state, instruction, found.sources, local)
    if len(local) < len(found.sources) > 1:
        transfer.need_directory(state, instruction, found.dest)
    if local:
        inputs.append(state.conversion.local())
        state.conversion.note("context-sources", instruction, *local)
        how = "never" if unpack is False else "auto"
        actions.append(
            Copy(0, local, found.dest, chown=chown, chmod=chmod, exclude=exclude, unpack=how)  # type: ignore[arg-type]
        )
    for source in found.sources:
        if source in local:
            continue
        if is_git(source):
            inputs.append(_git(state, instruction, source))
            action = Copy(len(inputs) - 1, ("/",), found.dest, exclude=exclude)
        else:
            action = _url(state, instruction, source, found.dest, inputs)
        actions.append(action._replace(chown=chown, chmod=chmod))
    if found.heredocs:
        inputs.append(state.inline(instruction, found.heredocs))
        names = tuple(name for name, _, _ in found.heredocs)
        actions.append(Copy(len(inputs) - 1, names, found.dest, chown=chown, chmod=chmod))
    transfer.emit(state, instruction, actions, inputs, state.step(instruction))
    transfer.history(state, instruction, found, chown, chmod)


def is_url(source: str) -> bool:
    return source.startswith(("http://", "https://")) and not is_git(source)


def is_git(source: str) -> bool:
    """git@host:path, git:// and ssh:// URLs, and http URLs whose path ends in ``.git``."""
    if source.startswith(("git://", "ssh://", "git@")):
        return True
    if not source.startswith(("http://", "https://")):
        return False
    return source.partition("#")[0].partition("?")[0].endswith(".git")


def _check_remote_flags(
    state: StageState, instruction: Instruction, sources: tuple[str, ...], local: tuple[str, ...]
) -> None:
    checksum = flag(instruction, "checksum")
    if checksum and (len(sources) != 1 or local):
        raise state.fail(
            instruction,
            "ADD --checksum is for exactly one source, a URL or git repository",
            word=f"--checksum={flag(instruction, 'checksum')}",
        )
    if flag_bool(instruction, "keep-git-dir") and not any(is_git(s) for s in sources):
        raise state.fail(instruction, "ADD --keep-git-dir is for git repositories", word="--keep-git-dir")


def _url(state: StageState, instruction: Instruction, source: str, dest: str, inputs: list[Digest]) -> Copy:
    unpack = flag_bool(instruction, "unpack") is True
    name = _file_name(source)
    if not name and dest.endswith("/") and not unpack:
        raise state.fail(
            instruction,
            f"ADD {source}: the URL gives no file name",
            hint="give the destination a file name",
            word=source,
        )
    checksum = state.expand(instruction, flag(instruction, "checksum"))
    if checksum and not is_valid(checksum):
        raise state.fail(
            instruction,
            f"--checksum={checksum} is not a SHA-256 digest",
            hint="it is written sha256: and 64 hex digits; `curl -L URL | sha256sum` tells them",
            word=f"--checksum={checksum}",
        )
    node = HttpSource(source, checksum, name or "download")
    inputs.append(state.add(node, (), state.meta(instruction, shown(source))))
    return Copy(len(inputs) - 1, (node.name,), dest, keep_owner=True, unpack="always" if unpack else "never")


def _file_name(source: str) -> str:
    """The last component of a URL's path, decoded; "" where it has none that can be a file's name."""
    from urllib.parse import unquote

    path = source.partition("://")[2].partition("#")[0].partition("?")[0].partition("/")[2]
    name = posixpath.basename(unquote(path, errors="surrogateescape").rstrip("/"))
    return "" if name in (".", "..") or "\0" in name else name


def _git(state: StageState, instruction: Instruction, source: str) -> Digest:
    checksum = state.expand(instruction, flag(instruction, "checksum"))
    try:
        node = parse_git(source)
    except ValueError as error:
        raise state.fail(instruction, f"ADD {source}: {error}", word=source) from None
    if checksum and node.checksum not in ("", checksum):
        raise state.fail(instruction, "ADD: --checksum and the URL's checksum= differ", word="--checksum")
    keep = flag_bool(instruction, "keep-git-dir")
    node = node._replace(
        checksum=checksum or node.checksum, keep_git_dir=node.keep_git_dir if keep is None else keep
    )
    return state.add(node, (), state.meta(instruction, shown(source)))


def parse_git(source: str) -> GitSource:
    """``URL[?ref=&subdir=…][#ref[:subdir]]``. Raises ValueError."""
    from urllib.parse import parse_qsl

    address, _, fragment = source.partition("#")
    address, _, query = address.partition("?")
    ref, _, subdir = fragment.partition(":")
    values: dict[str, str] = {}
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key in values:
            raise ValueError(f"the query has {key} twice")
        values[key] = value
    spaces = (("ref", ""), ("branch", "refs/heads/"), ("tag", "refs/tags/"))
    refs = [space + values.pop(key) for key, space in spaces if key in values]
    if len(refs) > 1 or (refs and ref):
        raise ValueError("more than one of a fragment, ref=, branch= and tag=")
    if subdir and "subdir" in values:
        raise ValueError("the subdirectory is given twice")
    node = GitSource(
        address,
        ref=ref or (refs[0] if refs else ""),
        subdir=subdir or values.pop("subdir", ""),
        checksum=values.pop("checksum", "") or values.pop("commit", ""),
        keep_git_dir=_boolean(values.pop("keep-git-dir", "false")),
        submodules=_boolean(values.pop("submodules", "true")),
    )
    if values:
        raise ValueError(f"unknown query key {next(iter(values))!r}")
    return node


def _boolean(text: str) -> bool:
    if text.lower() in ("", "1", "true"):
        return True
    if text.lower() in ("0", "false"):
        return False
    raise ValueError(f"expected true or false, not {text!r}")
