"""The source ops: an image's root file system, a local directory, files in the Dockerfile itself, files by
HTTP, git repositories."""

from __future__ import annotations

import os
from collections.abc import Sequence

from buildkit_py.cache import keys
from buildkit_py.digest import Digest
from buildkit_py.llb.graph import Node
from buildkit_py.llb.ops import GitSource, HttpSource, ImageSource, InlineSource, LocalSource
from buildkit_py.progress.events import Emit
from buildkit_py.solver.types import Hit, Key, Result
from buildkit_py.typed import TYPE_CHECKING
from buildkit_py.worker.context import BuildContext
from buildkit_py.worker.handler import Handler

if TYPE_CHECKING:
    from buildkit_py.snapshot.tree import Tree
    from buildkit_py.source.http import HttpFile
    from buildkit_py.source.temporary import TemporaryDirectory


class ImageHandler(Handler):
    """Pulled and unpacked when a step first needs it."""

    def key(self, ctx: BuildContext, node: Node, op: ImageSource, inputs: Sequence[Digest]) -> Key:
        return keys.image_key(op)

    def run(
        self, ctx: BuildContext, node: Node, op: ImageSource, key: Key, results: Sequence[Result], emit: Emit
    ) -> Result:
        snapshot = ctx.images.unpack(Digest(op.digest), emit, node.digest)
        if snapshot is not None:
            ctx.index.put(key, snapshot, name=node.meta.name, step="")
        return snapshot


class LocalHandler(Handler):
    """Read in place; it has no key of its own: what is copied from it counts."""

    def key(self, ctx: BuildContext, node: Node, op: LocalSource, inputs: Sequence[Digest]) -> Key:
        return keys.key_of({"op": "local"})

    def load(self, ctx: BuildContext, node: Node, op: LocalSource, key: Key) -> Hit:
        return Hit(ctx.open_local(op.name, op.ignore).tree)


class InlineHandler(Handler):
    """Heredocs."""

    def key(self, ctx: BuildContext, node: Node, op: InlineSource, inputs: Sequence[Digest]) -> Key:
        return keys.key_of({"op": "inline", "files": op.files})

    def load(self, ctx: BuildContext, node: Node, op: InlineSource, key: Key) -> Hit:
        return Hit(ctx.open_inline(op.files))


class HttpHandler(Handler):
    """Keyed by the file's content: by its checksum where the Dockerfile gives one, and then the server isn't
    asked at all; else by what the server has now."""

    def needs_fetch(self, op: HttpSource) -> bool:
        return not op.checksum

    def fetch(self, ctx: BuildContext, node: Node, op: HttpSource, emit: Emit) -> bool:
        """Ask the server; whether anything was read."""
        http = ctx.services.remote.http
        before = http.known(op.url)
        return http.get(op.url, emit, node.digest) != before

    def key(self, ctx: BuildContext, node: Node, op: HttpSource, inputs: Sequence[Digest]) -> Key:
        digest, name = Digest(op.checksum), op.name
        if not digest or not name:
            found = ctx.services.remote.http.get(op.url)
            digest, name = digest or found.digest, _name(op, found)
        return keys.key_of({"op": "http", "digest": digest, "name": name})

    def load(self, ctx: BuildContext, node: Node, op: HttpSource, key: Key) -> Hit | None:
        digest = Digest(key.record["digest"])
        http = ctx.services.remote.http
        return Hit(_tree(ctx, op, http.ensure(op.url, digest))) if http.has(digest) else None

    def run(
        self, ctx: BuildContext, node: Node, op: HttpSource, key: Key, results: Sequence[Result], emit: Emit
    ) -> Result:
        digest = Digest(key.record["digest"])
        return _tree(ctx, op, ctx.services.remote.http.ensure(op.url, digest, emit, node.digest))


def _name(op: HttpSource, found: HttpFile) -> str:
    return op.name or found.name or "download"


def _tree(ctx: BuildContext, op: HttpSource, found: HttpFile) -> Tree:
    from buildkit_py.source.filetree import FileTree

    return FileTree(ctx.services.remote.http.path(found), _name(op, found), found.mtime)


class GitHandler(Handler):
    """Keyed by the commit; its files are kept as a snapshot."""

    def needs_fetch(self, op: GitSource) -> bool:
        return True

    def fetch(self, ctx: BuildContext, node: Node, op: GitSource, emit: Emit) -> bool:
        """Check the files out where they are not here; whether that was so."""
        key = self.key(ctx, node, op, ())
        found = ctx.index.get(key.digest)
        if found is not None and ctx.snapshots.whole(found) and not node.meta.no_cache:
            return False
        files = ctx.checkouts[node.digest] = _check_out(ctx, op, key)
        ctx.services.stack.callback(files.remove)
        return True

    def key(self, ctx: BuildContext, node: Node, op: GitSource, inputs: Sequence[Digest]) -> Key:
        commit = ctx.services.remote.git.resolve(op)
        record = {
            "op": "git",
            "commit": commit,
            "subdir": op.subdir,
            "submodules": op.submodules,
            # A kept .git names its origin.
            "git-dir": op.url if op.keep_git_dir else "",
        }
        return keys.key_of(record)

    def run(
        self, ctx: BuildContext, node: Node, op: GitSource, key: Key, results: Sequence[Result], emit: Emit
    ) -> Result:
        files = ctx.checkouts.pop(node.digest, None) or _check_out(ctx, op, key)
        with files, ctx.snapshots.prepare() as staged:
            for name in os.listdir(files.path):
                os.rename(os.path.join(files.path, name), os.path.join(staged.fs, name))
            snapshot = ctx.snapshots.commit(staged, None)
        ctx.index.put(key, snapshot, name=node.meta.name, step="")
        return snapshot


def _check_out(ctx: BuildContext, op: GitSource, key: Key) -> TemporaryDirectory:
    from buildkit_py.source.temporary import TemporaryDirectory

    files = TemporaryDirectory(ctx.root)
    try:
        with TemporaryDirectory(ctx.root) as scratch:
            ctx.services.remote.git.check_out(op, key.record["commit"], files.path, scratch.path)
    except BaseException:
        files.remove()
        raise
    return files
