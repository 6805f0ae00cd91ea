"""What ``run`` and ``create`` have in common: the options of a new container."""

from __future__ import annotations

import os
from collections.abc import Callable

from buildkit_py.cli import health, isolation, limits, mounts, networking, values
from buildkit_py.cli.command import Args, Argument, flag, option
from buildkit_py.errors import UsageError
from buildkit_py.request import LogSpec, RunRequest

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
    return RunRequest(
        image=args.text("image"),
        command=args.texts("command"),
        entrypoint=None if entrypoint == UNSET else (entrypoint,) if entrypoint else (),
        env=tuple(env),
        mounts=mounts.translate(args),
        workdir=args.text("workdir"),
        user=args.text("user"),
        name=args.text("name"),
        platform=args.text("platform"),
        interactive=args.flag("interactive"),
        terminal=args.flag("tty"),
        remove=args.flag("remove"),
        pull=pull,  # type: ignore[arg-type]
        labels=values.pairs(args.texts("labels"), "--label"),
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
    if options.pop("max-file", "2") not in ("1", "2") or options:
        raise UsageError("--log-opt: only max-size is known", hint="one older file is kept beside")
    return LogSpec(driver, size)  # type: ignore[arg-type]


def _signal(text: str) -> str:
    if text:
        from buildkit_py.runtime.signals import number_of

        number_of(text)
    return text


def cid_file(path: str) -> Callable[[str], None]:
    """What writes the container's id to ``--cidfile``. Raises UsageError where the file is there."""
    if path and os.path.exists(path):
        raise UsageError(f"--cidfile: {path} exists already", hint="remove it, or name another file")

    def write(id: str) -> None:
        if path:
            with open(path, "x") as file:
                file.write(id)

    return write


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
            option("-l", "--label", name="labels", multiple=True, metavar="KEY=VALUE", help="Set a label"),
            option(
                "--log-driver", metavar="NAME", default="json-file", help="json-file, or none to keep no log"
            ),
            option("--log-opt", multiple=True, metavar="NAME=VALUE", help="max-size=10m: then a new file"),
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
