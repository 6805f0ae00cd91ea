"""Owners, modes and extended attributes of what is unpacked, as far as this process may set them.

What it may not is recorded (buildkit_py.snapshot.owners).
"""

from __future__ import annotations

import errno
import os
import stat

from buildkit_py.archive.member import Member
from buildkit_py.errors import ImageError
from buildkit_py.linux.identity import Identity
from buildkit_py.linux.ownership import Owner
from buildkit_py.snapshot.overlay import CAPABILITY, escape
from buildkit_py.snapshot.owners import Owners

_SET_ID = 0o7000


def _umask() -> int:
    # Reading it with os.umask() would set it for every thread for a moment.
    with open("/proc/self/status", "rb") as file:
        for line in file:
            if line.startswith(b"Umask:"):
                return int(line.split()[1], 8)
    return 0o777


class Attributes:
    def __init__(self, identity: Identity, owners: Owners) -> None:
        self._identity = identity
        self._owners = owners
        self._umask = _umask()
        self._own_ids = (os.geteuid(), os.getegid())
        self._ownable: dict[tuple[int, int], bool] = {}
        self._setgid_seen = False
        """New files in a set-group-id directory get its group instead of ours."""

    def _can_own(self, uid: int, gid: int) -> bool:
        known = self._ownable.get((uid, gid))
        if known is None:
            known = self._ownable[uid, gid] = self._identity.can_own(uid, gid)
        return known

    def set_open(self, fd: int, member: Member, path: str, st_mode: int) -> None:
        """Owner, then mode (chown clears set-id bits), then xattrs (chown clears capabilities), of an
        open regular file or directory."""
        uid, gid = member.uid, member.gid
        if not self._can_own(uid, gid):
            self._owners.record(path, fd, st_mode, Owner(uid, gid))
            uid = gid = 0
        if (uid, gid) != self._own_ids or self._setgid_seen:
            try:
                os.fchown(fd, uid, gid)
            except OSError as e:
                if e.errno not in (errno.EPERM, errno.EINVAL):
                    raise
                self._owners.record(path, fd, st_mode, Owner(uid, gid))
        mode = member.mode
        if mode & stat.S_ISGID and stat.S_ISDIR(st_mode):
            self._setgid_seen = True
        if mode & (self._umask | _SET_ID) or stat.S_ISDIR(st_mode):
            os.fchmod(fd, mode)
        if member.xattrs:
            self._xattrs(fd, member)

    def _xattrs(self, fd: int, member: Member) -> None:
        for name, value in member.xattrs.items():
            stored = escape(name)
            if stored is None:
                continue
            try:
                os.setxattr(fd, stored, value)
            except OSError as e:
                if e.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise
                if name == CAPABILITY or name.startswith("user."):
                    raise ImageError(
                        f"cannot set the attribute {name} of {member.path!r}: {e.strerror}",
                        hint="put the store (PYBUILD_ROOT) on a file system with extended attributes",
                    ) from e
                # trusted.* and system.* may be refused to anybody but real root; they are no part of
                # what an image promises.

    def set_owner(self, fd: int, name: str, member: Member, path: str, mode: int) -> None:
        """The owner of what can't be opened: links, devices, fifos."""
        uid, gid = member.uid, member.gid
        if self._can_own(uid, gid):
            if (uid, gid) == self._own_ids and not self._setgid_seen:
                return
            try:
                os.chown(name, uid, gid, dir_fd=fd, follow_symlinks=False)
                return
            except OSError as e:
                if e.errno not in (errno.EPERM, errno.EINVAL):
                    raise
        self._owners.record(path, "", mode, Owner(uid, gid))
