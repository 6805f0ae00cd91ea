"""Volumes: directories that outlive the containers that they are mounted in.

    volumes/<name>/data          what is mounted
    volumes/<name>/volume.json   when it was made, labels, options; whether it is anonymous
    volumes/<name>/filling       there while the image's files are being copied to it
    volumes/.trash-…             renamed here first, deleted later
    volumes/.lock                locked while a volume is made, filled or removed

A volume that is empty when it is mounted takes over what the image has at that path (Docker: "populate a
volume using a container"); a copy that was broken off is done again at the next mount. An anonymous volume
has a name of 64 hexadecimal digits and goes with its container (``rm -v``, ``--rm``).
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from buildkit_py.errors import NotFoundError, PybuildError, UsageError
from buildkit_py.linux import locks
from buildkit_py.request import MountSpec, Pairs
from buildkit_py.runtime import events
from buildkit_py.snapshot.removal import remove_tree
from buildkit_py.snapshot.tree import Tree
from buildkit_py.tuples import NamedTuple

_FILE = "volume.json"
_FILLING = "filling"
_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")


def image_volumes(config: dict[str, object], given: Iterable[MountSpec]) -> tuple[MountSpec, ...]:
    """An anonymous volume for each path that the image declares and the command line doesn't mount."""
    declared = config.get("Volumes") or {}
    assert isinstance(declared, dict)
    taken = {os.path.normpath(v.target) for v in given}
    return tuple(
        MountSpec("volume", path) for path in sorted(declared) if os.path.normpath(path) not in taken
    )


def named(mounts: Iterable[MountSpec]) -> tuple[tuple[MountSpec, ...], tuple[str, ...]]:
    """The mounts with names for their anonymous volumes, and those names."""
    result, names = [], []
    for mount in mounts:
        if mount.kind == "volume" and not mount.source:
            mount = mount._replace(source=os.urandom(32).hex())
            names.append(mount.source)
        result.append(mount)
    return tuple(result), tuple(names)


class Volume(NamedTuple):
    name: str
    path: str
    """Its directory ``data``, or the one of the host that the option ``device`` names."""
    created: float
    labels: dict[str, str]
    options: dict[str, str]
    anonymous: bool


