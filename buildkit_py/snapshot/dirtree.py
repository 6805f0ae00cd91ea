"""A Tree over one directory of this machine: a build context, or files made for one build.

Owners count as 0:0, as in every build context: who owns a checkout must not matter. Files that
``exclude`` hides (.dockerignore) don't exist here: they can't be looked up, walked or reached by a link.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator

from buildkit_py.linux.ownership import OWNER_XATTR
from buildkit_py.snapshot import overlay
from buildkit_py.snapshot.tree import Entry

Exclude = Callable[[str, bool], bool]
"""(path, is a directory) -> hidden. The whole answer: patterns that match a parent count too."""
MayDescend = Callable[[str], bool]
"""Whether something below a hidden directory may have been taken back (``!`` patterns)."""

_MAX_LINKS = 40


class DirTree:
    def __init__(
        self, root: str, *, exclude: Exclude | None = None, may_descend: MayDescend | None = None
    ) -> None:
        """``may_descend`` None: look into every hidden directory (right, but slower)."""
        self.root = os.path.abspath(root)
        self._exclude = exclude
        self._may_descend = may_descend
        self._prefix = self.root if self.root.endswith("/") else self.root + "/"

    def lookup(self, path: str, *, follow: bool = True) -> Entry | None:
        try:
            found = self._resolve(path, follow)
            st = os.lstat(self._prefix + found)
        except (FileNotFoundError, NotADirectoryError):
            return None
        if found and not self._visible(found, stat.S_ISDIR(st.st_mode)):
            return None
        return _entry(found, st, self._prefix + found)

    def resolve(self, path: str) -> str:
        return self._resolve(path, True)

    def children(self, path: str) -> list[Entry]:
        host = self._prefix + path
        with os.scandir(host) as it:
            found = {e.name: e for e in it}
        prefix = path + "/" if path else ""
        entries = []
        for name in by_bytes(found):
            try:
                st = found[name].stat(follow_symlinks=False)
            except FileNotFoundError:
                continue  # removed since the directory was read
            if self._exclude is None or self._visible(prefix + name, stat.S_ISDIR(st.st_mode)):
                entries.append(_entry(prefix + name, st, found[name].path))
        return entries

    def walk(self, path: str) -> Iterator[Entry]:
        if self._exclude is None:
            return self._walk(path)
        return self._walk_visible(path, self._exclude)

    def readlink(self, entry: Entry) -> str:
        return os.readlink(entry.host)

    def xattrs(self, entry: Entry) -> dict[str, bytes]:
        """Of a context count ``user.*`` and file capabilities; labels of this machine's security modules
        and overlayfs' marks don't belong to an image."""
        return host_xattrs(entry.host)

    def hides(self, path: str) -> bool:
        """Whether something is at path that ``exclude`` keeps out of sight: for an error's hint."""
        if self._exclude is None:
            return False
        path = os.path.normpath("/" + path).lstrip("/")
        return os.path.lexists(self._prefix + path) and self.lookup(path, follow=False) is None

    def hidden(self, path: str) -> Iterator[str]:
        """What ``exclude`` keeps out of sight below a directory, but not what is below that."""
        stack = [path] if self._exclude is not None else []
        while stack:
            above = stack.pop()
            prefix = f"{above}/" if above else ""
            with os.scandir(self._prefix + above) as it:
                found = [(prefix + e.name, e.is_dir(follow_symlinks=False)) for e in it]
            for child, directory in found:
                if not self._visible(child, directory):
                    yield child
                elif directory:
                    stack.append(child)

    def _walk(self, path: str) -> Iterator[Entry]:
        """With a stack: a context may be deeper than recursion goes."""
        stack = [self._entries(path, self._prefix + path)]
        while stack:
            for entry in stack[-1]:
                yield entry
                if entry.mode & 0o170000 == stat.S_IFDIR:
                    stack.append(self._entries(entry.path, entry.host))
                    break
            else:
                stack.pop()

    def _entries(self, path: str, host: str) -> Iterator[Entry]:
        with os.scandir(host) as it:
            found = {e.name: e for e in it}
        prefix = path + "/" if path else ""
        for name in by_bytes(found):
            e = found[name]
            try:
                st = e.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            yield Entry(prefix + name, st, e.path, st.st_mode, 0, 0, st.st_rdev)

    def _walk_visible(self, path: str, exclude: Exclude) -> Iterator[Entry]:
        """A hidden directory shows only together with something visible below it: until then it waits."""
        stack = [self._allowed(path, exclude)]
        waiting: list[Entry | None] = [None]
        while stack:
            for entry, gone in stack[-1]:
                if not gone:
                    for n, above in enumerate(waiting):
                        if above is not None:
                            yield above
                            waiting[n] = None
                    yield entry
                if entry.mode & 0o170000 == stat.S_IFDIR:
                    stack.append(self._allowed(entry.path, exclude))
                    waiting.append(entry if gone else None)
                    break
            else:
                stack.pop()
                waiting.pop()

    def _allowed(self, path: str, exclude: Exclude) -> Iterator[tuple[Entry, bool]]:
        """What is in a directory, and whether it is hidden; hidden things that hold nothing visible are
        left out, and not looked at."""
        with os.scandir(self._prefix + path) as it:
            found = {e.name: e for e in it}
        prefix = path + "/" if path else ""
        for name in by_bytes(found):
            e, child = found[name], prefix + name
            directory = e.is_dir(follow_symlinks=False)
            gone = exclude(child, directory)
            if gone and not (directory and self._descends(child)):
                continue
            try:
                st = e.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            yield Entry(child, st, e.path, st.st_mode, 0, 0, st.st_rdev), gone

    def _descends(self, path: str) -> bool:
        return self._may_descend is None or self._may_descend(path)

    def _visible(self, path: str, directory: bool) -> bool:
        if self._exclude is None or not self._exclude(path, directory):
            return True
        if not directory or not self._descends(path):
            return False
        return next(self._walk_visible(path, self._exclude), None) is not None

    def _resolve(self, path: str, follow: bool) -> str:
        todo = path.split("/")[::-1]
        done: list[str] = []
        links = 0
        while todo:
            part = todo.pop()
            if part in ("", "."):
                continue
            if part == "..":
                if done:
                    done.pop()
                continue
            done.append(part)
            if not follow and not any(p not in ("", ".") for p in todo):
                break
            target = self._link("/".join(done))
            if target is None:
                continue
            links += 1
            if links > _MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            if target.startswith("/"):
                done.clear()
            else:
                done.pop()
            todo.extend(target.split("/")[::-1])
        return "/".join(done)

    def _link(self, path: str) -> str | None:
        try:
            target = os.readlink(self._prefix + path)
        except OSError as e:
            if e.errno in (errno.EINVAL, errno.ENOENT, errno.ENOTDIR):
                return None
            raise
        if self._exclude is not None and self._exclude(path, False):
            return None
        return target


def by_bytes(names: dict[str, os.DirEntry[str]]) -> list[str]:
    """Sorted as their bytes are: code points sort alike, but for the surrogates of bytes that are not
    UTF-8."""
    ordered = sorted(names)
    if not "".join(ordered).isascii():
        ordered.sort(key=os.fsencode)
    return ordered


def host_xattrs(host: str) -> dict[str, bytes]:
    """``user.*`` and file capabilities of a file, without the marks of overlayfs and ours."""
    try:
        names = os.listxattr(host, follow_symlinks=False)
    except OSError as e:
        if e.errno in (errno.ENOTSUP, errno.ENOENT):
            return {}
        raise
    found = {}
    for name in names:
        if name == overlay.CAPABILITY or (
            name.startswith("user.") and name != OWNER_XATTR and not name.startswith("user.overlay.")
        ):
            try:
                found[name] = overlay.read(host, name)
            except OSError as e:
                if e.errno not in (errno.ENODATA, errno.EOVERFLOW):
                    raise  # but for: gone, or a capability of a user namespace that isn't ours
    return found


def _entry(path: str, st: os.stat_result, host: str) -> Entry:
    return Entry(path, st, host, st.st_mode, 0, 0, st.st_rdev)
