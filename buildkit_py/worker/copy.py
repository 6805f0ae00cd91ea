"""Carry out a COPY: put the rows of a selection into a layer.

The rules (what becomes of links, owners, modes, existing directories) are those of the section "COPY and
ADD" of the Dockerfile reference. The loop over the rows is written for trees of tens of thousands of
small files: a row costs one open and create, and no look at the base where the base has no such directory.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import NamedTuple

from buildkit_py.errors import PybuildError, StoreError
from buildkit_py.linux.identity import Identity
from buildkit_py.llb.ops import Copy
from buildkit_py.snapshot.dirtree import DirTree
from buildkit_py.snapshot.layertree import LayerTree
from buildkit_py.snapshot.listing import PLAIN, Part, held_data
from buildkit_py.snapshot.owners import owners_path
from buildkit_py.worker.chmod import Change, octal, parse
from buildkit_py.worker.destination import MADE, Attributes, Destination, Directory, kind_of, write_xattrs
from buildkit_py.worker.owner import Layer, resolve_owner
from buildkit_py.worker.placement import (
    check_base,
    copy_data,
    create,
    make_room,
    make_special,
    open_source,
    write_all,
)
from buildkit_py.worker.selection import Selection

_NO_LINK = (errno.EXDEV, errno.EMLINK, errno.EPERM, errno.EOPNOTSUPP)


class Target(NamedTuple):
    """Where a part goes: into ``directory`` under the names of its rows or, a file, as ``name``."""

    directory: Directory
    name: str


def run_copy(
    action: Copy, selection: Selection, destination: Destination, layer: Layer, identity: Identity
) -> None:
    """Raises PybuildError; the layer is then to be thrown away."""
    if not selection.parts:
        return  # wildcards that match nothing
    owner = resolve_owner(destination.base, action.chown) if action.chown else None
    copier = Copier(action, selection, destination, layer, owner)
    for part, target in zip(selection.parts, targets(action, selection, destination, owner), strict=True):
        copier.copy(part, target)


def targets(
    action: Copy, selection: Selection, destination: Destination, owner: tuple[int, int] | None
) -> list[Target]:
    """One for each part of the selection."""
    path = destination.resolve(action.dest)
    mode = destination.mode(path)
    exists = mode is not None and stat.S_ISDIR(mode)
    slash = action.dest.rsplit("/", 1)[-1] in ("", ".", "..")
    if selection.several and not (slash or exists):
        raise PybuildError(
            f"several sources are copied to {action.dest}, which is not a directory",
            hint=f"end the destination with a slash: {action.dest}/",
        )
    made = made_with(action, owner)
    if len(selection.parts) == 1 and selection.parts[0].kind == "file" and not (slash or exists):
        parent, _, name = path.rpartition("/")
        return [Target(destination.enter(parent, made), name)]
    if mode is not None and not exists:
        raise PybuildError(f"cannot copy into {action.dest}: it is {kind_of(mode)}, not a directory")
    directory = destination.enter(path, made)
    return [Target(directory, part.prefix if part.kind == "file" else "") for part in selection.parts]


def made_with(action: Copy, owner: tuple[int, int] | None) -> Attributes:
    """How missing directories of the destination are made."""
    mode = octal(action.chmod)
    uid, gid = owner or (0, 0)
    return MADE._replace(mode=stat.S_IFDIR | (0o755 if mode is None else mode), uid=uid, gid=gid)


class New(NamedTuple):
    """A file about to be made in a directory of the layer."""

    row: int
    host: str
    name: str
    fd: int
    """Of the directory."""
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int


class Copier:
    """One action's copy."""

    def __init__(
        self,
        action: Copy,
        selection: Selection,
        destination: Destination,
        layer: Layer,
        owner: tuple[int, int] | None,
    ) -> None:
        self._selection = selection
        self._listing = selection.listing
        self._tree = selection.tree
        self._destination = destination
        self._ownership = destination.ownership
        self._owner = owner if owner is not None else None if action.keep_owner else (0, 0)
        self._change: Change | None = parse(action.chmod) if action.chmod else None
        self._living = isinstance(self._tree, DirTree)
        self._links: dict[tuple[int, int], str] = {}
        self._held = held_data(self._tree)
        self._share = False
        """Whether files may be links to those of the source: its layers never change, nor may theirs."""
        if isinstance(self._tree, LayerTree) and action.keep_owner and not action.chown and not action.chmod:
            self._share = True
            layer.owners.marked |= _has_records(self._tree)

    def copy(self, part: Part, target: Target) -> None:
        """The rows of one part. Parents stand before what is in them, so few rows change the directory."""
        listing, prefix, skip = self._listing, part.prefix, part.skip
        directory, above, fd = target.directory, "", -1
        base = directory.path
        try:
            for row in range(part.start, part.end):
                place = target.name or prefix + listing.paths[row][skip:]
                parent, _, name = place.rpartition("/")
                if parent != above or fd < 0:
                    path = f"{base}/{parent}" if base and parent else base or parent
                    directory, above = self._destination.enter(path), parent
                    if fd >= 0:
                        os.close(fd)
                    fd = os.open(directory.host, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    self._put(row, directory, name, fd)
                except OSError as e:
                    raise _failed(listing.paths[row], f"{directory.path}/{name}", e) from e
        finally:
            if fd >= 0:
                os.close(fd)

    def _put(self, row: int, directory: Directory, name: str, fd: int) -> None:
        listing = self._listing
        size, mtime_ns, _, _, mode = listing.stat(row)
        rare = listing.rare.get(row, PLAIN)
        uid, gid = self._owner or (rare.uid, rare.gid)
        kind = mode & 0o170000
        if self._change is not None and kind != stat.S_IFLNK:
            mode = self._change(mode)
        new = New(row, f"{directory.host}/{name}", name, fd, mode, uid, gid, size, mtime_ns)
        if kind == stat.S_IFDIR:
            xattrs = self._tree.xattrs(listing.entry(row))
            self._destination.make(directory, name, Attributes(mode, uid, gid, mtime_ns, xattrs))
            return
        if directory.base is not None:
            check_base(directory, name)
        path = f"{directory.path}/{name}" if directory.path else name
        make = self._file if kind == stat.S_IFREG else self._other
        link = rare.link
        try:
            if link is None or not self._link(link, new):
                make(new, path)
        except FileExistsError:
            make_room(self._ownership, directory, name)
            self._links = {key: host for key, host in self._links.items() if host != new.host}
            if link is None or not self._link(link, new):
                make(new, path)
        if link is not None:
            self._links[link] = new.host

    def _link(self, link: tuple[int, int], new: New) -> bool:
        """Whether new could be linked to a file that this action has made of the same source file."""
        made = self._links.get(link)
        if made is None:
            return False
        try:
            os.link(made, new.name, dst_dir_fd=new.fd, follow_symlinks=False)
        except OSError as e:
            if e.errno not in _NO_LINK:
                raise
            return False
        return True

    def _file(self, new: New, path: str) -> None:
        listing = self._listing
        if self._held is not None:
            self._write(new, path, self._held(listing.paths[new.row]))
            return
        host = listing.host(new.row)
        if self._share:
            try:
                os.link(host, new.name, dst_dir_fd=new.fd, follow_symlinks=False)
                return
            except OSError as e:
                if e.errno not in _NO_LINK:
                    raise
        source = open_source(host)
        try:
            made = new.mode & 0o777
            target = create(new.name, made, new.fd)
            try:
                done = copy_data(source, target, new.size)
                if done != new.size or (self._living and os.fstat(source).st_mtime_ns != new.mtime_ns):
                    self._selection.changed.append(listing.paths[new.row])
                self._ownership.apply(target, path, new.mode, new.uid, new.gid, made)
                if os.listxattr(source):
                    write_xattrs(target, self._tree.xattrs(listing.entry(new.row)))
                os.utime(target, ns=(new.mtime_ns, new.mtime_ns))
            finally:
                os.close(target)
        finally:
            os.close(source)

    def _write(self, new: New, path: str, data: bytes) -> None:
        made = new.mode & 0o777
        target = create(new.name, made, new.fd)
        try:
            write_all(target, data)
            self._ownership.apply(target, path, new.mode, new.uid, new.gid, made)
            os.utime(target, ns=(new.mtime_ns, new.mtime_ns))
        finally:
            os.close(target)

    def _other(self, new: New, path: str) -> None:
        """Links are kept as they are, sockets become empty files, fifos and devices are made again."""
        listing = self._listing
        if stat.S_ISLNK(new.mode):
            os.symlink(self._tree.readlink(listing.entry(new.row)), new.name, dir_fd=new.fd)
            self._ownership.apply_special(new.host, path, new.uid, new.gid)
        elif stat.S_ISSOCK(new.mode):
            self._write(new._replace(mode=stat.S_IFREG | stat.S_IMODE(new.mode)), path, b"")
        else:
            rdev = listing.rare.get(new.row, PLAIN).rdev
            make_special(self._ownership, new.host, path, new.mode, new.uid, new.gid, rdev)
        os.utime(new.name, ns=(new.mtime_ns, new.mtime_ns), dir_fd=new.fd, follow_symlinks=False)


def _has_records(tree: LayerTree) -> bool:
    return any(os.path.exists(owners_path(layer)) for layer in tree.layers)


def _failed(source: str, path: str, e: OSError) -> PybuildError:
    if e.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreError(f"no space left for /{path}", hint="free some with `pybuild prune`")
    if e.errno == errno.ENAMETOOLONG:
        return PybuildError(f"the path /{path} is too long")
    return PybuildError(f"cannot copy {source} to /{path}: {e.strerror}")
