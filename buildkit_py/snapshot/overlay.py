"""How a layer directory says "deleted" and "opaque": the kernel's overlayfs documentation, in one place.

A whiteout is a character device 0:0, or an empty regular file with ``user.overlay.whiteout`` in a directory
whose ``user.overlay.opaque`` is ``x``. An opaque directory hides the lower ones: ``user.overlay.opaque=y``.
An attribute that would look like overlayfs' own is escaped with one more ``overlay.``.
"""

from __future__ import annotations

import os
import stat

from buildkit_py.linux.ownership import OWNER_XATTR

OPAQUE = "user.overlay.opaque"
WHITEOUT = "user.overlay.whiteout"
_OVERLAY = ("user.overlay.", "trusted.overlay.")
_ESCAPED = ("user.overlay.overlay.", "trusted.overlay.overlay.")
_HOST = ("security.selinux", "security.ima", "security.evm", "security.apparmor", "security.SMACK64")
CAPABILITY = "security.capability"


def is_whiteout(st: os.stat_result) -> bool:
    return stat.S_ISCHR(st.st_mode) and st.st_rdev == 0


def opaqueness(directory: str | int) -> bytes:
    """``b"y"`` opaque, ``b"x"`` may hold whiteouts in their xattr form, ``b""`` neither."""
    try:
        return os.getxattr(directory, OPAQUE)
    except OSError:
        return b""


def is_whiteout_file(path: str, st: os.stat_result) -> bool:
    """The xattr form; only to be asked in a directory whose opaqueness is ``x``."""
    if not stat.S_ISREG(st.st_mode) or st.st_size:
        return False
    try:
        os.getxattr(path, WHITEOUT, follow_symlinks=False)
    except OSError:
        return False
    return True


def escape(name: str) -> str | None:
    """The name under which an image's attribute is stored in a layer directory; None: not stored."""
    if name.startswith("user.overlay."):
        return "user.overlay.overlay." + name[13:]
    if name == OWNER_XATTR or name.startswith("trusted.overlay.") or name.startswith(_HOST):
        return None
    return name


def unescape(name: str) -> str | None:
    """The image's name of an attribute found in a layer directory; None: it is not the image's."""
    if name.startswith(_OVERLAY):
        if name.startswith(_ESCAPED):
            return name.replace("overlay.overlay.", "overlay.", 1)
        return None
    if name == OWNER_XATTR or name.startswith(_HOST):
        return None
    return name


def image_xattrs(where: str | int) -> dict[str, bytes]:
    """The attributes of a file or directory of a layer that belong to the image, sorted by name."""
    # An open descriptor takes no follow_symlinks=False.
    names = os.listxattr(where, follow_symlinks=isinstance(where, int))
    found: dict[str, bytes] = {}
    for name in sorted(names):
        shown = unescape(name)
        if shown is not None:
            found[shown] = read(where, name)
    return found


def read(where: str | int, name: str) -> bytes:
    """An attribute's value; file capabilities in the form that knows no user namespace."""
    follow = isinstance(where, int)
    value = os.getxattr(where, name, follow_symlinks=follow)
    if name == CAPABILITY and len(value) == 24 and value[3] == 3:
        # Version 3 carries the id that is root where it was set; the kernel gives version 2 when asked
        # from inside. Seen from outside, the last word (that id) goes and the version becomes 2.
        return value[:3] + b"\x02" + value[4:20]
    return value