class VolumeStore:
    def __init__(self, root: str) -> None:
        self._dir = os.path.join(root, "volumes")

    def create(
        self, name: str = "", *, labels: Pairs = (), options: Pairs = (), anonymous: bool = False
    ) -> Volume:
        """A new volume, or the one that has the name. Raises UsageError for a name or options of no use."""
        device = _device(dict(options))
        if not name:
            name, anonymous = os.urandom(32).hex(), True
        _check_name(name)
        with self._locked():
            found = self.find(name)
            if found is not None:
                if options and dict(options) != found.options:
                    raise PybuildError(
                        f"the volume {name} is there already, with other options",
                        hint=f"`pybuild volume rm {name}` first, or take another name",
                    )
                return found
            place = self._place(name)
            staged = os.path.join(self._dir, f".new-{os.urandom(8).hex()}")
            try:
                os.makedirs(f"{staged}/data", mode=0o755)
                self._write(staged, labels, options, anonymous=anonymous)
                os.rename(staged, place)
            except OSError as e:
                remove_tree(staged)
                raise PybuildError(f"cannot make the volume {name}: {e.strerror}") from e
        self._event("create", name)
        return Volume(name, device or f"{place}/data", time.time(), dict(labels), dict(options), anonymous)

    def find(self, name: str) -> Volume | None:
        place = self._place(name)
        if not os.path.isdir(f"{place}/data"):
            return None
        try:
            with open(f"{place}/{_FILE}") as f:
                known = json.load(f)
        except (OSError, ValueError):
            known = {}
        options = known.get("options", {})
        return Volume(
            name,
            options.get("device") or f"{place}/data",
            known.get("created") or os.stat(place).st_mtime,
            known.get("labels", {}),
            options,
            bool(known.get("anonymous", False)),
        )

    def get(self, name: str) -> Volume:
        """Raises NotFoundError."""
        found = self.find(name) if name and _NAME.issuperset(name) else None
        if found is None:
            raise NotFoundError(f"no such volume: {name}", hint="`pybuild volume ls` lists what is here")
        return found

    def list(self) -> Volumes:
        """All, by name."""
        try:
            names = sorted(os.listdir(self._dir))
        except FileNotFoundError:
            return []
        found = (self.find(name) for name in names if not name.startswith("."))
        return [volume for volume in found if volume is not None]

    def fill(self, volume: Volume, tree: Tree, target: str) -> None:
        """Copy what ``tree`` has at ``target`` to a volume that is empty. Raises PybuildError."""
        place = self._place(volume.name)
        with self._locked():
            mark = f"{place}/{_FILLING}"
            broken_off = os.path.exists(mark)
            if volume.options.get("device") or (os.listdir(volume.path) and not broken_off):
                return
            entry = tree.lookup(target.strip("/"))
            if entry is None or entry.mode & 0o170000 != 0o040000:
                return
            from buildkit_py.runtime.populate import copy_tree

            try:
                os.close(os.open(mark, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
                copy_tree(tree, entry, volume.path)
                os.unlink(mark)
            except OSError as e:
                raise PybuildError(f"cannot copy {target} to the volume {volume.name}: {e.strerror}") from e

    def remove(self, name: str, users: Callable[[], Iterable[str]]) -> int:
        """Remove a volume that no container uses, and return the bytes freed. ``users`` gives the names of
        those that do; a new container is there before it makes its volumes. Raises NotFoundError and
        PybuildError."""
        with self._locked():
            self.get(name)
            busy = sorted(users())
            if busy:
                raise PybuildError(
                    f"the volume {name} is in use by {', '.join(busy)}",
                    hint=f"remove the containers first: `pybuild rm {' '.join(busy)}`",
                )
            trash = self.discard(name)
        return remove_tree(trash)

    def discard(self, name: str) -> str:
        """Rename a volume away, which removes it for everybody at once; what is to be deleted."""
        trash = os.path.join(self._dir, f".trash-{os.urandom(8).hex()}")
        try:
            os.rename(self._place(name), trash)
            self._event("destroy", name)
        except FileNotFoundError:
            pass
        return trash

    def collect_trash(self) -> int:
        """Delete what removals and crashes left; return the bytes freed."""
        freed = 0
        try:
            names = os.listdir(self._dir)
        except FileNotFoundError:
            return 0
        for name in names:
            if name.startswith((".trash-", ".new-")):
                freed += remove_tree(os.path.join(self._dir, name))
        return freed

    @contextmanager
    def _locked(self) -> Iterator[None]:
        os.makedirs(self._dir, 0o700, exist_ok=True)
        fd = locks.open_lock(os.path.join(self._dir, ".lock"))
        try:
            locks.wait(fd)
            yield
        finally:
            os.close(fd)

    def _event(self, action: str, name: str) -> None:
        events.put(os.path.dirname(self._dir), "volume", action, name, {"driver": "local"})

    def _place(self, name: str) -> str:
        return os.path.join(self._dir, name)

    @staticmethod
    def _write(place: str, labels: Pairs, options: Pairs, *, anonymous: bool) -> None:
        document = {
            "created": time.time(),
            "labels": dict(labels),
            "options": dict(options),
            "anonymous": anonymous,
        }
        with open(f"{place}/{_FILE}", "w") as f:
            json.dump(document, f)


Volumes = list[Volume]
"""VolumeStore.list hides the type's name."""


def _check_name(name: str) -> None:
    if not name or name[0] in "_.-" or not _NAME.issuperset(name):
        raise UsageError(
            f"{name!r} is no name for a volume",
            hint="letters, digits, '_', '.' and '-'; the first one a letter or digit",
        )


def _device(options: dict[str, str]) -> str:
    """The host directory of ``type=none,o=bind,device=PATH``; "" without options. Raises UsageError for what
    else docker's local driver mounts."""
    if not options:
        return ""
    kind, flags, device = options.get("type", "none"), options.get("o", ""), options.get("device", "")
    if kind in ("none", "bind") and "bind" in flags.split(",") and os.path.isdir(device):
        return device
    if kind in ("none", "bind") and "bind" in flags.split(","):
        raise UsageError(f"--opt device={device}: there is no such directory")
    raise UsageError(
        f"a volume of type {kind} is not made here",
        hint="type=none, o=bind and device=DIRECTORY are; for a tmpfs: run --tmpfs",
    )
