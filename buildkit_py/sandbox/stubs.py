"""Mount points that an image lacks, without a trace in the layer that a step writes.

Two ways. A *stub layer*, a directory with nothing but the missing mount points, is stacked below the
image: what the image has wins, what it lacks shows through, and the upper directory sees nothing. Where
the image hides the stub (a whiteout, an opaque directory, a dangling link), the mount point is made in
the root, and taken out of the upper directory again after the run (``remove``).
"""

from __future__ import annotations

import errno
import os
import stat

from buildkit_py.errors import SandboxError
from buildkit_py.tuples import NamedTuple

_MAX_LINKS = 40


class Stub(NamedTuple):
    """A mount point that was made in the root: ``path`` is real (no links), relative, as is its parent."""

    path: str
    parent_mtime: int
    """Of the parent, in ns, before the stub was made."""
    parent_mtime_after: int


def fill(directory: str, places: tuple[tuple[str, bool], ...]) -> None:
    """Make (path, whether a directory) below an empty directory, parents first."""
    for path, folder in places:
        if folder:
            os.mkdir(directory + path, 0o755)
        else:
            os.close(os.open(directory + path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644))


def discard(directory: str) -> None:
    """Delete a stub layer (empty files and directories)."""
    if not os.path.lexists(directory):
        return
    folders = [directory]
    # It grows meanwhile; os.walk() would recurse, and a place may lie deeper than Python does.
    for folder in folders:
        with os.scandir(folder) as found:
            for item in found:
                if item.is_dir(follow_symlinks=False):
                    folders.append(item.path)
                else:
                    os.unlink(item.path)
    for folder in reversed(folders):
        os.rmdir(folder)


class Walk:
    """Opens a path below a root directory, making what is missing, never leaving the root.

    Links are followed by hand: each is read, and its target walked from the root or from its folder.
    Nothing runs in the sandbox yet; what a shared mount's other users do meanwhile can only make the
    walk fail, since every step opens with O_NOFOLLOW and ``..`` starts again from the root.
    """

    def __init__(self, root: int) -> None:
        self._root = root
        self.made: list[Stub] = []

    def place(self, path: str, *, folder: bool) -> int:
        """The opened file or directory (O_PATH) at ``path``, made if it is missing."""
        todo = path.split("/")[::-1]
        done: list[str] = []
        here = self._reopen(done)
        links = 0
        try:
            while todo:
                name = todo.pop()
                if name in ("", "."):
                    continue
                if name == "..":
                    done = done[:-1]
                    os.close(here)
                    here = self._reopen(done)
                    continue
                last = not any(part not in ("", ".") for part in todo)
                there = self._open(here, name, done, folder=folder or not last)
                if not stat.S_ISLNK(os.fstat(there).st_mode):
                    os.close(here)
                    here = there
                    done.append(name)
                    continue
                links += 1
                if links > _MAX_LINKS:
                    os.close(there)
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                target = os.readlink("", dir_fd=there)
                os.close(there)
                todo += target.split("/")[::-1]
                if target.startswith("/"):
                    done = []
                    os.close(here)
                    here = self._reopen(done)
            return here
        except BaseException as e:
            os.close(here)
            if isinstance(e, OSError):
                raise SandboxError(
                    f"the mount point {path} cannot be made in the image: {e.strerror}",
                    call="open",
                    errno=e.errno or 0,
                ) from e
            raise

    def _reopen(self, done: list[str]) -> int:
        fd = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._root)
        for name in done:
            deeper = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
            os.close(fd)
            fd = deeper
        return fd

    def _open(self, here: int, name: str, done: list[str], *, folder: bool) -> int:
        flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            return os.open(name, flags, dir_fd=here)
        except FileNotFoundError:
            pass
        before = os.fstat(here).st_mtime_ns
        if folder:
            os.mkdir(name, 0o755, dir_fd=here)
        else:
            create = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
            os.close(os.open(name, create, 0o644, dir_fd=here))
        self.made.append(Stub("/".join([*done, name]), before, os.fstat(here).st_mtime_ns))
        return os.open(name, flags, dir_fd=here)


def remove(upper: str, stubs: list[Stub], lowers: tuple[str, ...]) -> None:
    """Take stubs out of an upper directory that is not mounted any more.

    A stub that the run filled stays. A parent that was copied up for the stub alone (empty, and with the
    attributes that the lower layers give it) goes as well.
    """
    for stub in reversed(stubs):
        path = os.path.join(upper, stub.path)
        parent = os.path.dirname(path)
        try:
            found = os.lstat(path)
            now = os.stat(parent).st_mtime_ns
            if stat.S_ISDIR(found.st_mode):
                os.rmdir(path)
            elif stat.S_ISREG(found.st_mode) and found.st_size == 0:
                os.unlink(path)
            else:
                continue
        except OSError:
            continue
        if now == stub.parent_mtime_after:
            now = stub.parent_mtime
        os.utime(parent, ns=(now, now))
        _forget_copy(upper, os.path.dirname(stub.path), lowers)


def _forget_copy(upper: str, relative: str, lowers: tuple[str, ...]) -> None:
    """Remove empty directories of the upper layer, upwards, that say no more than a lower one does."""
    while relative:
        path = os.path.join(upper, relative)
        try:
            mine = os.lstat(path)
            below = next(s for s in (_lstat(os.path.join(low, relative)) for low in lowers) if s is not None)
            same = all(
                getattr(mine, field) == getattr(below, field)
                for field in ("st_mode", "st_uid", "st_gid", "st_mtime_ns")
            )
            if not same or _own_attributes(path):
                return
            outer = os.path.dirname(path)
            kept = os.stat(outer).st_mtime_ns
            os.rmdir(path)
            os.utime(outer, ns=(kept, kept))
        except (OSError, StopIteration):
            return
        relative = os.path.dirname(relative)


def _own_attributes(path: str) -> bool:
    """Whether an upper directory is opaque: removing it would let the lower one show through."""
    return "user.overlay.opaque" in os.listxattr(path, follow_symlinks=False)


def _lstat(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except OSError:
        return None
