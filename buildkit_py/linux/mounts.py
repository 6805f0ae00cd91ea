"""Mounts as file descriptors: made detached, attached where wanted.

With the new mount API (Linux 5.2, mount_setattr 5.12) a mount never passes through a path that the
image could have turned into a link: the place is opened inside the root (``resolve``), the mount moved
onto that descriptor.
"""

from __future__ import annotations

import errno
import os

from buildkit_py.errors import SandboxError
from buildkit_py.linux import syscalls as sc

NOSUID = sc.MOUNT_ATTR_NOSUID
NODEV = sc.MOUNT_ATTR_NODEV
NOEXEC = sc.MOUNT_ATTR_NOEXEC
RDONLY = sc.MOUNT_ATTR_RDONLY
PLAIN = NOSUID | NODEV | NOEXEC

TIMES = {
    "noatime": sc.MOUNT_ATTR_NOATIME,
    "strictatime": sc.MOUNT_ATTR_STRICTATIME,
    "nodiratime": sc.MOUNT_ATTR_NODIRATIME,
    "relatime": 0,
}
"""mount(8)'s words for when the time of last access is kept."""


def new(kind: str, options: tuple[tuple[str, str], ...] = (), attributes: int = 0) -> int:
    """A detached mount of a new file system instance, as a descriptor. An option "" has no value."""
    context = sc.fsopen(kind)
    try:
        for key, value in (("source", kind), *options):
            if value:
                sc.fsconfig(context, sc.FSCONFIG_SET_STRING, key, value.encode(), what=kind)
            else:
                sc.fsconfig(context, sc.FSCONFIG_SET_FLAG, key, what=kind)
        sc.fsconfig(context, sc.FSCONFIG_CMD_CREATE, what=kind)
        return sc.fsmount(context, attributes)
    finally:
        os.close(context)


def proc(*, host: bool) -> int:
    """A detached /proc of this process namespace. ``host``: that may be the host's, of which only real
    root may mount another: then it is a clone of the one that is there."""
    try:
        return new("proc", (), PLAIN)
    except SandboxError as e:
        if e.errno != errno.EPERM or not host:
            raise
        return bind(sc.AT_FDCWD, "/proc", PLAIN)


def bind(
    directory: int, path: str, attributes: int = 0, *, recursive: bool = True, follow: bool = True
) -> int:
    """A detached clone of what is at ``path`` ("": of the opened file itself)."""
    flags = sc.OPEN_TREE_CLONE | (sc.AT_RECURSIVE if recursive else 0) | (0 if path else sc.AT_EMPTY_PATH)
    flags |= 0 if follow else sc.AT_SYMLINK_NOFOLLOW
    fd = sc.open_tree(directory, path, flags)
    if attributes:
        try:
            sc.mount_setattr(fd, "", attributes, recursive=recursive)
        except BaseException:
            os.close(fd)
            raise
    return fd


def resolve(root: int, path: str, flags: int = os.O_PATH) -> int:
    """Open ``path`` below ``root``, with every link, absolute ones too, kept inside. -1: not there."""
    try:
        return sc.openat2(root, path, flags, sc.RESOLVE_IN_ROOT | sc.RESOLVE_NO_MAGICLINKS)
    except SandboxError as e:
        if e.errno == errno.ENOENT:
            return -1
        raise


def attach(mount_fd: int, place: int, what: str) -> None:
    """Attach a detached mount onto an opened file or directory; both descriptors are closed."""
    try:
        sc.move_mount(mount_fd, place, "", what)
    finally:
        os.close(mount_fd)
        os.close(place)
