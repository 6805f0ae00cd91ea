"""Where a COPY puts things: what its destination means, given what is there."""

from __future__ import annotations

import stat

from buildkit_py.errors import PybuildError
from buildkit_py.llb.ops import Copy
from buildkit_py.snapshot.listing import Part
from buildkit_py.tuples import NamedTuple
from buildkit_py.worker.chmod import octal
from buildkit_py.worker.destination import MADE, Attributes, Destination, Directory, kind_of
from buildkit_py.worker.selection import Selection


class Target(NamedTuple):
    """Where a part goes: into ``directory`` under the names of its rows or, a file, as ``name``."""

    directory: Directory
    name: str


class Place:
    """Where an action's parts go: rules 3 to 5 of "COPY and ADD"."""

    def __init__(
        self,
        action: Copy,
        selection: Selection,
        destination: Destination,
        owner: tuple[int, int] | None,
    ) -> None:
        self.path = destination.resolve(action.dest)
        self._action = action
        self._destination = destination
        self._made = made_with(action, owner)
        mode = destination.mode(self.path)
        slash = action.dest.rsplit("/", 1)[-1] in ("", ".", "..")
        self._folder = slash or (mode is not None and stat.S_ISDIR(mode))
        """Whether a file goes into the destination and doesn't become it."""
        if selection.several and not self._folder:
            raise PybuildError(
                f"several sources are copied to {action.dest}, which is not a directory",
                hint=f"end the destination with a slash: {action.dest}/",
            )

    def target(self, part: Part) -> Target:
        if part.kind == "file" and not self._folder:
            parent, _, name = self.path.rpartition("/")
            return Target(self._destination.enter(parent, self._made), name)
        mode = self._destination.mode(self.path)
        if mode is not None and not stat.S_ISDIR(mode):
            raise PybuildError(
                f"cannot copy into {self._action.dest}: it is {kind_of(mode)}, not a directory"
            )
        directory = self._destination.enter(self.path, self._made)
        return Target(directory, part.prefix if part.kind == "file" else "")


def made_with(action: Copy, owner: tuple[int, int] | None) -> Attributes:
    """How missing directories of the destination are made."""
    mode = octal(action.chmod)
    uid, gid = owner or (0, 0)
    return MADE._replace(mode=stat.S_IFDIR | (0o755 if mode is None else mode), uid=uid, gid=gid)
