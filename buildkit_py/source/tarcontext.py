"""A build context that comes as a tar: unpacked into a directory, which is then read like any other.

The tar is hostile. It is unpacked as layers are (buildkit_py.layer.apply: no path and no link leads out), but
names that mean deletions in a layer are plain names here, and owners are left out: a context has none.
"""

from __future__ import annotations

from buildkit_py.archive import member as kinds
from buildkit_py.archive.compression import Readable
from buildkit_py.archive.member import Member
from buildkit_py.archive.untar import TarReader
from buildkit_py.errors import ImageError
from buildkit_py.layer.apply import Unpacker, clean
from buildkit_py.linux.identity import Identity
from buildkit_py.snapshot.owners import Owners

_MAX_MEMBERS = 4_000_000
"""A tar of nothing but headers fills the inodes of a disk before its bytes."""


def unpack(tar: Readable, directory: str, identity: Identity) -> None:
    """Unpack an uncompressed tar into an empty directory. Raises ImageError, StoreError."""
    unpacker = _Unpacker(directory, identity, Owners())
    try:
        unpacker.unpack(TarReader(tar.read))
    except ImageError as e:
        raise ImageError(f"the build context: {e.message.replace('the layer', 'it')}", hint=e.hint) from e
    finally:
        unpacker.close()


class _Unpacker(Unpacker):
    _count = 0

    def add(self, member: Member, reader: TarReader) -> None:
        self._count += 1
        if self._count > _MAX_MEMBERS:
            raise ImageError(f"it has more than {_MAX_MEMBERS} members")
        path = clean(member.path)
        member = member._replace(uid=0, gid=0)
        if member.kind == kinds.DIRECTORY:
            self._make_directory(path, member)
        elif not path:
            raise ImageError(f"its root is no directory ({member.path!r})")
        elif member.kind == kinds.REGULAR:
            self._regular(path, member, reader)
        elif member.kind == kinds.SYMLINK:
            self._symlink(path, member)
        elif member.kind == kinds.HARD_LINK:
            self._hard_link(path, member)
        else:
            self._node(path, member)
