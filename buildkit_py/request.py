"""What a command asks of the engine, as plain data: the seam between cli and engine.

The fields mirror docker's options. The command line only translates and checks their form; the engine
refuses by name what it can't do.
"""

# Annotations are not postponed here: runtime.config.decode reads them.

from collections.abc import Mapping

from buildkit_py.tuples import NamedTuple
from buildkit_py.typed import Literal

Pairs = tuple[tuple[str, str], ...]
Ulimits = tuple[tuple[str, int, int], ...]
"""(name as in setrlimit(2) without RLIMIT_, lower case; soft; hard); -1 is unlimited."""


class Output(NamedTuple):
    """One ``-o``: ``kind`` is image, oci, docker, local, tar or registry."""

    kind: str
    attributes: Pairs = ()

    def get(self, name: str, default: str = "") -> str:
        return dict(self.attributes).get(name, default)


class CacheSpec(NamedTuple):
    """One ``--cache-from`` or ``--cache-to``: ``kind`` is registry, local, inline, gha or s3."""

    kind: str
    attributes: Pairs = ()

    def get(self, name: str, default: str = "") -> str:
        return dict(self.attributes).get(name, default)


class SecretSpec(NamedTuple):
    """One ``--secret``: from a file (``source``) or a variable (``env``)."""

    id: str
    source: str = ""
    env: str = ""


class SshSpec(NamedTuple):
    """One ``--ssh``: an agent's socket or keys; no paths: $SSH_AUTH_SOCK."""

    id: str = "default"
    paths: tuple[str, ...] = ()


class Limits(NamedTuple):
    """What a container, or each step of a build, may use of the machine."""

    shm_size: int = 0
    """Bytes; 0: the default."""
    memory: int = 0
    """Bytes, as the next two; 0: no limit."""
    memory_swap: int = 0
    """Memory and swap together; -1: no limit of swap; 0: twice ``memory``."""
    memory_reservation: int = 0
    cpus: float = 0.0
    cpu_shares: int = 0
    """Relative weight, 1024 by default."""
    cpuset_cpus: str = ""
    """Like ``0-2,4``, as ``cpuset_mems``."""
    cpuset_mems: str = ""
    pids: int = 0
    """Processes and threads; 0 or -1: no limit."""
    blkio_weight: int = 0
    """10 to 1000."""
    cgroup_parent: str = ""
    strict: bool = False
    """A limit that can't be set is an error, not a warning."""

    @property
    def controlled(self) -> bool:
        """Whether anything is limited that takes a control group."""
        return self._replace(shm_size=0, cgroup_parent="", strict=False) != Limits()


class AttestSpec(NamedTuple):
    """One ``--attest``: ``kind`` is provenance or sbom."""

    kind: str
    attributes: Pairs = ()

    def get(self, name: str) -> str:
        return dict(self.attributes).get(name, "")


class BuildRequest(NamedTuple):
    context: str
    """A directory, a URL, or ``-`` (a Dockerfile or a tar on stdin)."""
    file: str = ""
    """The Dockerfile: a path, a URL or ``-``; "": ``Dockerfile`` in the context."""
    tags: tuple[str, ...] = ()
    """As typed, not normalised."""
    target: str = ""
    build_args: Pairs = ()
    """``--build-arg NAME`` without a value is looked up in the environment by the command line, and left
    out where it isn't set."""
    labels: Pairs = ()
    squash: bool = False
    """The layers that are new become one."""
    unset_env: tuple[str, ...] = ()
    """Variables that the image is not to have, nor these labels."""
    unset_labels: tuple[str, ...] = ()
    annotations: Pairs = ()
    platforms: tuple[str, ...] = ()
    no_cache: bool = False
    no_cache_filter: tuple[str, ...] = ()
    """Stages whose steps run again."""
    cache_ttl: float = 0.0
    """Seconds: RUN steps whose results are older run again; 0: none is too old."""
    pull: bool = False
    """Ask the registry for base images even where they are in the store."""
    network: str = "default"
    build_contexts: Pairs = ()
    """(name, path, URL or ``docker-image://``, ``target:`` … reference)"""
    secrets: tuple[SecretSpec, ...] = ()
    ssh: tuple[SshSpec, ...] = ()
    extra_hosts: Pairs = ()
    """(name, address)"""
    shm_size: int = 0
    """Bytes; 0: the default."""
    ulimits: Ulimits = ()
    limits: Limits = Limits()
    """Of each RUN; they take no part in cache keys."""
    on_failure: str = ""
    """``shell``: enter the state of a RUN that failed."""
    outputs: tuple[Output, ...] = ()
    """Empty: an image in the store."""
    allow: tuple[str, ...] = ()
    """Entitlements: ``network.host``, ``security.insecure``."""
    cache_from: tuple[CacheSpec, ...] = ()
    cache_to: tuple[CacheSpec, ...] = ()
    attests: tuple[AttestSpec, ...] = ()
    """What is to be stated of the image; each kind once."""
    call: str = "build"
    """build, check, outline or targets."""
    format: str = "text"
    """Of what ``call`` answers: text or json."""


