"""What a COPY or ADD takes from a tree, and where below its destination each thing goes.

One pass over the sources; the result is read for the cache key and again for the copy.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from buildkit_py.cache.hashing import Preimage, unreadable
from buildkit_py.errors import NotFoundError, PybuildError
from buildkit_py.llb.ops import Copy
from buildkit_py.snapshot.listing import Listing, Part, packable
from buildkit_py.snapshot.tree import Entry, Tree
from buildkit_py.tuples import NamedTuple
from buildkit_py.worker.pattern import Excludes, component, is_wildcard, unescape


class Selection:
    """``parts`` in the order of the sources, over the rows of ``listing``."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.listing = Listing()
        self.parts: list[Part] = []
        self.directory = False
        """Whether the destination has to be a directory, whatever is there."""
        self.several = False
        """Whether several sources want a destination that ends in ``/``."""
        self.hashed = Preimage(bytes)
        """Of the digest that is in the key, once there is one."""
        self.changed: list[str] = []
        """Filled by the copy: files that changed after they were hashed. What was made of them must not
        be kept as the result of this content."""

    def look(self, row: int, now: os.stat_result) -> None:
        """Note a file of a context that is not what was hashed, by the stat of what was just read."""
        then = self.listing.stat(row)
        if (packable(now.st_mtime_ns), packable(now.st_ctime_ns)) != (then.mtime_ns, then.ctime_ns):
            self.changed.append(self.listing.paths[row])

    def place(self, part: Part, row: int) -> str:
        return part.prefix + self.listing.paths[row][part.skip :]


class Match(NamedTuple):
    """A thing that a source names: the entry with links followed, and the names that led to it."""

    names: tuple[str, ...]
    entry: Entry


def select(action: Copy, tree: Tree) -> Selection:
    """Raises NotFoundError for a source that isn't there, PybuildError for one that can't be read or a
    malformed wildcard."""
    selection = Selection(tree)
    try:
        adder = _Nested(selection, action) if action.parents else _Flat(selection, action)
        for source in action.sources:
            try:
                adder.add(source)
            except PybuildError as e:
                e.word = e.word or source
                raise
    except OSError as e:
        raise unreadable(str(e.filename or " ".join(action.sources)), e) from e
    except RecursionError:
        raise PybuildError("directories are nested too deeply for ** or --exclude") from None
    files = sum(p.kind == "file" for p in selection.parts)
    selection.several = len(action.sources) > 1 or (files > 0 and len(selection.parts) > 1)
    return selection


class _Flat:
    """Without ``--parents``: a file goes into the destination, so does what a directory holds."""

    def __init__(self, selection: Selection, action: Copy) -> None:
        self._selection = selection
        self._tree = selection.tree
        self._excludes = Excludes(action.exclude) if action.exclude else None

    def add(self, source: str) -> None:
        parts = clean(source)
        wild = is_wildcard(source)
        for match in matches(self._tree, source, parts, deep=False):
            name = match.names[-1] if match.names else ""
            directory = _is_dir(match.entry)
            if self._excludes is not None and (wild or not directory) and self._excludes.match(name):
                continue
            if directory:
                self._contents(match.entry)
            else:
                self._file(match.entry, name)

    def _contents(self, entry: Entry) -> None:
        listing = self._selection.listing
        start = len(listing)
        fill(listing, self._tree, entry.path, "", self._excludes)
        skip = len(entry.path) + 1 if entry.path else 0
        self._selection.parts.append(Part("contents", "", skip, start, len(listing)))

    def _file(self, entry: Entry, name: str) -> None:
        listing = self._selection.listing
        listing.extend((entry,))
        row = len(listing) - 1
        self._selection.parts.append(Part("file", name, len(entry.path), row, row + 1))


class _Nested:
    """``--parents``: the path of a source is kept below the destination, from the first ``/./`` on."""

    def __init__(self, selection: Selection, action: Copy) -> None:
        self._selection = selection
        self._tree = selection.tree
        self._excludes = Excludes(action.exclude) if action.exclude else None
        self._made: set[tuple[str, ...]] = set()
        self._whole: set[tuple[str, ...]] = set()
        selection.directory = True

    def add(self, source: str) -> None:
        before, pivot, _ = source.partition("/./")
        parts = clean(source)
        dropped = len(clean(before)) if pivot else 0
        for match in matches(self._tree, source, parts, deep=True):
            kept = match.names[dropped:]
            if any(kept[:n] in self._whole for n in range(len(kept) + 1)):
                continue
            if self._excludes is not None and kept and self._excludes.match("/".join(kept)):
                continue
            self._parents(match.names, dropped)
            if not _is_dir(match.entry):
                self._single(match.entry, "/".join(kept))
                continue
            self._directory(match.entry, kept)

    def _parents(self, names: tuple[str, ...], dropped: int) -> None:
        for n in range(dropped + 1, len(names)):
            kept = names[dropped:n]
            if kept not in self._made:
                self._made.add(kept)
                entry = self._tree.lookup("/".join(names[:n]))
                if entry is not None:
                    self._single(entry, "/".join(kept))

    def _directory(self, entry: Entry, kept: tuple[str, ...]) -> None:
        self._whole.add(kept)
        if kept and kept not in self._made:
            self._made.add(kept)
            self._single(entry, "/".join(kept))
        listing = self._selection.listing
        start = len(listing)
        prefix = "/".join(kept) + "/" if kept else ""
        fill(listing, self._tree, entry.path, prefix, self._excludes)
        skip = len(entry.path) + 1 if entry.path else 0
        self._selection.parts.append(Part("nested", prefix, skip, start, len(listing)))

    def _single(self, entry: Entry, place: str) -> None:
        listing = self._selection.listing
        listing.extend((entry,))
        row = len(listing) - 1
        self._selection.parts.append(Part("nested", place, len(entry.path), row, row + 1))


