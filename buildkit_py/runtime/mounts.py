"""From a container's mounts as they were asked for to those of its sandbox."""

from __future__ import annotations

import os

from buildkit_py.errors import PybuildError, UsageError
from buildkit_py.request import MountSpec
from buildkit_py.runtime.volumes import VolumeStore
from buildkit_py.sandbox.spec import SandboxMount, SandboxSpec
from buildkit_py.snapshot.tree import Tree
from buildkit_py.typed import Literal

NO_COPY = ("nocopy", "volume-nocopy")
SUBPATH = ("subpath", "volume-subpath", "bind-subpath")
OWN = "U"
_HARMLESS = ("z", "Z", "cached", "delegated", "consistent", "private", "rprivate", "copy", "rbind", "bind")
"""SELinux labels, which we set none of; hints for other systems; and what is so anyway."""
SUBMOUNTS: dict[str, Literal["like it", "as they are", "left out"]] = {
    "enabled": "like it",
    "readonly": "like it",
    "writable": "as they are",
    "disabled": "left out",
}
"""Docker's values of ``bind-recursive``."""
_KNOWN: tuple[str, ...] = (
    *_HARMLESS,
    *NO_COPY,
    *SUBPATH,
    OWN,
    "consistency",
    "bind-create-src",
    "bind-recursive",
    "volume-label",
    "volume-opt",
)
_PROPAGATION = ("shared", "rshared", "slave", "rslave", "unbindable", "runbindable")
_ACCESS_TIMES = ("noatime", "strictatime", "nodiratime", "relatime")
_OF_THE_FILE_SYSTEM = ("nr_inodes", "nr_blocks", "mpol")
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
    "private",
    "rprivate",
    "sync",
    "async",
    "dirsync",
    *_ACCESS_TIMES,
    *_OF_THE_FILE_SYSTEM,
)


def prepare(mount: MountSpec, tree: Tree, volumes: VolumeStore, *, anonymous: bool) -> None:
    """Make what the mount of a new container needs; ``tree`` is its image's. Raises PybuildError."""
    options = check(mount)
    if mount.kind != "volume":
        return
    volume = volumes.create(
        mount.source,
        labels=_pairs(mount, "volume-label"),
        options=_pairs(mount, "volume-opt"),
        anonymous=anonymous,
    )
    if not any(name in options for name in (*NO_COPY, *SUBPATH)):
        volumes.fill(volume, tree, mount.target)


def sandbox_mount(mount: MountSpec, volumes: VolumeStore) -> SandboxMount:
    """For each start. Raises PybuildError."""
    if mount.kind == "tmpfs":
        return _tmpfs(mount)
    options = dict(mount.options)
    source = _host_path(mount) if mount.kind == "bind" else volumes.create(mount.source).path
    inside = next((options[name] for name in SUBPATH if name in options), "")
    return SandboxMount(
        "bind",
        mount.target,
        source=source,
        readonly=mount.readonly,
        inside=inside,
        submounts=SUBMOUNTS[options.get("bind-recursive", "enabled")],
    )


def _pairs(mount: MountSpec, option: str) -> tuple[tuple[str, str], ...]:
    """The values ``KEY=VALUE`` of an option that may be given several times."""
    found = (value.partition("=") for name, value in mount.options if name == option)
    return tuple((key, value) for key, _, value in found)


def check(mount: MountSpec) -> dict[str, str]:
    """The options of a mount. Raises UsageError for one that isn't known, or can't be done."""
    options = dict(mount.options)
    known = _TMPFS if mount.kind == "tmpfs" else _KNOWN
    for name, value in options.items():
        word = value if name == "bind-propagation" else name
        if name == "bind-recursive" and value not in SUBMOUNTS:
            word = f"{name}={value}"
        if word in _PROPAGATION:
            raise UsageError(
                f"the mount on {mount.target}: propagation '{word}' is not done here",
                hint="what is mounted in a container stays in it (rprivate)",
            )
        if word not in known:
            raise UsageError(f"the mount on {mount.target}: unknown option '{word}'")
        if name in SUBPATH and (value.startswith("/") or ".." in value.split("/") or not value):
            raise UsageError(f"the mount on {mount.target}: '{value}' is no path inside of what is mounted")
    return options


def _tmpfs(mount: MountSpec) -> SandboxMount:
    from buildkit_py import quantities

    options = dict(mount.options)
    size = options.get("size", "")
    share = size if size.endswith("%") and size[:-1].isdecimal() else ""
    further = [(name, options[name]) for name in _OF_THE_FILE_SYSTEM if options.get(name)]
    further += [(name, "") for name in ("suid", *_ACCESS_TIMES) if name in options]
    return SandboxMount(
        "tmpfs",
        mount.target,
        readonly=mount.readonly,
        size=0 if share else quantities.size(size, "--tmpfs size"),
        mode=_number(mount, "mode", "1777", 8),
        uid=_number(mount, "uid", "0"),
        gid=_number(mount, "gid", "0"),
        noexec="exec" not in options,
        options=(*further, ("size", share)) if share else tuple(further),
    )


def _number(mount: MountSpec, option: str, default: str, base: int = 10) -> int:
    """Raises UsageError."""
    text = dict(mount.options).get(option, default)
    digits = "01234567" if base == 8 else "0123456789"
    if not text or text.strip(digits) or int(text, base) >= (1 << 32 if base == 10 else 0o10000):
        what = "an octal mode, 1777 for example" if base == 8 else "an id"
        raise UsageError(f"the mount on {mount.target}: {option}={text} is not {what}")
    return int(text, base)


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