class BuildWarning(NamedTuple):
    """One finding of a build check."""

    message: str
    rule: str = ""
    path: str = ""
    start: int = 0
    end: int = 0
    url: str = ""
    lines: tuple[str, ...] = ()
    """The Dockerfile's source lines."""


class MountSpec(NamedTuple):
    """One ``-v``, ``--mount`` or ``--tmpfs`` of a container."""

    kind: Literal["bind", "volume", "tmpfs"]
    target: str
    source: str = ""
    """bind: an absolute host path. volume: its name, "" for an anonymous one."""
    readonly: bool = False
    options: Pairs = ()
    """Further options by name: ``size``, ``mode``, …"""


class PortSpec(NamedTuple):
    """One port of ``-p``; a range of them is several."""

    container: int
    protocol: str = "tcp"
    """tcp or udp."""
    host_ip: str = ""
    """An address of this machine; "": all of them."""
    first: int = 0
    """The first of the host ports that will do; 0: any free one."""
    last: int = 0


class NetworkSpec(NamedTuple):
    """One ``--network``."""

    name: str
    """host, none, private, bridge, container:NAME, or a network of the user's."""
    aliases: tuple[str, ...] = ()
    ip: str = ""
    mac: str = ""


class Networking(NamedTuple):
    """A container's network."""

    networks: tuple[NetworkSpec, ...] = ()
    """Empty: the default."""
    hostname: str = ""
    domainname: str = ""
    extra_hosts: Pairs = ()
    """(name, address); the address ``host-gateway`` is the one by which the container reaches this
    machine."""
    ports: tuple[PortSpec, ...] = ()
    publish_all: bool = False
    """Publish what the image exposes, on host ports that are free."""
    expose: tuple[str, ...] = ()
    """Further ports for that, as EXPOSE has them: ``80``, ``53/udp``."""
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()


class Isolation(NamedTuple):
    """How far a container is kept apart from the machine."""

    readonly: bool = False
    """Of the root file system."""
    ulimits: Ulimits = ()
    privileged: bool = False
    cap_add: tuple[str, ...] = ()
    """Upper case, without ``CAP_``; ``ALL`` is one of them."""
    cap_drop: tuple[str, ...] = ()
    no_new_privileges: bool = False
    seccomp: str = ""
    """``unconfined`` or the path of a profile in Docker's form; "": Docker's default profile."""
    mask: tuple[str, ...] = ()
    """Paths hidden besides the usual ones."""
    unmask: tuple[str, ...] = ()
    """Paths that are hidden or read-only by default and should not be; ``ALL`` for every one."""
    groups: tuple[str, ...] = ()
    """Further groups of the user, by name in the image or number."""
    devices: tuple[tuple[str, str, str], ...] = ()
    """(host path, path in the container, what may be done with it of ``rwm``)"""
    sysctls: Pairs = ()
    init: bool = False
    """Process 1 is a small program that reaps orphans and passes signals on."""
    pid: str = ""
    """Whose processes are seen: "" (its own), host or ``container:NAME``. The next two likewise."""
    ipc: str = ""
    """Also none: its own, without /dev/shm."""
    uts: str = ""
    cgroupns: str = ""
    """"" or host."""
    userns: str = ""
    """"", host or keep-id."""
    oom_score_adj: int | None = None
    runtime: str = ""
    """An OCI runtime that runs the container: its name or path; "": the sandbox of our own."""

    @property
    def shared(self) -> Pairs:
        """(pid, ipc or uts; container) of the namespaces of other containers."""
        kinds = (("pid", self.pid), ("ipc", self.ipc), ("uts", self.uts))
        return tuple((k, v.partition(":")[2]) for k, v in kinds if v.startswith("container:"))


