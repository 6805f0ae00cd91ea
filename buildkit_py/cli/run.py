"""``pybuild run``"""

from __future__ import annotations

import os
import sys

from buildkit_py.cli import values
from buildkit_py.cli.command import Args, Argument, Command, flag, option
from buildkit_py.errors import UsageError
from buildkit_py.request import MountSpec, RunRequest

READONLY = {"ro": True, "rw": False}
PULLS = ("missing", "always", "never")


def translate(args: Args) -> RunRequest:
    """The request that a parsed command line asks for. Raises UsageError for values of a wrong form."""
    env: list[tuple[str, str]] = []
    for path in args.texts("env_files"):
        env += values.env_file(path)
    env += values.variables(args.texts("env"), "--env")
    mounts = [volume(text) for text in args.texts("volumes")]
    mounts += [mount(text) for text in args.texts("mounts")]
    mounts += [tmpfs(text) for text in args.texts("tmpfs")]
    targets = [os.path.normpath(m.target) for m in mounts]
    for target in targets:
        if targets.count(target) > 1:
            raise UsageError(f"two mounts have the same target {target}")
    pull = args.text("pull")
    assert pull in ("missing", "always", "never")
    entrypoint = args.text("entrypoint")
    return RunRequest(
        image=args.text("image"),
        command=args.texts("command"),
        entrypoint=None if entrypoint == UNSET else (entrypoint,) if entrypoint else (),
        env=tuple(env),
        mounts=tuple(mounts),
        workdir=args.text("workdir"),
        user=args.text("user"),
        name=args.text("name"),
        hostname=args.text("hostname"),
        network=args.text("network"),
        platform=args.text("platform"),
        interactive=args.flag("interactive"),
        terminal=args.flag("tty"),
        remove=args.flag("remove"),
        readonly=args.flag("read_only"),
        pull=pull,  # type: ignore[arg-type]
        extra_hosts=values.hosts(args.texts("add_hosts")),
        labels=values.pairs(args.texts("labels"), "--label"),
        shm_size=values.size(args.text("shm_size"), "--shm-size"),
        ulimits=values.ulimits(args.texts("ulimits")),
    )


UNSET = "\0"
"""The default of --entrypoint: an empty text there means something, removing the image's."""


def volume(text: str) -> MountSpec:
    """``-v [SOURCE:]TARGET[:OPTIONS]``: a path (bind), a name (volume), or nothing (anonymous volume)."""
    parts = text.split(":")
    if len(parts) > 3 or not all(parts):
        raise UsageError(f"--volume: '{text}' is not of the form [SOURCE:]TARGET[:OPTIONS]")
    source, target, options = "", parts[0], ""
    if len(parts) > 1:
        source, target = parts[0], parts[1]
        options = parts[2] if len(parts) == 3 else ""
    _absolute(target, "--volume", text)
    readonly, further = False, []
    for word in options.split(",") if options else ():
        if word in READONLY:
            readonly = READONLY[word]
        else:
            further.append((word, ""))
    if source.startswith(("/", ".", "~")):
        path = os.path.abspath(os.path.expanduser(source) if source.startswith("~") else source)
        return MountSpec("bind", target, path, readonly, tuple(further))
    if "/" in source:
        raise UsageError(
            f"--volume: '{source}' is neither a path nor a volume's name", hint=f"write ./{source} for a path"
        )
    return MountSpec("volume", target, source, readonly, tuple(further))


def mount(text: str) -> MountSpec:
    """``--mount type=bind|volume|tmpfs,source=…,target=…[,readonly]``"""
    attributes = values.attributes(text, "--mount")
    kind = attributes.pop("type", "volume")
    source = _first(attributes, "source", "src")
    target = _first(attributes, "target", "dst", "destination")
    readonly = _true(attributes.pop("readonly", None)) or _true(attributes.pop("ro", None))
    if kind not in ("bind", "volume", "tmpfs"):
        raise UsageError(f"--mount: unknown type '{kind}'", hint="bind, volume or tmpfs")
    if not target:
        raise UsageError(f"--mount: '{text}' has no target=")
    _absolute(target, "--mount", text)
    if kind == "bind":
        if not source:
            raise UsageError(f"--mount: '{text}' has no source=")
        source = os.path.abspath(source)
    if kind == "tmpfs" and source:
        raise UsageError("--mount: a tmpfs has no source")
    renamed = {key.removeprefix("tmpfs-"): value for key, value in attributes.items()}
    return MountSpec(kind, target, source, readonly, tuple(renamed.items()))  # type: ignore[arg-type]


