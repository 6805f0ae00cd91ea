"""What is done in a container by ourselves and not by a program of its image: ``cp``.

In the container's mounts, as root under its filter, with the modules that were loaded outside. A tar goes
through standard input or output; an error is a line on standard error, and exit status 1.
"""

from __future__ import annotations

import os

from buildkit_py.archive import transfer
from buildkit_py.errors import PybuildError
from buildkit_py.linux.caps import DEFAULT
from buildkit_py.linux.ownership import OWNER_XATTR, decode
from buildkit_py.sandbox.spec import SandboxSpec

_KERNELS = frozenset({"proc", "sys", "dev"})
"""What the kernel shows there is no file of the container's, and some of it can't be read."""


def run(spec: SandboxSpec) -> int:
    """``pack`` or ``unpack``, with the arguments of the spec; the exit status."""
    try:
        if spec.tool == "pack":
            _pack(*spec.args)
        else:
            _unpack(*spec.args)
    except PybuildError as e:
        os.write(2, f"{e.message}\n".encode("utf-8", "surrogateescape"))
        return 1
    except BrokenPipeError:
        return 1
    return 0


def _pack(path: str, follow: str, name: str) -> None:
    transfer.pack(path, _write, follow=follow == "follow", owner=_owner, name=name, hollow=_KERNELS)


def _unpack(path: str, name: str, kind: str, owners: str) -> None:
    source = transfer.Source(name, kind in ("directory", "contents"), kind == "contents")
    kept = owners == "owners"
    transfer.unpack(lambda size: os.read(0, size), path, source, owners=kept, devices=kept)


def _write(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]


def _owner(fd: int, found: os.stat_result) -> tuple[int, int]:
    """As it is recorded, where one id is mapped."""
    try:
        owner = decode(os.getxattr(fd, OWNER_XATTR))
    except (OSError, ValueError):
        return found.st_uid, found.st_gid
    return owner.uid, owner.gid


def fitted(spec: SandboxSpec, tool: str, args: tuple[str, ...]) -> SandboxSpec:
    """A container's spec for a tool in its mounts: as root, without what is the command's alone."""
    assert tool in ("pack", "unpack")
    return spec._replace(
        tool=tool,  # type: ignore[arg-type]
        args=args,
        cwd="/",
        uid=0,
        gid=0,
        groups=(),
        network="host",
        terminal=False,
        init=False,
        ulimits=(),
        sysctls=(),
        cgroups=(),
        processes=0,
        keep_id=None,
        oom_score_adj=None,
        privileged=False,
        capabilities=DEFAULT,
        seccomp="default",
        runtime="",
    )
