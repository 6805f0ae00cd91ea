"""The owners that a layer records instead of having them (see buildkit_py.linux.ownership).

Regular files and directories carry theirs in OWNER_XATTR. Everything else (links, fifos) can't hold user
attributes and stands by path in the layer's ``owners`` file: JSON ``{path: "uid:gid:mode:rdev"}``.

The file is written, maybe empty, as soon as a layer records anything in either form. Outside of
``single`` mode a stack of layers without any such file is read without looking for records.
"""

from __future__ import annotations

import json
import os
import stat

from buildkit_py.errors import StoreError
from buildkit_py.linux.ownership import OWNER_XATTR, Owner, decode, encode


class Owners(dict[str, Owner]):
    """Recorded owners by path in the layer. ``marked``: some file carries OWNER_XATTR."""

    def __init__(self) -> None:
        super().__init__()
        self.marked = False

    def record(self, path: str, where: str | int, mode: int, owner: Owner) -> None:
        """Remember the owner of ``path`` in the layer.

        ``where`` is its host path or an open descriptor, ``mode`` its st_mode (what it really is, not
        what it stands for).
        """
        if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
            self.marked = True
            if isinstance(where, int):
                os.setxattr(where, OWNER_XATTR, encode(owner))
            else:
                os.setxattr(where, OWNER_XATTR, encode(owner), follow_symlinks=False)
        else:
            self[path] = owner

    def save(self, path: str) -> None:
        """Write the file where there is anything to tell."""
        if self or self.marked:
            text = json.dumps({name: encode(owner).decode() for name, owner in sorted(self.items())})
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                os.write(fd, text.encode())
            finally:
                os.close(fd)


def owners_path(fs: str) -> str:
    """Where the owners of the layer directory ``…/fs`` are recorded."""
    return os.path.join(os.path.dirname(fs), "owners")


def load(fs: str) -> Owners | None:
    """The records of the layer directory ``…/fs``; None where it has no ``owners`` file."""
    path = owners_path(fs)
    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return None
    owners = Owners()
    owners.marked = True
    try:
        for name, value in json.loads(data or b"{}").items():
            owners[name] = decode(value.encode())
    except (ValueError, AttributeError) as e:
        raise StoreError(
            f"the recorded owners {path} are damaged: {e}", hint="run `pybuild prune -af`"
        ) from e
    return owners
