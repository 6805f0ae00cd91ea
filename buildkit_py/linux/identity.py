"""Who we are to the kernel: real root, a user with subordinate ids, or one mapped id.

The contract of this module (used by the engine, the store and the sandbox):

``Identity.mode``
    ``root``    real root, no user namespace
    ``ids``     inside a user namespace with the user's subordinate ids, as its root
    ``single``  inside a user namespace that maps the user alone to 0; owners are recorded
                (buildkit_py.linux.ownership)
"""

from __future__ import annotations

from buildkit_py.tuples import NamedTuple
from buildkit_py.typed import Literal


class IdRange(NamedTuple):
    inside: int
    outside: int
    count: int  # type: ignore[assignment]  # a tuple's count() is of no use here


class Identity(NamedTuple):
    mode: Literal["root", "ids", "single"]
    uids: tuple[IdRange, ...] = ()
    gids: tuple[IdRange, ...] = ()

    def can_own(self, uid: int, gid: int) -> bool:
        """Whether files can really be given to these ids."""
        return self.mode == "root" or (
            any(r.inside <= uid < r.inside + r.count for r in self.uids)
            and any(r.inside <= gid < r.inside + r.count for r in self.gids)
        )
