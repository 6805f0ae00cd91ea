"""From a container's mounts as they were asked for to those of its sandbox."""

from __future__ import annotations

import os

from buildkit_py.errors import PybuildError, UsageError
from buildkit_py.request import MountSpec
from buildkit_py.runtime.volumes import VolumeStore
from buildkit_py.sandbox.spec import SandboxMount, SandboxSpec
from buildkit_py.snapshot.tree import Tree

NO_COPY = ("nocopy", "volume-nocopy")
SUBPATH = ("subpath", "volume-subpath", "bind-subpath")
OWN = "U"
_HARMLESS = ("z", "Z", "cached", "delegated", "consistent", "private", "rprivate", "copy", "rbind", "bind")
"""SELinux labels, which we set none of; hints for other systems; and what is so anyway."""
_KNOWN: tuple[str, ...] = (*_HARMLESS, *NO_COPY, *SUBPATH, OWN, "consistency", "bind-create-src")
_PROPAGATION = ("shared", "rshared", "slave", "rslave", "unbindable", "runbindable")
_TMPFS: tuple[str, ...] = (
    "size",
    "mode",
    "uid",
    "gid",
    "exec",
    "noexec",
    "suid",
    "nosuid",
    "dev",
    "nodev",
    "rw",
    "nr_inodes",
)


def prepare(mount: MountSpec, tree: Tree, volumes: VolumeStore, *, anonymous: bool) -> None:
    """Make what the mount of a new container needs; ``tree`` is its image's. Raises PybuildError."""
    options = check(mount)
    if mount.kind != "volume":
        return
    volume = volumes.create(mount.source, anonymous=anonymous)
    if not any(name in options for name in (*NO_COPY, *SUBPATH)):
        volumes.fill(volume, tree, mount.target)


def sandbox_mount(mount: MountSpec, volumes: VolumeStore) -> SandboxMount:
    """For each start. Raises PybuildError."""
    if mount.kind == "tmpfs":
        return _tmpfs(mount)
    options = dict(mount.options)
    source = _host_path(mount) if mount.kind == "bind" else volumes.create(mount.source).path
    inside = next((options[name] for name in SUBPATH if name in options), "")
    return SandboxMount("bind", mount.target, source=source, readonly=mount.readonly, inside=inside)


def check(mount: MountSpec) -> dict[str, str]:
    """The options of a mount. Raises UsageError for one that isn't known, or can't be done."""
    options = dict(mount.options)
    known = _TMPFS if mount.kind == "tmpfs" else _KNOWN
    for name, value in options.items():
        word = value if name == "bind-propagation" else name
        if word in _PROPAGATION:
            raise UsageError(
                f"the mount on {mount.target}: propagation '{word}' is not done here",
                hint="what is mounted in a container stays in it (rprivate)",
            )
        if word not in known:
            raise UsageError(f"the mount on {mount.target}: unknown option '{name}'")
    return options


def _tmpfs(mount: MountSpec) -> SandboxMount:
    from buildkit_py import quantities

    options = dict(mount.options)
    try:
        mode, uid, gid = (
            int(options.get("mode", "1777"), 8),
            int(options.get("uid", 0)),
            int(options.get("gid", 0)),
        )
    except ValueError as e:
        raise UsageError(f"the mount on {mount.target}: {e}") from e
    return SandboxMount(
        "tmpfs",
        mount.target,
        readonly=mount.readonly,
        size=quantities.size(options["size"], "--tmpfs size") if options.get("size") else 0,
        mode=mode,
        uid=uid,
        gid=gid,
        noexec="exec" not in options,
    )


def _host_path(mount: MountSpec) -> str:
    """The host path of a bind mount, links followed. A missing one becomes a directory, as ``docker run -v``
    does; ``--mount`` wants it to be there, as docker's does."""
    if "bind-create-src" in dict(mount.options):
        try:
            os.makedirs(mount.source, exist_ok=True)
        except FileExistsError:
            pass
        except OSError as e:
            raise PybuildError(f"cannot make the directory {mount.source} to mount: {e.strerror}") from e
    path = os.path.realpath(mount.source)
    if not os.path.lexists(path):
        raise PybuildError(f"there is no {mount.source} to mount on {mount.target}")
    return path


def take_over(mounts: tuple[MountSpec, ...], spec: SandboxSpec) -> None:
    """``:U``: make the sources of mounts that ask for it the container's user's, as far as they aren't.

    Raises PybuildError.
    """
    for mount, made in zip(mounts, spec.mounts, strict=False):
        if OWN not in dict(mount.options) or mount.kind == "tmpfs":
            continue
        try:
            _own(made.source, spec.uid, spec.gid)
        except OSError as e:
            raise PybuildError(
                f"cannot give {mount.source} to the container's user {spec.uid}: {e.strerror}"
            ) from e


def _own(path: str, uid: int, gid: int) -> None:
    os.lchown(path, uid, gid)
    # By descriptors: another container that has the directory may put links in the way meanwhile.
    for _, folders, files, directory in os.fwalk(path):
        for name in folders + files:
            found = os.stat(name, dir_fd=directory, follow_symlinks=False)
            if (found.st_uid, found.st_gid) != (uid, gid):
                os.chown(name, uid, gid, dir_fd=directory, follow_symlinks=False)
