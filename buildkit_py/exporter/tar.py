"""``type=tar``: the files of the result as one tar, as the container would see them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable

from buildkit_py.archive import member as kinds
from buildkit_py.archive.member import DIRECTORY, Member
from buildkit_py.archive.tar import TarWriter
from buildkit_py.errors import StoreError
from buildkit_py.exporter import Product, Stores, attestations, output
from buildkit_py.exporter.spec import OutputSpec
from buildkit_py.progress.events import Emit
from buildkit_py.snapshot.tree import Entry, Tree
from buildkit_py.typed import Any


def export(
    spec: OutputSpec, products: tuple[Product, ...], stores: Stores, emit: Emit, vertex: str
) -> dict[str, Any]:
    split = spec.flag("platform-split", spec.as_index)
    with output.opened(spec.dest, stores.content) as fd:

        def write(data: bytes) -> None:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]

        writer = TarWriter(write)
        for product in products:
            prefix = product.platform.replace("/", "_") + "/" if split else ""
            if prefix:
                writer.add(Member(prefix[:-1], DIRECTORY, 0o755))
            tree = stores.snapshots.tree(product.snapshot)
            write_tree(tree, writer, prefix)
            for name, data in attestations.files(product.predicates, tree):
                writer.add_bytes(Member(prefix + name), data)
        writer.close()
    return {}


def write_tree(tree: Tree, writer: TarWriter, prefix: str = "") -> None:
    """Every entry below the root; hard links stay links. Sockets are left out, no archive holds them."""
    write_entries(tree, tree.walk(""), writer, prefix)


def write_entries(tree: Tree, entries: Iterable[Entry], writer: TarWriter, prefix: str = "") -> None:
    links: dict[tuple[str, int], str] = {}
    for entry in entries:
        kind = kinds.KINDS.get(stat.S_IFMT(entry.mode))
        if kind is None:
            continue
        path = prefix + entry.path
        link = entry.link
        if link is not None:
            first = links.setdefault(link, path)
            if first != path:
                writer.add(_member(entry, path, kinds.HARD_LINK, first))
                continue
        _write(tree, writer, entry, path, kind)


def _write(tree: Tree, writer: TarWriter, entry: Entry, path: str, kind: bytes) -> None:
    if kind == kinds.SYMLINK:
        writer.add(_member(entry, path, kind, tree.readlink(entry)))
        return
    member = _member(entry, path, kind)
    if kind in (kinds.REGULAR, DIRECTORY):
        member = member._replace(xattrs=tree.xattrs(entry))
    if kind != kinds.REGULAR or not entry.stat.st_size:
        writer.add(member)
        return
    try:
        fd = os.open(entry.host, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as e:
        raise StoreError(f"cannot read /{entry.path} of the result: {e.strerror}") from e
    try:
        writer.add_file(member._replace(size=entry.stat.st_size), fd)
    finally:
        os.close(fd)


def _member(entry: Entry, path: str, kind: bytes, target: str = "") -> Member:
    mode = 0o777 if kind == kinds.SYMLINK else stat.S_IMODE(entry.mode)
    rdev = entry.rdev if kind in (kinds.CHARACTER, kinds.BLOCK) else 0
    return Member(path, kind, mode, entry.uid, entry.gid, 0, entry.stat.st_mtime_ns, target, rdev)
