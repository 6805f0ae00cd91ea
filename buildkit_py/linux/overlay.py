"""Overlay mounts of any number of layers.

Since Linux 6.7 each lower directory is handed over by itself (fsconfig ``lowerdir+``): up to 500 of
them. Before that, mount(2) takes all of them in one page of text, which the kernel cuts at 4,095
bytes; short names make 500 fit: the directories are opened and named by descriptor, relative to
/proc/self/fd.

Always ``userxattr``: a store written by real root and one written in a user namespace have the same
form (opaque is ``user.overlay.opaque``; whiteouts are 0:0 character devices).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

from buildkit_py.errors import SandboxError
from buildkit_py.linux import hints
from buildkit_py.linux import syscalls as sc

MAX_LAYERS = 500
"""Lower directories of one mount (the kernel's OVL_MAX_STACK)."""

_STORE = (
    "the store's file system cannot carry an overlay (it is itself an overlay, NFS, eCryptfs, …): "
    "set PYBUILD_ROOT to a directory on ext4, xfs, btrfs or tmpfs"
)


def mount(
    layers: Sequence[str], upper: str = "", work: str = "", attributes: int = 0, *, durable: bool = False
) -> int:
    """A detached overlay mount as a descriptor.

    ``layers``: directories, topmost first; at least one, and two where there is no ``upper``. A layer
    that comes again further down is left out: what it holds is covered by itself, and the kernel
    answers ELOOP to it. Without ``upper`` the mount is read-only. Where it is not ``durable``, fsync does
    nothing, nor does the mount's end wait for the disk (the kernel's ``volatile``).
    """
    lower = list(dict.fromkeys(layers))
    if len(lower) > MAX_LAYERS:
        raise SandboxError(
            f"{len(lower)} layers: the kernel stacks {MAX_LAYERS} at most",
            call="overlay",
            errno=errno.E2BIG,
            hint=hints.MANY_LAYERS,
        )
    if upper:
        _forget_volatile(work)
    try:
        if has_lowerdir_plus():
            return _mount_by_fsconfig(lower, upper, work, attributes, durable)
        return _mount_by_page(lower, upper, work, attributes, durable)
    except SandboxError as e:
        if not e.hint and e.errno in (errno.EINVAL, errno.EOPNOTSUPP, errno.EREMOTE, errno.ENODEV):
            e.hint = _STORE
        raise


def _forget_volatile(work: str) -> None:
    """The mark of an earlier ``volatile`` mount makes the kernel refuse the upper directory: it warns
    of a crash, after which the store throws the directory away anyway."""
    mark = os.path.join(work, "work/incompat/volatile")
    try:
        os.unlink(f"{mark}/dirty")
        os.rmdir(mark)
    except FileNotFoundError:
        pass


def has_lowerdir_plus() -> bool:
    """Asked of the version: a kernel with the old parser takes any key, and fails much later."""
    major, minor = os.uname().release.split("-")[0].split(".")[:2]
    return (int(major), int("".join(c for c in minor if c.isdigit()) or "0")) >= (6, 7)


class _Names:
    """Paths as the kernel's 255-byte strings: long ones as /proc/self/fd/N, open until close()."""

    def __init__(self) -> None:
        self._fds: list[int] = []

    def fd(self, path: str) -> int:
        self._fds.append(os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        return self._fds[-1]

    def name(self, path: str) -> bytes:
        encoded = os.fsencode(path)
        return encoded if len(encoded) < 256 else b"/proc/self/fd/%d" % self.fd(path)

    def close(self) -> None:
        for fd in self._fds:
            os.close(fd)


def _mount_by_fsconfig(lower: list[str], upper: str, work: str, attributes: int, durable: bool) -> int:
    names = _Names()
    context = sc.fsopen("overlay")
    try:
        _set(context, "source", b"overlay", "")
        sc.fsconfig(context, sc.FSCONFIG_SET_FLAG, "userxattr", what="overlay")
        for layer in lower:
            _set(context, "lowerdir+", names.name(layer), layer)
        if upper:
            _set(context, "upperdir", names.name(upper), upper)
            _set(context, "workdir", names.name(work), work)
            if not durable:
                sc.fsconfig(context, sc.FSCONFIG_SET_FLAG, "volatile", what="overlay")
        sc.fsconfig(context, sc.FSCONFIG_CMD_CREATE, what="overlay")
        return sc.fsmount(context, attributes)
    finally:
        os.close(context)
        names.close()


def _set(context: int, key: str, value: bytes, path: str) -> None:
    sc.fsconfig(context, sc.FSCONFIG_SET_STRING, key, value, what=f"overlay {path}")


def _mount_by_page(lower: list[str], upper: str, work: str, attributes: int, durable: bool) -> int:
    names = _Names()
    try:
        home = os.open(".", os.O_PATH | os.O_CLOEXEC)
    except PermissionError:
        # After sudo, say: no path that is relative led anywhere.
        home = os.open("/", os.O_PATH | os.O_CLOEXEC)
    try:
        # A place to mount on: in this namespace alone, and only until the mount is cloned off it.
        place = upper or lower[0]
        options = ["lowerdir=" + ":".join(str(names.fd(layer)) for layer in lower)]
        if upper:
            options += [f"upperdir={names.fd(upper)}", f"workdir={names.fd(work)}"]
            options += [] if durable else ["volatile"]
        options.append("userxattr")
        os.chdir("/proc/self/fd")
        sc.mount("overlay", place, "overlay", 0, ",".join(options).encode())
        try:
            fd = sc.open_tree(sc.AT_FDCWD, place, sc.OPEN_TREE_CLONE)
        finally:
            sc.umount2(place, sc.MNT_DETACH)
        if attributes:
            sc.mount_setattr(fd, "", attributes)
        return fd
    finally:
        os.fchdir(home)
        os.close(home)
        names.close()
