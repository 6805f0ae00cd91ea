"""The kinds of work that a build graph's node can be, as plain values.

An op holds all that identifies its work and nothing else: names for display, places in the file and
limits live in Meta (buildkit_py.llb.graph), so that they never enter a digest. File ops name their
inputs by index into the node's ``inputs``.
"""

from __future__ import annotations

from buildkit_py.tuples import NamedTuple
from buildkit_py.typed import Literal


class ImageSource(NamedTuple):
    """The root file system of an image. Result: a snapshot."""

    ref: str
    """Normalised, with tag or digest: ``docker.io/library/busybox:1``."""
    digest: str
    """Of the platform's manifest or, for an image only known here, its config; never a tag."""
    platform: str


class LocalSource(NamedTuple):
    """A local directory read in place. Result: a tree."""

    name: str
    """``context``, or the name of a named context."""
    ignore: tuple[str, ...] = ()
    """Lines of the .dockerignore that applies."""


class InlineSource(NamedTuple):
    """Files given in the Dockerfile itself (heredocs). Result: a tree."""

    files: tuple[tuple[str, str, int], ...]
    """(name, content, permission bits)"""


class GitSource(NamedTuple):
    url: str
    ref: str = ""
    subdir: str = ""
    checksum: str = ""
    keep_git_dir: bool = False
    submodules: bool = True


class HttpSource(NamedTuple):
    url: str
    checksum: str = ""
    name: str = ""
    """File name in the result tree."""


class Copy(NamedTuple):
    """One COPY or ADD action onto input 0 (or onto nothing, where input 0 is absent)."""

    input: int
    """Index of the tree or snapshot that the sources are taken from."""
    sources: tuple[str, ...]
    """Paths or wildcards as in the Dockerfile, after expansion; rooted in the input."""
    dest: str
    """Absolute; a trailing ``/`` means a directory."""
    keep_owner: bool = False
    """True for ``--from``: ids are kept; False for a context: 0:0."""
    chown: str = ""
    """``--chown`` as written after expansion; empty for none."""
    chmod: str = ""
    parents: bool = False
    exclude: tuple[str, ...] = ()
    unpack: Literal["auto", "never", "always"] = "never"
    """ADD: ``auto`` extracts local archives that are known by content."""


class Mkdir(NamedTuple):
    """WORKDIR: make a directory and its missing parents; an existing one is left alone."""

    path: str
    mode: int = 0o755
    user: str = ""
    """The owner as USER was written (names are read from the rootfs); empty: 0:0."""


class File(NamedTuple):
    """File actions in order, making one layer. Input 0 is the snapshot under it (see ``base``)."""

    actions: tuple[Copy | Mkdir, ...]
    base: bool = True
    """False: onto nothing; then inputs start with the sources."""


class Mount(NamedTuple):
    """One ``RUN --mount``."""

    kind: Literal["bind", "cache", "tmpfs", "secret", "ssh"]
    target: str
    """Absolute; may be empty for a secret that is only a variable."""
    input: int = -1
    """Index into the node's inputs for bind and ``cache,from=``; -1: none."""
    source: str = "/"
    readonly: bool = True
    id: str = ""
    sharing: Literal["shared", "private", "locked"] = "shared"
    mode: int = -1
    """Permission bits; -1: the kind's default."""
    uid: int = 0
    gid: int = 0
    required: bool = False
    env: str = ""
    size: int = 0
    """tmpfs, bytes; 0: the kernel's default."""


class Exec(NamedTuple):
    """A process run on input 0. Result: a snapshot."""

    args: tuple[str, ...]
    env: tuple[str, ...]
    """``K=V``: the image's environment and every ARG with a value; without proxy variables."""
    cwd: str
    user: str = ""
    """As USER was written: ``name[:group]`` or ids; empty: root."""
    mounts: tuple[Mount, ...] = ()
    network: Literal["default", "none", "host"] = "default"
    security: Literal["sandbox", "insecure"] = "sandbox"
    hostname: str = ""
    extra_hosts: tuple[tuple[str, str], ...] = ()
    """(name, address) for /etc/hosts."""
    shm_size: int = 0
    ulimits: tuple[tuple[str, int, int], ...] = ()
    """(name, soft, hard)"""
    devices: tuple[str, ...] = ()
    platform: str = ""
    base: bool = True
    """False: run on nothing (FROM scratch); then inputs start with the mounts' sources."""


class Merge(NamedTuple):
    """Input 1's own layers put on top of input 0, whatever it is (``COPY --link``)."""


Op = ImageSource | LocalSource | InlineSource | GitSource | HttpSource | File | Exec | Merge
