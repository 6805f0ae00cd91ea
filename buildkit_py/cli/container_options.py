"""What ``run`` and ``create`` have in common: the options of a new container."""

from __future__ import annotations

import os

from buildkit_py.cli import health, isolation, limits, mounts, networking, values
from buildkit_py.cli.command import Args, Argument, flag, option
from buildkit_py.errors import UsageError
from buildkit_py.request import LogSpec, Pairs, RunRequest

PULLS = ("missing", "always", "never")

UNSET = "\0"
"""The default of --entrypoint: an empty text there means something, removing the image's."""


def translate(args: Args) -> RunRequest:
    """The request that a parsed command line asks for. Raises UsageError for values of a wrong form."""
    env: list[tuple[str, str]] = []
    for path in args.texts("env_files"):
        env += values.env_file(path)
    env += values.variables(args.texts("env"), "--env")
    pull = args.text("pull")
    assert pull in ("missing", "always", "never")
    entrypoint = args.text("entrypoint")
    if args.text("uts") == "host" and (args.text("hostname") or args.text("domainname")):
        raise UsageError(
            "--uts=host and --hostname exclude each other", hint="the name would be the machine's"
        )
    return RunRequest(
        image=args.text("image"),
        command=args.texts("command"),
        entrypoint=None if entrypoint == UNSET else (entrypoint,) if entrypoint else (),
        env=tuple(env),
        mounts=mounts.translate(args),
        workdir=values.directory(args.text("workdir"), "--workdir"),
        user=args.text("user"),
        # As inspect shows it, and docker takes it.
        name=args.text("name").removeprefix("/"),
        platform=args.text("platform"),
        interactive=args.flag("interactive"),
        terminal=args.flag("tty"),
        remove=args.flag("remove"),
        pull=pull,  # type: ignore[arg-type]
        labels=_labels(args),
        networking=networking.translate(args),
        isolation=isolation.translate(args),
        limits=limits.translate(args),
        restart=_restart(args),
        stop_signal=_signal(args.text("stop_signal")),
        stop_timeout=values.whole(args.text("stop_timeout"), "--stop-timeout"),
        volumes_from=args.texts("volumes_from"),
        health=health.translate(args),
        log=_log(args),
    )


def _labels(args: Args) -> Pairs:
    found: list[tuple[str, str]] = []
    for path in args.texts("label_files"):
        found += values.env_file(path, "--label-file", ours=False)
    return (*found, *values.pairs(args.texts("labels"), "--label"))


def _restart(args: Args) -> str:
    text = args.text("restart") or "no"
    if text != "no":
        from buildkit_py.runtime.restart import parse

        parse(text)
        if args.flag("remove"):
            raise UsageError("--rm and --restart exclude each other")
    return text


def _log(args: Args) -> LogSpec:
    driver, options = args.text("log_driver"), dict(values.pairs(args.texts("log_opt"), "--log-opt"))
    if driver not in ("json-file", "none"):
        raise UsageError(f"--log-driver: there is no '{driver}'", hint="json-file or none")
    size = values.size(options.pop("max-size", ""), "--log-opt max-size")
    files = values.whole(options.pop("max-file", "2"), "--log-opt max-file") or 0
    labels, env = (tuple(filter(None, options.pop(name, "").split(","))) for name in ("labels", "env"))
    if options:
        raise UsageError(
            f"--log-opt: '{next(iter(options))}' is not known", hint="max-size, max-file, labels and env are"
        )
    if files < 1:
        raise UsageError("--log-opt: max-file is 1 at least")
    return LogSpec(driver, size, files, labels, env)  # type: ignore[arg-type]


def _signal(text: str) -> str:
    if text:
        from buildkit_py.runtime.signals import number_of

        number_of(text)
    return text


class IdFile:
    """The file of ``--cidfile``: made before the container is, and gone again where none was made."""

    def __init__(self, path: str) -> None:
        """Raises UsageError where it is there, or can't be made."""
        self._path = path
        self._written = False
        if not path:
            return
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
        except FileExistsError:
            raise UsageError(
                f"--cidfile: {path} exists already", hint="remove it, or name another file"
            ) from None
        except OSError as error:
            raise UsageError(f"--cidfile: can't write {path}: {error.strerror}") from error

    def write(self, id: str) -> None:
        if self._path:
            with open(self._path, "w") as file:
                file.write(id)
            self._written = True

    def __enter__(self) -> IdFile:
        return self

    def __exit__(self, *_: object) -> None:
        if self._path and not self._written:
            os.unlink(self._path)


OPTIONS = tuple(
    sorted(
        (
            *health.OPTIONS,
            *isolation.OPTIONS,
            *limits.OPTIONS,
            *mounts.OPTIONS,
            *networking.OPTIONS,
            option("--cidfile", metavar="FILE", help="Write the container's id to a file"),
            option("--entrypoint", metavar="COMMAND", default=UNSET, help="Replace the image's ENTRYPOINT"),
            option("-e", "--env", multiple=True, metavar="NAME[=VALUE]", help="Set a variable"),
            option(
                "--env-file",
                name="env_files",
                multiple=True,
                metavar="FILE",
                help="Set the variables of a file",
            ),
            flag("-i", "--interactive", help="Pass stdin on"),
            flag("--disable-content-trust", name="unsigned", help="Docker's option", hidden=True),
            option(
                "--isolation",
                metavar="NAME",
                choices=("default",),
                default="default",
                help="default",
                hidden=True,
            ),
            option(
                "--label-file", name="label_files", multiple=True, metavar="FILE", help="Set a file's labels"
            ),
            option("-l", "--label", name="labels", multiple=True, metavar="KEY=VALUE", help="Set a label"),
            option(
                "--log-driver", metavar="NAME", default="json-file", help="json-file, or none to keep no log"
            ),
            option(
                "--log-opt",
                multiple=True,
                metavar="NAME=VALUE",
                help="max-size=10m, max-file=3, labels=…, env=…",
            ),
            option("--name", metavar="NAME", help="The container's name"),
            option("--platform", metavar="OS/ARCH", help="The platform of an image for several"),
            option(
                "--pull", metavar="WHEN", choices=PULLS, default="missing", help="When to ask the registry"
            ),
            flag("-q", "--quiet", help="Don't show the progress of a pull"),
            option("--restart", metavar="POLICY", help="no, always, unless-stopped or on-failure[:TIMES]"),
            option("--stop-signal", metavar="SIGNAL", help="The signal that `stop` sends"),
            option("--stop-timeout", metavar="SECONDS", help="When `stop` kills"),
            option(
                "--volumes-from", multiple=True, metavar="CONTAINER[:ro]", help="Mount what another one has"
            ),
            flag("--rm", name="remove", help="Remove the container when it ends"),
            flag("-t", "--tty", help="Give the command a terminal"),
            option("-u", "--user", metavar="USER[:GROUP]", help="Run as this user"),
            option("-w", "--workdir", metavar="DIRECTORY", help="Working directory"),
        ),
        key=lambda o: o.flags[-1],
    )
)

ARGUMENTS = (
    Argument("image", metavar="IMAGE"),
    Argument("command", metavar="[COMMAND [ARGUMENT]...]", required=False, many=True),
)
