"""Deleting a directory tree that strangers filled.

Iterative, by descriptors (a path of any depth works), never through a link. Directories that deny us are
given permission first: without CAP_DAC_OVERRIDE an owner may still change the mode.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def _open(name: str, parent: int | None) -> int:
    try:
        return os.open(name, _OPEN, dir_fd=parent)
    except PermissionError:
        # O_NOFOLLOW said that it is no link; chmod follows links, but only a directory gives EACCES here.
        os.chmod(name, 0o700, dir_fd=parent)
        return os.open(name, _OPEN, dir_fd=parent)


def _empty(fd: int) -> tuple[list[str], int]:
    """Unlink everything but directories; return their names and the bytes freed."""
    directories: list[str] = []
    freed = 0
    with os.scandir(fd) as listing:
        items = list(listing)
    denied = False
    for item in items:
        if item.is_dir(follow_symlinks=False):
            directories.append(item.name)
            continue
        try:
            st = item.stat(follow_symlinks=False)
            if st.st_nlink == 1:
                freed += st.st_blocks * 512
            os.unlink(item.name, dir_fd=fd)
        except PermissionError:
            if denied:
                raise
            denied = True
            os.fchmod(fd, 0o700)
            os.unlink(item.name, dir_fd=fd)
        except FileNotFoundError:
            pass
    return directories, freed


def remove_tree(path: str) -> int:
    """Delete path and everything below; return the bytes freed. Nothing there: 0.

    Any number of processes may delete the same tree. Raises OSError where something can't be deleted.
    """
    try:
        root = _open(path, None)
    except FileNotFoundError:
        return 0
    except OSError as e:
        if e.errno not in (errno.ENOTDIR, errno.ELOOP):
            raise
        os.unlink(path)
        return 0
    freed = 0
    # (descriptor, names of subdirectories still to do, own name); only the descriptors of one path are
    # open, and of a very deep one only the lowest: "..", which nobody can redirect here, leads back.
    try:
        freed = _remove_below(root)
    finally:
        os.close(root)
    with suppress(FileNotFoundError):
        os.rmdir(path)
    return freed


def _remove_below(root: int) -> int:
    names, freed = _empty(root)
    stack: list[list[str]] = [names]
    current = os.dup(root)
    try:
        while stack:
            if stack[-1]:
                name = stack[-1][-1]
                try:
                    below = _open(name, current)
                except FileNotFoundError:
                    stack[-1].pop()
                    continue
                os.close(current)
                current = below
                names, more = _empty(current)
                freed += more
                stack.append(names)
                continue
            stack.pop()
            if stack:
                above = os.open("..", _OPEN, dir_fd=current)
                os.close(current)
                current = above
                with suppress(FileNotFoundError):
                    os.rmdir(stack[-1].pop(), dir_fd=current)
    finally:
        os.close(current)
    return freed
