"""How owners are recorded where only one id is mapped.

An ordinary user without subordinate ids can own files as one id alone. A chown, mknod or set-id mode
that the kernel would refuse is then recorded in the extended attribute OWNER_XATTR of the file itself
(regular files and directories), so that it survives renames, links and copy-up; symbolic links, which
can't carry user attributes, are recorded by path in the layer's ``owners`` file
(buildkit_py.snapshot). A recorded device is an empty regular file.
"""

from __future__ import annotations

from buildkit_py.tuples import NamedTuple

OWNER_XATTR = "user.pybuild.owner"


class Owner(NamedTuple):
    uid: int
    gid: int
    mode: int = 0
    """st_mode with type bits for a recorded device or set-id file; 0: as the file has it."""
    rdev: int = 0


def encode(owner: Owner) -> bytes:
    return f"{owner.uid}:{owner.gid}:{owner.mode:o}:{owner.rdev}".encode()


def decode(value: bytes) -> Owner:
    """Raises ValueError where value is not what encode() makes."""
    uid, gid, mode, rdev = value.split(b":")
    return Owner(int(uid), int(gid), int(mode, 8), int(rdev))
