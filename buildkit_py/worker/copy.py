"""Carry out a COPY: put the rows of a selection into a layer.

The rules (what becomes of links, owners, modes, existing directories) are those of the section "COPY and
ADD" of the Dockerfile reference. The loop over the rows is written for trees of tens of thousands of
small files: a row costs one open and create, and no look at the base where the base has no such directory.
"""

from __future__ import annotations

import errno
import os
import stat

from buildkit_py.errors import PybuildError, StoreError
from buildkit_py.linux.halves import in_halves
from buildkit_py.linux.ownership import Owner
from buildkit_py.llb.ops import Copy
from buildkit_py.snapshot.dirtree import DirTree
from buildkit_py.snapshot.layertree import LayerTree
from buildkit_py.snapshot.listing import PLAIN, Part, has_xattrs, held_data
from buildkit_py.snapshot.owners import owners_path
from buildkit_py.tuples import NamedTuple
from buildkit_py.worker.chmod import Change, parse
from buildkit_py.worker.destination import Attributes, Destination, Directory, write_xattrs
from buildkit_py.worker.owner import Layer, resolve_owner
from buildkit_py.worker.place import Place, Target
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

_MANY = 2000
_MUCH = 128 << 20
"""Rows or bytes from which on a second process pays."""
_ROW_BYTES = 50_000
"""What takes as long to copy as a file takes to make."""
_RUN = 256
_NO_LINK = (errno.EXDEV, errno.EMLINK, errno.EPERM, errno.EOPNOTSUPP)


def run_copy(action: Copy, selection: Selection, destination: Destination, layer: Layer) -> None:
    """Raises PybuildError; the layer is then to be thrown away."""
    if not selection.parts:
        return  # wildcards that match nothing
    owner = resolve_owner(destination.base, action.chown) if action.chown else None
    place = Place(action, selection, destination, owner)
    copier = Copier(action, selection, destination, layer, owner)
    for part in selection.parts:
        if action.unpack != "never" and _unpack(part, selection, destination, place.path, owner):
            continue
        copier.copy(part, place.target(part))


def _unpack(
    part: Part, selection: Selection, destination: Destination, path: str, owner: tuple[int, int] | None
) -> bool:
    """Whether a part was an archive, and has been unpacked."""
    listing = selection.listing
    if part.kind != "file" or held_data(selection.tree) or not stat.S_ISREG(listing.stat(part.start).mode):
        return False
    from buildkit_py.worker.unpack import Archive

    source = listing.paths[part.start]
    try:
        with Archive(listing.host(part.start)) as archive:
            if not archive:
                return False
            archive.unpack(path, destination, owner, source)
            if isinstance(selection.tree, DirTree):
                selection.look(part.start, os.fstat(archive.fileno()))
            return True
    except OSError as e:
        raise _failed(source, path, e) from e


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


class Run(NamedTuple):
    """Rows that stand one after the other and go into one directory; none is a directory."""

    directory: Directory
    start: int
    end: int
    size: int
    """Of all, bytes."""


class Runs:
    """Gathers runs of no more than _RUN rows."""

    def __init__(self) -> None:
        self._done: list[Run] = []
        self._directory: Directory | None = None
        self._start = self._end = self._size = 0

    def add(self, directory: Directory, row: int, size: int) -> None:
        if directory is not self._directory or row != self._end or row - self._start >= _RUN:
            self.close()
            self._directory, self._start, self._size = directory, row, 0
        self._end = row + 1
        self._size += size

    def close(self) -> list[Run]:
        if self._directory is not None:
            self._done.append(Run(self._directory, self._start, self._end, self._size))
            self._directory = None
        return self._done


def split(runs: list[Run]) -> tuple[list[Run], list[Run]]:
    """In two shares that take about as long."""
    shares: tuple[list[Run], list[Run]] = ([], [])
    costs = [0, 0]
    for run in runs:
        lighter = costs[1] < costs[0]
        shares[lighter].append(run)
        costs[lighter] += run.size + (run.end - run.start) * _ROW_BYTES
    return shares


