"""Volumes: named ones under ``volumes/<name>/data``, anonymous ones, bind mounts of the host.

A volume that is empty when first mounted takes over what the image has at that path (Docker: "populate a
volume using a container").
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from buildkit_py.errors import PybuildError
from buildkit_py.request import MountSpec
from buildkit_py.sandbox.spec import SandboxMount
from buildkit_py.snapshot.removal import remove_tree
from buildkit_py.snapshot.tree import Entry, Tree


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


class VolumeStore:
    def __init__(self, root: str) -> None:
        self._dir = os.path.join(root, "volumes")

    def mount(self, volume: MountSpec, tree: Tree) -> SandboxMount:
        """Make what the volume needs and give its mount. ``tree`` is the image's root."""
        if volume.kind == "tmpfs":
            options = dict(volume.options)
            return SandboxMount(
                "tmpfs",
                volume.target,
                readonly=volume.readonly,
                size=int(options.get("size", 0)),
                mode=int(options.get("mode", "1777"), 8),
            )
        if volume.kind == "bind":
            return SandboxMount("bind", volume.target, source=_host_path(volume), readonly=volume.readonly)
        data = os.path.join(self._dir, volume.source, "data")
        if not os.path.isdir(data):
            self._create(data, tree, volume.target)
        return SandboxMount("bind", volume.target, source=data, readonly=volume.readonly)

    def discard(self, name: str) -> str:
        """Rename a volume away, which removes it for everybody at once; what is to be deleted."""
        trash = os.path.join(self._dir, f".trash-{os.urandom(8).hex()}")
        try:
            os.rename(os.path.join(self._dir, name), trash)
        except FileNotFoundError:
            pass
        return trash

    def _create(self, data: str, tree: Tree, target: str) -> None:
        """Made beside its place and renamed, so that a crash leaves no half-copied volume."""
        staged = f"{os.path.dirname(data)}.{os.urandom(6).hex()}"
        try:
            os.makedirs(os.path.join(staged, "data"), mode=0o755)
            entry = tree.lookup(target.strip("/"))
            if entry is not None and entry.mode & 0o170000 == 0o040000:
                copy_tree(tree, entry, os.path.join(staged, "data"))
            os.rename(staged, os.path.dirname(data))
        except OSError as e:
            remove_tree(staged)
            if not os.path.isdir(data):
                raise PybuildError(f"cannot make the volume for {target}: {e.strerror}") from e


def _host_path(volume: MountSpec) -> str:
    """The host path of a bind mount; a missing one becomes a directory, as ``docker run -v`` does."""
    try:
        os.makedirs(volume.source, exist_ok=True)
    except FileExistsError:
        pass
    except OSError as e:
        raise PybuildError(f"cannot make the directory {volume.source} to mount: {e.strerror}") from e
    return volume.source


def copy_tree(tree: Tree, top: Entry, dest: str) -> None:
    """Copy a directory's content with modes, owners, links and times."""
    for entry in tree.walk(top.path):
        path = os.path.join(dest, os.path.relpath(entry.path, top.path) if top.path else entry.path)
        kind = entry.mode & 0o170000
        if kind == 0o040000:
            os.mkdir(path)
        elif kind == 0o120000:
            os.symlink(tree.readlink(entry), path)
        elif kind == 0o100000:
            _copy_file(entry.host, path)
        else:
            continue
        _set_owner(path, entry)
    _set_owner(dest, top)


def _set_owner(path: str, entry: Entry) -> None:
    try:
        os.chown(path, entry.uid, entry.gid, follow_symlinks=False)
    except OSError:
        # One mapped id: everything is the user's own.
        pass
    if entry.mode & 0o170000 != 0o120000:
        os.chmod(path, entry.mode & 0o7777)


def _copy_file(source: str, target: str) -> None:
    with (
        open(os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as src,
        open(target, "xb") as dst,
    ):
        while os.copy_file_range(src.fileno(), dst.fileno(), 1 << 30):
            pass