def fill(listing: Listing, tree: Tree, path: str, prefix: str, excludes: Excludes | None) -> None:
    """Add what is below a directory of a tree; exclude patterns see ``prefix`` + the path below it."""
    if excludes is None:
        listing.extend(tree.walk(path))
    else:
        _fill_some(listing, tree, path, prefix, excludes)


def _fill_some(listing: Listing, tree: Tree, path: str, prefix: str, excludes: Excludes) -> tuple[bool, bool]:
    """(anything taken, anything left out). A directory of which everything was left out is not made."""
    taken = left = False
    for child in tree.children(path):
        place = prefix + child.path[len(path) + 1 if path else 0 :]
        out = excludes.match(place)
        if not _is_dir(child):
            if out:
                left = True
            else:
                listing.extend((child,))
                taken = True
            continue
        if out and not excludes.takes_back:
            left = True
            continue
        before = len(listing)
        listing.extend((child,))
        some, less = _fill_some(listing, tree, child.path, place + "/", excludes)
        left = left or less or out
        if some or not (less or out):
            taken = True
        else:
            listing.truncate(before)
    return taken, left


def clean(source: str) -> list[str]:
    """The components of a source, rooted: a leading ``/`` and every ``..`` that would leave are dropped."""
    parts: list[str] = []
    for part in source.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return parts


def matches(tree: Tree, source: str, parts: list[str], *, deep: bool) -> Iterator[Match]:
    """What a source names, links followed; sorted. Raises NotFoundError where a source without wildcard
    names nothing."""
    if not any(is_wildcard(p) for p in parts):
        names = [unescape(p) for p in parts]
        entry = tree.lookup("/".join(names))
        if entry is None and names != parts:
            names = parts  # a name that really holds a backslash
            entry = tree.lookup("/".join(names))
        if entry is None:
            raise _missing(tree, source, "/".join(names))
        yield Match(tuple(names), entry)
        return
    fixed = next(n for n, p in enumerate(parts) if is_wildcard(p))
    names = [unescape(p) for p in parts[:fixed]]
    root = tree.lookup("/".join(names))
    if root is None or not _is_dir(root):
        return
    for found, entry in _expand(tree, root, parts[fixed:], deep):
        target = tree.lookup(entry.path) if stat.S_ISLNK(entry.mode) else entry
        if target is None:
            raise _missing(tree, source, entry.path)
        yield Match((*names, *found), target)


def _expand(tree: Tree, root: Entry, parts: list[str], deep: bool) -> Iterator[tuple[tuple[str, ...], Entry]]:
    part, rest = parts[0], parts[1:]
    below = len(root.path) + 1 if root.path else 0
    if deep and part == "**" and rest:
        yield from _expand(tree, root, rest, deep)
        for child in tree.children(root.path):
            if _is_dir(child):
                for names, entry in _expand(tree, child, parts, deep):
                    yield (child.path[below:], *names), entry
        return
    regex = component(part)
    for child in tree.children(root.path):
        name = child.path[below:]
        if not regex.fullmatch(name):
            continue
        if not rest:
            yield (name,), child
        elif _is_dir(child):
            for names, entry in _expand(tree, child, rest, deep):
                yield (name, *names), entry


def _missing(tree: Tree, source: str, path: str) -> PybuildError:
    entry = tree.lookup(path, follow=False)
    if entry is not None and stat.S_ISLNK(entry.mode):
        target = tree.readlink(entry)
        return NotFoundError(
            f"{source}: {path} is a symbolic link to {target}, which is not there",
            hint="links are followed inside the source's root; copy what it points to as well",
        )
    hides = getattr(tree, "hides", None)
    if hides is not None and hides(path):
        return NotFoundError(
            f"{source} is kept out of the build context by .dockerignore",
            hint=f"take it back with a line '!{path}' at the end of .dockerignore",
        )
    if "://" in source or source.startswith("git@"):
        hint = "it would be a file of the context; what is fetched is http://, https:// and git, by ADD"
        return NotFoundError(f"{source} is not there", hint=hint)
    return NotFoundError(f"{source} is not there", hint=_nearest(tree, path))


def _nearest(tree: Tree, path: str) -> str:
    import difflib

    parent, _, name = path.rpartition("/")
    entry = tree.lookup(parent)
    if entry is None or not _is_dir(entry):
        return f"there is no directory {parent} either"
    names = [c.path.rpartition("/")[2] for c in tree.children(entry.path)]
    close = difflib.get_close_matches(name, names, 1, 0.7)
    return f"did you mean {(parent + '/' if parent else '') + close[0]}?" if close else ""


def _is_dir(entry: Entry) -> bool:
    return stat.S_ISDIR(entry.mode)
