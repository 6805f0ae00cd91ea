"""Walking to the directories of a layer that is being unpacked, without ever leaving it.

Each component is opened with O_NOFOLLOW from the directory above. A link in the way is read and followed by
hand, inside the layer's root: what other engines wrote would not unpack otherwise.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable

from buildkit_py.errors import ImageError
from buildkit_py.snapshot.overlay import is_whiteout

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_LINKS = 40
_MAX_OPEN = 64


class Directories:
    """The directories of the layer ``fs`` by resolved path, the ones used last kept open.

    ``missing(fd, name, path)`` makes the directory ``name`` in ``fd`` and returns it opened. A descriptor
    that is given out holds until the next call.
    """

    def __init__(self, fs: str, missing: Callable[[int, str, str], int]) -> None:
        self.root = os.open(fs, DIRECTORY)
        self._missing = missing
        self._open: dict[str, int] = {}

    def close(self) -> None:
        self.forget()
        os.close(self.root)

    def forget(self) -> None:
        """Close what is kept open: some of it may be about to go."""
        for fd in self._open.values():
            os.close(fd)
        self._open.clear()

    def get(self, path: str) -> tuple[int, str]:
        """(descriptor, resolved path) of a directory of the layer; made where it is missing."""
        if not path:
            return self.root, ""
        fd = self._open.get(path)
        if fd is not None:
            return fd, path
        return self._walk(path)

    def _walk(self, path: str) -> tuple[int, str]:
        fd, done, links = self.root, "", 0
        above = path
        while above := above.rpartition("/")[0]:
            known = self._open.get(above)
            if known is not None:
                fd, done = known, above
                break
        todo = path[len(done) :].split("/")[::-1]
        while todo:
            name = todo.pop()
            if not name or name == ".":
                continue
            if name == "..":
                done = done.rpartition("/")[0]
                fd = self._walk(done)[0] if done else self.root
                continue
            here = f"{done}/{name}" if done else name
            known = self._open.get(here)
            if known is None:
                try:
                    known = os.open(name, DIRECTORY, dir_fd=fd)
                except FileNotFoundError:
                    known = self._missing(fd, name, here)
                except OSError as e:
                    if e.errno not in (errno.ENOTDIR, errno.ELOOP):
                        raise
                    target = self._link(fd, name, here)
                    if target is None:
                        known = self._missing(fd, name, here)
                    else:
                        links += 1
                        if links > _MAX_LINKS:
                            raise ImageError(f"too many links in a path of the layer: {path!r}") from e
                        if target.startswith("/"):
                            fd, done = self.root, ""
                        todo += target.split("/")[::-1]
                        continue
                self._remember(here, known)
            fd, done = known, here
        return fd, done

    def _remember(self, path: str, fd: int) -> None:
        if len(self._open) >= _MAX_OPEN:
            os.close(self._open.pop(next(iter(self._open))))
        self._open[path] = fd

    def _link(self, fd: int, name: str, path: str) -> str | None:
        """Target of the link in a directory's place; None after a whiteout there was taken away."""
        st = os.stat(name, dir_fd=fd, follow_symlinks=False)
        if stat.S_ISLNK(st.st_mode):
            return os.readlink(name, dir_fd=fd)
        if is_whiteout(st):
            os.unlink(name, dir_fd=fd)
            return None
        raise ImageError(f"the layer uses the file {path!r} as a directory")

    def parent(self, path: str) -> tuple[int, str, str]:
        """(descriptor of the parent, name, resolved path)."""
        parent, _, name = path.rpartition("/")
        fd, resolved = self.get(parent)
        if resolved == parent:
            return fd, name, path
        return fd, name, f"{resolved}/{name}" if resolved else name