def tmpfs(text: str) -> MountSpec:
    """``--tmpfs TARGET[:OPTIONS]``"""
    target, _, options = text.partition(":")
    _absolute(target, "--tmpfs", text)
    pairs = [tuple(word.partition("=")[::2]) for word in options.split(",") if word]
    readonly = any(name == "ro" for name, _ in pairs)
    further = tuple((name, value) for name, value in pairs if name not in READONLY)
    return MountSpec("tmpfs", target, "", readonly, further)


def _absolute(target: str, option: str, text: str) -> None:
    if not target.startswith("/"):
        raise UsageError(f"{option}: the target of '{text}' is not an absolute path")
    if os.path.normpath(target) in ("/", "//"):
        raise UsageError(f"{option}: the target of '{text}' is the root directory")


def _first(attributes: dict[str, str], *names: str) -> str:
    found = [attributes.pop(name) for name in names if name in attributes]
    return found[0] if found else ""


def _true(value: str | None) -> bool:
    return value is not None and value.lower() in ("", "true", "1")


def run(args: Args) -> int:
    request = translate(args)
    if request.terminal and request.interactive and not sys.stdin.isatty():
        raise UsageError("-t needs a terminal on stdin", hint="leave -t out when stdin is a pipe or a file")
    from buildkit_py.cli.session import Session

    # A display that has nothing to show costs nothing; it is there for a pull.
    with Session("quiet" if args.flag("quiet") else "auto", passes_signals=True) as session:
        return session.engine.run(request, session.display, session.display.close)


COMMAND = Command(
    "run",
    "Run a command in a new container.\n\nThe command's exit status is passed on; 125 says that pybuild "
    "itself failed, 126 that the command can't be run, 127 that it isn't there.",
    (
        option(
            "--add-host", name="add_hosts", multiple=True, metavar="NAME:IP", help="Add a line to /etc/hosts"
        ),
        option("--entrypoint", metavar="COMMAND", default=UNSET, help="Replace the image's ENTRYPOINT"),
        option("-e", "--env", multiple=True, metavar="NAME[=VALUE]", help="Set a variable"),
        option(
            "--env-file", name="env_files", multiple=True, metavar="FILE", help="Set the variables of a file"
        ),
        option("-h", "--hostname", metavar="NAME", help="The container's host name"),
        flag("-i", "--interactive", help="Pass stdin on"),
        option("-l", "--label", name="labels", multiple=True, metavar="KEY=VALUE", help="Set a label"),
        option(
            "--mount",
            name="mounts",
            multiple=True,
            metavar="SPEC",
            help="type=bind|volume|tmpfs,source=…,target=…",
        ),
        option("--name", metavar="NAME", help="The container's name"),
        option("--network", metavar="MODE", help="Network: private, host or none"),
        option("--platform", metavar="OS/ARCH", help="The platform of an image for several"),
        option("--pull", metavar="WHEN", choices=PULLS, default="missing", help="When to ask the registry"),
        flag("-q", "--quiet", help="Don't show the progress of a pull"),
        flag("--read-only", help="Mount the root file system read-only"),
        flag("--rm", name="remove", help="Remove the container when it ends"),
        option("--shm-size", metavar="BYTES", help="Size of /dev/shm"),
        option("--tmpfs", multiple=True, metavar="TARGET[:OPTIONS]", help="Mount a tmpfs"),
        flag("-t", "--tty", help="Give the command a terminal"),
        option(
            "--ulimit", name="ulimits", multiple=True, metavar="NAME=SOFT[:HARD]", help="Limit of the command"
        ),
        option("-u", "--user", metavar="USER[:GROUP]", help="Run as this user"),
        option(
            "-v",
            "--volume",
            name="volumes",
            multiple=True,
            metavar="SOURCE:TARGET[:ro]",
            help="Mount a directory",
        ),
        option("-w", "--workdir", metavar="DIRECTORY", help="Working directory"),
        Argument("image", metavar="IMAGE"),
        Argument("command", metavar="[COMMAND [ARGUMENT]...]", required=False, many=True),
    ),
    run,
    interspersed=False,
    error_status=125,
    examples=(
        "pybuild run --rm -it debian:12 bash",
        "pybuild run --rm -v .:/work -w /work python:3.12 python x.py",
    ),
)
