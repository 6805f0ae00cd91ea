"""Git repositories: commits are found, fetched, and checked out.

Bare repositories below the store are the cache::

    git/<name>.git     one a URL; name: from the URL's SHA-256
                       its ``description`` is that URL, without a login
    git/<name>.lock    flock: exclusive while a process fetches into it or checks out of it; its time is
                       that of the last use

A fetch that is cut off leaves objects that nothing names; the next one goes on from there. See
gitprotocol-v2(5), gitsubmodules(7).
"""

from __future__ import annotations

import fcntl
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256

from buildkit_py.errors import PybuildError
from buildkit_py.llb.address import public, shown
from buildkit_py.llb.ops import GitSource
from buildkit_py.snapshot.dirtree import DirTree
from buildkit_py.snapshot.removal import remove_tree
from buildkit_py.source.gitcommand import PROTOCOLS, Access, GitCommand

_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?\Z")
_PREFIX = re.compile(r"[0-9a-f]{4,64}\Z")


class Repositories:
    """Any number of threads may share it."""

    def __init__(self, root: str, access: Access | None = None) -> None:
        """``root``: the store's."""
        self._folder = os.path.join(root, "git")
        self._command = GitCommand(access or Access(), os.path.join(self._folder, "known_hosts"))
        self._lock = threading.Lock()
        self._found: dict[tuple[str, str], tuple[str, str, str]] = {}

    # what a reference means

    def resolve(self, op: GitSource) -> str:
        """The commit that is meant now; asks the server only where no commit is named.

        Raises PybuildError for a reference that is not there, or that ``checksum`` contradicts.
        """
        _check(op)
        wanted = op.checksum.lower()
        if _COMMIT.match(op.ref) or (not op.ref and _COMMIT.match(wanted)):
            commit, tag = op.ref or wanted, ""
        else:
            _, commit, tag = self._look_up(op)
        if wanted and not commit.startswith(wanted) and not (tag and tag.startswith(wanted)):
            raise PybuildError(
                f"{shown(op.url)}: {op.ref or 'HEAD'} is the commit {commit}, not {op.checksum}",
                hint="the reference has moved since its checksum was taken",
            )
        return commit

    def _look_up(self, op: GitSource) -> tuple[str, str, str]:
        """(full name of the reference, commit, the annotated tag's own id or "")."""
        key = (op.url, op.ref)
        with self._lock:
            if key in self._found:
                return self._found[key]
        names = _candidates(op.ref)
        patterns = [p for name in names for p in (name, name + "^{}")]
        text = self._command.run(op.url, "ls-remote", "--", op.url, *patterns)
        offered = {}
        for line in text.splitlines():
            object_id, _, name = line.partition("\t")
            if _COMMIT.match(object_id):
                offered[name] = object_id
        for name in names:
            if name in offered:
                peeled = offered.get(name + "^{}", "")
                found = (name, peeled or offered[name], offered[name] if peeled else "")
                with self._lock:
                    self._found[key] = found
                return found
        what = f"has no branch or tag {op.ref!r}" if op.ref else "is empty"
        raise PybuildError(
            f"the git repository {shown(op.url)} {what}", hint="`git ls-remote` lists what it has"
        )

    # objects

    def fetch(self, op: GitSource, commit: str) -> None:
        """Have a commit in the cache. Raises PybuildError where the repository doesn't hold it."""
        with self._locked(op.url) as repository:
            self._have(op, commit, repository)

    def _have(self, op: GitSource, commit: str, repository: str) -> None:
        if not os.path.exists(os.path.join(repository, "HEAD")):
            self._command.run(op.url, "init", "--quiet", "--bare", "--", repository)
            with open(os.path.join(repository, "description"), "w", encoding="utf-8") as f:
                f.write(public(op.url) + "\n")
        if self._holds(op, commit, repository):
            return
        with self._lock:
            name = self._found.get((op.url, op.ref), ("", "", ""))[0]
        shallow = ("--depth=1", "--no-tags")
        tries: list[tuple[tuple[str, ...], tuple[str, ...]]] = [(shallow, (commit,))]
        if name:
            tries.insert(0, (shallow, (name,)))
        # A server may refuse commits that no reference names, or shallow copies: then everything.
        tries.append(((), ("+refs/heads/*:refs/cache/heads/*", "+refs/tags/*:refs/cache/tags/*")))
        problem: PybuildError | None = None
        for options, what in tries:
            try:
                self._git(op, repository, "fetch", "--quiet", "--force", *options, "--", op.url, *what)
            except PybuildError as e:
                problem = problem or e
                if _is_hopeless(e):
                    raise
                continue
            if self._holds(op, commit, repository):
                return
        if problem is not None:
            raise problem
        raise PybuildError(f"the git repository {shown(op.url)} has no commit {commit}")

    def _holds(self, op: GitSource, commit: str, repository: str) -> bool:
        try:
            self._git(op, repository, "rev-parse", "--quiet", "--verify", f"{commit}^{{tree}}")
        except PybuildError:
            return False
        return True

    def read(self, op: GitSource, commit: str, path: str, limit: int) -> bytes | None:
        """A file of a commit, links inside the repository followed; None where there is none.

        ``path``: below ``op.subdir``; ``limit``: bytes. Raises PybuildError for a larger file.
        """
        inside = "/".join(p for p in (*op.subdir.split("/"), *path.split("/")) if p not in ("", "."))
        if ".." in inside.split("/") or "\n" in inside:
            raise PybuildError(f"{path} is not a path inside the git repository")
        with self._locked(op.url) as repository:
            self._have(op, commit, repository)
            told = self._command.output(
                op.url,
                ("--git-dir", repository, "cat-file", "--batch-check", "--follow-symlinks"),
                input=f"{commit}:{inside}\n".encode("utf-8", "surrogateescape"),
            )
            fields = told.decode("utf-8", "surrogateescape").split("\n")[0].split(" ")
            if len(fields) != 3 or fields[1] != "blob" or not fields[2].isdigit():
                return None
            if int(fields[2]) > limit:
                raise PybuildError(f"{path} of {shown(op.url)} is larger than {limit >> 20} MiB")
            return self._command.output(op.url, ("--git-dir", repository, "cat-file", "blob", fields[0]))

    # files

    def check_out(self, op: GitSource, commit: str, directory: str, scratch: str) -> None:
        """Put the files of a commit into an empty directory; ``scratch`` is another one on the same disk.

        Raises PybuildError where ``op.subdir`` is no directory of it.
        """
        with self._locked(op.url) as repository:
            self._have(op, commit, repository)
            whole = op.keep_git_dir or (op.submodules and self._has_submodules(op, commit, repository))
            place = scratch if op.subdir.strip("/.") else directory
            if whole:
                self._clone(op, commit, repository, place)
            else:
                self._write_files(op, commit, repository, place)
        _set_times(place, self._time(op, commit))
        if place == scratch:
            tree = DirTree(scratch)
            found = tree.lookup(op.subdir, follow=True)
            if found is None or not os.path.isdir(found.host) or os.path.islink(found.host):
                raise PybuildError(f"the git repository {shown(op.url)} has no directory {op.subdir}")
            for name in os.listdir(found.host):
                os.rename(os.path.join(found.host, name), os.path.join(directory, name))

    def _time(self, op: GitSource, commit: str) -> int:
        """When a commit was made, seconds. Its files get that time: a checkout's own is a different one
        on each machine."""
        with self._locked(op.url) as repository:
            text = self._git(op, repository, "show", "--no-patch", "--format=%ct", commit, "--")
        return int(text.strip().splitlines()[-1])

    def _has_submodules(self, op: GitSource, commit: str, repository: str) -> bool:
        return bool(self._git(op, repository, "ls-tree", "--name-only", commit, "--", ".gitmodules").strip())

    def _write_files(self, op: GitSource, commit: str, repository: str, place: str) -> None:
        index = os.path.join(repository, f"index-{os.urandom(4).hex()}")
        try:
            self._command.run(
                op.url, "--git-dir", repository, "--work-tree", place, "read-tree", "--reset", "-u", commit,
                env={"GIT_INDEX_FILE": index}, cwd=place,
            )  # fmt: skip
        finally:
            if os.path.exists(index):
                os.unlink(index)

    def _clone(self, op: GitSource, commit: str, repository: str, place: str) -> None:
        """A repository of its own in ``place``, as far as its commit and submodules need it."""
        self._command.run(op.url, "init", "--quiet", "--", place)
        # The only local path that git is ever given.
        self._command.run(
            op.url, "-C", place, "fetch", "--quiet", "--depth=1", "--no-tags", "--", repository, commit,
            env={"GIT_ALLOW_PROTOCOL": "file"},
        )  # fmt: skip
        self._command.run(op.url, "-C", place, "remote", "add", "--", "origin", op.url)
        self._command.run(op.url, "-C", place, "checkout", "--quiet", "--force", "--detach", commit)
        if op.submodules and os.path.lexists(os.path.join(place, ".gitmodules")):
            self._command.run(
                op.url, "-C", place, "submodule", "--quiet", "update", "--init", "--recursive", "--force",
                "--depth=1", env={"GIT_ALLOW_PROTOCOL": ":".join(PROTOCOLS)},
            )  # fmt: skip
        if op.keep_git_dir:
            self._command.run(op.url, "-C", place, "remote", "set-url", "--", "origin", public(op.url))
            _tidy(os.path.join(place, ".git"))
        else:
            _drop_git(place)

    # the program

    @contextmanager
    def _locked(self, url: str) -> Iterator[str]:
        """The cache's repository of a URL, for this process alone."""
        name = sha256(url.encode("utf-8", "surrogateescape")).hexdigest()[:32]
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        fd = os.open(os.path.join(self._folder, name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            os.utime(fd)
            yield os.path.join(self._folder, name + ".git")
        finally:
            os.close(fd)

    def _git(self, op: GitSource, repository: str, *words: str) -> str:
        return self._command.run(op.url, "--git-dir", repository, *words)


def _check(op: GitSource) -> None:
    """Refuse what git would take for an option, or what can't be meant."""
    if op.url.startswith("-") or not op.url or any(c in op.url for c in "\0\n"):
        raise PybuildError(f"{shown(op.url)!r} is not the URL of a git repository")
    if op.ref.startswith("-") or any(c in op.ref for c in " \0\n\t~^:?*[\\") or ".." in op.ref:
        raise PybuildError(f"{shown(op.url)}: {op.ref!r} is not the name of a branch, tag or commit")
    if op.checksum and not _PREFIX.match(op.checksum.lower()):
        raise PybuildError(
            f"{shown(op.url)}: the checksum {op.checksum!r} is not a commit",
            hint="give 40 hex digits, or at least the first four of them",
        )
    if ".." in op.subdir.split("/") or "\0" in op.subdir:
        raise PybuildError(f"{shown(op.url)}: the directory {op.subdir!r} lies outside of the repository")


def _candidates(ref: str) -> list[str]:
    """Full names in the order in which git prefers them; a branch before a tag."""
    if not ref or ref == "HEAD":
        return ["HEAD"]
    if ref.startswith("refs/"):
        return [ref]
    return [f"refs/heads/{ref}", f"refs/tags/{ref}", f"refs/{ref}"]


def _is_hopeless(error: PybuildError) -> bool:
    """Whether another kind of fetch would fail just the same."""
    return bool(error.hint) or "unable to access" in error.message or "unable to connect" in error.message


def _tidy(git_dir: str) -> None:
    """Take out of a kept .git what this machine and moment would leave in it."""
    for name in ("FETCH_HEAD", "ORIG_HEAD", "description"):
        if os.path.lexists(os.path.join(git_dir, name)):
            os.unlink(os.path.join(git_dir, name))
    for name in ("hooks", "logs"):
        remove_tree(os.path.join(git_dir, name))


def _set_times(place: str, seconds: int) -> None:
    for folder, _, names in os.walk(place, topdown=False):
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            for name in names:
                os.utime(name, (seconds, seconds), dir_fd=fd, follow_symlinks=False)
            for name in os.listdir(fd):
                if os.path.islink(os.path.join(folder, name)):
                    os.utime(name, (seconds, seconds), dir_fd=fd, follow_symlinks=False)
            os.utime(fd, (seconds, seconds))
        finally:
            os.close(fd)


def _drop_git(place: str) -> None:
    """Remove ``.git`` of a working tree and of the submodules in it; no link is followed."""
    stack = [place]
    while stack:
        folder = stack.pop()
        remove_tree(os.path.join(folder, ".git"))
        with os.scandir(folder) as entries:
            stack += [e.path for e in entries if e.is_dir(follow_symlinks=False)]