Done = tuple[list[str], dict[str, tuple[int, ...]], bool]
"""(files that changed meanwhile, recorded owners, whether files carry a record)"""


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
        self._layer = layer
        self._listing = selection.listing
        self._tree = selection.tree
        self._destination = destination
        self._ownership = destination.ownership
        self._owner = owner if owner is not None else None if action.keep_owner else (0, 0)
        self._change: Change | None = parse(action.chmod) if action.chmod else None
        self._living = isinstance(self._tree, DirTree)
        self._links: dict[tuple[str, int], str] = {}
        self._held = held_data(self._tree)
        self._share = False
        """Whether files may be links to those of the source: its layers never change, nor may theirs."""
        self._taken: dict[int, int] = {}
        """Inode -> the first row that has it."""
        self._apart: set[int] = set()
        """Rows of an inode that is taken, though they are no hard links of the other row: equal files of two
        layers may be one inode, and two sources may name one file. They become files of their own."""
        if isinstance(self._tree, LayerTree) and action.keep_owner and not action.chown and not action.chmod:
            self._share = True
            layer.owners.marked |= _has_records(self._tree)

    def copy(self, part: Part, target: Target) -> None:
        """First the directories, then what is in them: by two processes where there is much of it. Rows
        with several hard links come last, since each needs the one before."""
        runs, linked = self._directories(part, target)
        rows = sum(run.end - run.start for run in runs)
        size = sum(run.size for run in runs)
        if rows >= _MANY or (rows > 1 and size >= _MUCH):
            for done in in_halves(lambda some: self._fill(part, target, some), *split(runs)):
                self._take(done)
        else:
            self._take(self._fill(part, target, runs))
        self._take(self._fill(part, target, linked))

    def _directories(self, part: Part, target: Target) -> tuple[list[Run], list[Run]]:
        """Make a part's directories; returns the rows that are to be put into each, and of these apart the
        ones with several hard links."""
        listing, prefix, skip = self._listing, part.prefix, part.skip
        rare_rows = listing.rare
        directory, above = target.directory, ""
        base = directory.path
        runs, linked = Runs(), Runs()
        taken = self._taken
        for row, (size, mtime_ns, _, inode, mode) in enumerate(
            listing.stats_of(part.start, part.end), part.start
        ):
            place = target.name or prefix + listing.paths[row][skip:]
            parent, _, name = place.rpartition("/")
            if parent != above:
                path = f"{base}/{parent}" if base and parent else base or parent
                directory, above = self._destination.enter(path), parent
            if mode & 0o170000 == stat.S_IFDIR:
                self._directory(row, directory, name, mode, mtime_ns)
                continue
            first = taken.setdefault(inode, row)
            if first != row and self._is_twin(row, first):
                self._apart.add(row)
            if row in rare_rows and rare_rows[row].link is not None:
                linked.add(directory, row, size)
            else:
                runs.add(directory, row, size)
        return runs.close(), linked.close()

    def _is_twin(self, row: int, first: int) -> bool:
        """Whether a row has the inode of an earlier one without being another name of the same file."""
        paths, rare = self._listing.paths, self._listing.rare
        link = rare[row].link if row in rare else None
        return link is None or paths[row] == paths[first] or rare.get(first, PLAIN).link != link

    def _directory(self, row: int, parent: Directory, name: str, mode: int, mtime_ns: int) -> None:
        listing = self._listing
        rare = listing.rare.get(row, PLAIN)
        uid, gid = self._owner or (rare.uid, rare.gid)
        mode = self._change(mode) if self._change is not None else mode
        try:
            xattrs = self._tree.xattrs(listing.entry(row))
            self._destination.make(parent, name, Attributes(mode, uid, gid, mtime_ns, xattrs))
        except OSError as e:
            raise _failed(listing.paths[row], f"{parent.path}/{name}", e) from e

    def _fill(self, part: Part, target: Target, runs: list[Run]) -> Done:
        """Put rows into their directories, and tell what is to be known of it: this may be a child."""
        paths = self._listing.paths
        owners = self._layer.owners
        changed, recorded = len(self._selection.changed), set(owners)
        for directory, start, end, _ in runs:
            fd = os.open(directory.host, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                for row in range(start, end):
                    place = target.name or part.prefix + paths[row][part.skip :]
                    name = place.rpartition("/")[2]
                    try:
                        self._put(row, directory, name, fd)
                    except OSError as e:
                        raise _failed(paths[row], f"{directory.path}/{name}", e) from e
            finally:
                os.close(fd)
        fresh = {path: tuple(owner) for path, owner in owners.items() if path not in recorded}
        return self._selection.changed[changed:], fresh, owners.marked

    def _take(self, done: Done) -> None:
        """Keep what a child tells; what this process did is there already."""
        changed, recorded, marked = done
        self._selection.changed += [path for path in changed if path not in self._selection.changed]
        self._layer.owners.update({path: Owner(*fields) for path, fields in recorded.items()})
        self._layer.owners.marked |= marked

    def _put(self, row: int, directory: Directory, name: str, fd: int) -> None:
        listing = self._listing
        size, mtime_ns, _, _, mode = listing.stat(row)
        rare = listing.rare.get(row, PLAIN)
        uid, gid = self._owner or (rare.uid, rare.gid)
        kind = mode & 0o170000
        if self._change is not None and kind != stat.S_IFLNK:
            mode = self._change(mode)
        new = New(row, f"{directory.host}/{name}", name, fd, mode, uid, gid, size, mtime_ns)
        if directory.base is not None:
            check_base(directory, name)
        path = f"{directory.path}/{name}" if directory.path else name
        make = self._file if kind == stat.S_IFREG else self._other
        link = None if row in self._apart else rare.link
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

    def _link(self, link: tuple[str, int], new: New) -> bool:
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
        if self._share and new.row not in self._apart:
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
                if done != new.size:
                    self._selection.changed.append(listing.paths[new.row])
                elif self._living:
                    self._selection.look(new.row, os.fstat(source))
                self._ownership.apply(target, path, new.mode, new.uid, new.gid, made)
                if has_xattrs(source):
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
            if self._living:
                self._selection.look(new.row, os.lstat(listing.host(new.row)))
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