class HealthCheck(NamedTuple):
    """How a container is asked whether it is well. Of what is not given the image's holds."""

    test: tuple[str, ...] = ()
    """As in an image's config: ("CMD", …), ("CMD-SHELL", text), ("NONE",); () for the image's."""
    interval: float = 0.0
    """Seconds, like all of them; 0: not given."""
    timeout: float = 0.0
    start_period: float = 0.0
    start_interval: float = 0.0
    retries: int = 0


class LogSpec(NamedTuple):
    """What is kept of a container's output."""

    driver: Literal["json-file", "none"] = "json-file"
    max_size: int = 0
    """Bytes after which a new file is begun; 0: no limit."""
    max_files: int = 2
    """So many are kept then."""
    labels: tuple[str, ...] = ()
    """Labels and variables of the container that ``logs --details`` shows."""
    env: tuple[str, ...] = ()


class RunRequest(NamedTuple):
    image: str
    command: tuple[str, ...] = ()
    """Replaces the image's CMD; empty: CMD."""
    entrypoint: tuple[str, ...] | None = None
    """Replaces the image's ENTRYPOINT, () removes it; None: the image's."""
    env: Pairs = ()
    """Later ones win; over the image's."""
    mounts: tuple[MountSpec, ...] = ()
    workdir: str = ""
    user: str = ""
    name: str = ""
    platform: str = ""
    interactive: bool = False
    """stdin is passed on; else it is /dev/null."""
    terminal: bool = False
    remove: bool = False
    pull: Literal["missing", "always", "never"] = "missing"
    labels: Pairs = ()
    networking: Networking = Networking()
    isolation: Isolation = Isolation()
    limits: Limits = Limits()
    attach: tuple[str, ...] = ()
    """Of stdin, stdout and stderr, those that ``run`` is connected to; () with ``--detach``."""
    restart: str = "no"
    """no, always, unless-stopped, on-failure[:TIMES]."""
    stop_signal: str = ""
    """By name or number; "": the image's, else TERM."""
    stop_timeout: int | None = None
    """Seconds until ``stop`` kills; negative: never; None: 10."""
    health: HealthCheck = HealthCheck()
    log: LogSpec = LogSpec()
    volumes_from: tuple[str, ...] = ()
    """CONTAINER[:ro|rw], whose mounts this one gets too."""


class BuildResult(NamedTuple):
    image_id: str = ""
    """``sha256:…``; "" where nothing was kept in the store."""
    names: tuple[str, ...] = ()
    """Normalised names that were given to the image."""
    targets: tuple[tuple[str, str, str], ...] = ()
    """Of ``--call targets``: (name, base, description)."""
    warnings: tuple[BuildWarning, ...] = ()
    digest: str = ""
    """Of the manifest or index that was exported or pushed."""
    descriptor: Mapping[str, object] = {}
    """Of the same, as an OCI descriptor."""
    provenance: Mapping[str, Mapping[str, object]] = {}
    """By platform, where it was asked for."""
    build: str = ""
    """Its id in the history; "" where none is kept."""
    text: str = ""
    """Of ``--call outline`` and the like: what is printed."""
    error: Exception | None = None
    """Of ``--call check``: why the file can't be built; a JSON ``text`` tells it already."""

    def metadata(self) -> dict[str, object]:
        """The document of ``--metadata-file``, by BuildKit's keys."""
        fields: dict[str, object] = {
            "buildx.build.ref": self.build,
            "containerimage.config.digest": self.image_id,
            "containerimage.descriptor": self.descriptor,
            "containerimage.digest": self.digest,
            "image.name": ",".join(self.names),
        }
        for platform, document in self.provenance.items():
            several = len(self.provenance) > 1
            fields["buildx.build.provenance" + (f"/{platform}" if several else "")] = document
        return {name: value for name, value in fields.items() if value}
