"""``pybuild build``"""

from __future__ import annotations

import os
import sys

from buildkit_py.cli import limits, values
from buildkit_py.cli.command import Args, Argument, Command, Option, flag, option
from buildkit_py.errors import PybuildError, UsageError
from buildkit_py.request import AttestSpec, BuildRequest, BuildResult, CacheSpec, Output, SecretSpec, SshSpec
from buildkit_py.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from buildkit_py.errors import StepError
    from buildkit_py.progress.display import Display
    from buildkit_py.request import BuildWarning

PROGRESS = ("auto", "plain", "tty", "rawjson", "quiet")
CALLS = ("build", "check", "outline", "targets")
FORMATS = ("text", "json")


def translate(args: Args) -> BuildRequest:
    """The request that a parsed command line asks for. Raises UsageError for values of a wrong form."""
    call, form = method(args)
    return BuildRequest(
        context=args.text("context"),
        file=args.text("file"),
        tags=args.texts("tags"),
        target=args.text("target"),
        build_args=_build_args(args),
        labels=values.pairs(args.texts("labels"), "--label"),
        squash=args.flag("squash"),
        unset_env=args.texts("unset_env"),
        unset_labels=args.texts("unset_labels"),
        annotations=values.pairs(args.texts("annotations"), "--annotation", value_needed=True),
        platforms=_listed(args.texts("platforms")),
        no_cache=args.flag("no_cache"),
        no_cache_filter=_listed(args.texts("no_cache_filter")),
        cache_ttl=_ttl(args.text("cache_ttl")),
        pull=args.flag("pull"),
        network=args.text("network"),
        build_contexts=values.pairs(args.texts("build_contexts"), "--build-context", value_needed=True),
        secrets=tuple(secret(text) for text in args.texts("secrets")),
        ssh=tuple(ssh(text) for text in args.texts("ssh")),
        extra_hosts=values.hosts(args.texts("add_hosts")),
        shm_size=values.size(args.text("shm_size"), "--shm-size"),
        ulimits=values.ulimits(args.texts("ulimits")),
        limits=limits.translate(args)._replace(shm_size=0),
        on_failure=_on_failure(args.text("on_failure")),
        outputs=outputs(args),
        attests=attests(args),
        allow=_listed(args.texts("allow")),
        cache_from=tuple(cache(text, "--cache-from") for text in args.texts("cache_from")),
        cache_to=tuple(cache(text, "--cache-to") for text in args.texts("cache_to")),
        call=call,
        format=form,
    )


def _on_failure(text: str) -> str:
    if text not in ("", "shell"):
        raise UsageError(f"--on-failure: '{text}' is not known", hint="--on-failure=shell is")
    return text


def _build_args(args: Args) -> values.Pairs:
    """SOURCE_DATE_EPOCH of the environment is one where it isn't given, as docker buildx has it."""
    files = [values.env_file(path, "--build-arg-file") for path in args.texts("build_arg_files")]
    given = (*sum(files, ()), *values.variables(args.texts("build_args"), "--build-arg"))
    if args.text("timestamp") and "SOURCE_DATE_EPOCH" in dict(given):
        raise UsageError("--timestamp is SOURCE_DATE_EPOCH, which is given, too")
    epoch = args.text("timestamp") or os.environ.get("SOURCE_DATE_EPOCH", "")
    if epoch and "SOURCE_DATE_EPOCH" not in dict(given):
        given += (("SOURCE_DATE_EPOCH", epoch),)
    return given


def _ttl(text: str) -> float:
    """``--cache-ttl``, else $PYBUILD_CACHE_TTL."""
    if text:
        return values.seconds(text, "--cache-ttl")
    text = os.environ.get("PYBUILD_CACHE_TTL", "")
    return values.seconds(text, "PYBUILD_CACHE_TTL") if text else 0.0


def method(args: Args) -> tuple[str, str]:
    """What ``--check``, ``--call METHOD[,format=FORMAT]`` and ``--format`` ask for, and in which format."""
    call, *fields = args.text("call").split(",")
    form = args.text("format")
    for field in fields:
        key, _, value = field.partition("=")
        if key == "ignorestatus" and value in ("true", "false"):
            continue
        if key != "format":
            hint = "--call METHOD[,format=json][,ignorestatus=true]"
            raise UsageError(f"--call: unknown field '{field}'", hint=hint)
        form = form or value
    if args.flag("check"):
        call = "check"
    call = {"": "build", "lint": "check"}.get(call, call)
    if call not in CALLS:
        raise UsageError(f"--call: there is no method '{call}'", hint="one of " + ", ".join(CALLS))
    if form not in ("", *FORMATS):
        raise UsageError(f"--format: '{form}' is not one of " + ", ".join(FORMATS))
    if form and call == "build" and not args.flag("dry_run"):
        raise UsageError("--format is for --check and --call", hint="a build's result: --metadata-file FILE")
    return call, form or "text"


def outputs(args: Args) -> tuple[Output, ...]:
    result: list[Output] = []
    if args.texts("outputs"):
        from buildkit_py.exporter.spec import parse_output

        result += map(parse_output, args.texts("outputs"))
    if args.flag("push"):
        result.append(Output("image", (("push", "true"),)))
    if args.flag("load"):
        result.append(Output("docker"))
    if args.text("timestamp"):
        result = [_dated(output) for output in result or [Output("image")]]
    if sum(to_stdout(o) for o in result) > 1:
        raise UsageError("more than one --output goes to stdout", hint="give the others a dest=FILE")
    return tuple(result)


def _dated(output: Output) -> Output:
    """With the times of its files, as far as it has files of its own."""
    attributes = {**dict(output.attributes), "rewrite-timestamp": "true"}
    return output if output.kind == "cacheonly" else Output(output.kind, tuple(attributes.items()))


def to_stdout(output: Output) -> bool:
    return output.get("dest") == "-" or (output.kind in ("oci", "tar") and not output.get("dest"))


ATTRIBUTES = {
    "provenance": ("mode", "version", "builder-id", "reproducible"),
    "sbom": ("generator",),
}
"""What each kind of attestation knows."""


def attests(args: Args) -> tuple[AttestSpec, ...]:
    """``--attest type=KIND,…`` and its short forms ``--provenance`` and ``--sbom``; false: none of it."""
    given = [values.attributes(text, "--attest") for text in args.texts("attest")]
    for kind in ATTRIBUTES:
        text = args.text(kind)
        if text.lower() in _BOOLEANS:
            given.append({"type": kind, "disabled": str(not _BOOLEANS[text.lower()])})
        elif text:
            given.append({"type": kind, **values.attributes(text, f"--{kind}")})
    found: dict[str, AttestSpec | None] = {}
    for fields in given:
        kind = fields.pop("type", "")
        if kind in found:
            raise UsageError(f"--attest: type={kind} is given twice")
        found[kind] = _attest(kind, fields)
    return tuple(spec for spec in found.values() if spec is not None)


_BOOLEANS = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}


def _attest(kind: str, fields: dict[str, str]) -> AttestSpec | None:
    """None where it is disabled. Raises UsageError."""
    if kind not in ATTRIBUTES:
        raise UsageError(f"--attest: there is no type '{kind}'", hint="type=provenance or type=sbom")
    disabled = fields.pop("disabled", "false").lower()
    for name, value in fields.items():
        if name not in ATTRIBUTES[kind]:
            hint = "it knows " + ", ".join(ATTRIBUTES[kind])
            raise UsageError(f"--attest type={kind}: unknown field '{name}'", hint=hint)
        allowed = {"mode": ("min", "max"), "version": ("v0.2", "v1")}.get(name)
        if allowed and value not in allowed:
            raise UsageError(f"--attest: {name} is {' or '.join(allowed)}, not '{value}'")
        if name == "generator":
            raise UsageError(
                f"--attest: packages are not listed by an image like {value}", hint="leave generator= out"
            )
    return None if _BOOLEANS.get(disabled, False) else AttestSpec(kind, tuple(fields.items()))


def secret(text: str) -> SecretSpec:
    """``id=NAME[,src=FILE|,env=VARIABLE]``; with the id alone, the variable or else the file of that name."""
    attributes = values.attributes(text, "--secret")
    kind = attributes.pop("type", "")
    name = attributes.pop("id", "")
    source = attributes.pop("src", "") or attributes.pop("source", "")
    env = attributes.pop("env", "")
    if kind not in ("", "file", "env"):
        raise UsageError(f"--secret: unknown type '{kind}'", hint="file or env")
    if attributes:
        raise UsageError(
            f"--secret: unknown field '{next(iter(attributes))}'", hint="id=NAME,src=FILE or env=VAR"
        )
    if source and env:
        raise UsageError(f"--secret: '{text}' names both a file and a variable")
    if kind == "env" and source:
        source, env = "", source
    name = name or source or env
    if not name:
        raise UsageError(f"--secret: '{text}' has no id", hint="id=NAME,src=FILE or id=NAME,env=VARIABLE")
    if not source and not env:
        if kind == "env" or (kind == "" and name in os.environ):
            env = name
        else:
            source = name
    return SecretSpec(name, source, env)


def ssh(text: str) -> SshSpec:
    """``ID[=SOCKET|KEY[,KEY…]]``"""
    name, _, paths = text.partition("=")
    return SshSpec(name or "default", tuple(path for path in paths.split(",") if path))


def cache(text: str, option: str) -> CacheSpec:
    """``type=KIND,key=value…``; text without ``=`` is a registry reference."""
    if "=" not in text:
        if text == "inline":
            return CacheSpec("inline")
        return CacheSpec("registry", (("ref", text),))
    attributes = values.attributes(text, option)
    kind = attributes.pop("type", "")
    if not kind:
        raise UsageError(f"{option}: '{text}' has no type=", hint="registry, local, inline, gha or s3")
    return CacheSpec(kind, tuple(attributes.items()))


def _listed(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Values that may be given one by one or separated by commas."""
    return tuple(part.strip() for text in texts for part in text.split(",") if part.strip())


def run(args: Args) -> int:
    if args.flag("debug"):
        os.environ["PYBUILD_DEBUG"] = "1"
    if args.flag("dry_run"):
        from buildkit_py.cli import plan

        return plan.run(args)
    request = translate(args)
    quiet = args.flag("quiet")
    if request.on_failure:
        from buildkit_py.runtime import console

        console.require()
    if any(map(to_stdout, request.outputs)) and sys.stdout.isatty():
        raise UsageError("an archive is not written to a terminal", hint="redirect stdout, or give dest=FILE")
    building = request.call == "build"
    if building:
        _forget(args.text("iidfile"))
    from buildkit_py.cli.session import Session

    with Session("quiet" if quiet else args.text("progress")) as session:
        try:
            result = session.engine.build(
                request, session.display, lambda error: _enter(session.display, error)
            )
        except PybuildError as e:
            if e.warnings and not quiet:
                session.display.close()
                _warn(e.warnings, checking=False)
            raise
        finally:
            if args.flag("explain") and session.engine.last_build:
                session.display.close()
                from buildkit_py.cli import why

                why.explain(session.engine, session.engine.last_build)
    if building:
        _write_files(args, result)
    if result.text:
        print(result.text)
    if quiet and result.image_id:
        print(result.image_id)
    checking = request.call == "check"
    if (checking and not result.text) or (result.warnings and not checking and not quiet):
        _warn(result.warnings, checking=checking)
    if result.error is not None and not result.text:
        raise result.error
    failed = checking and (result.warnings or result.error)
    return 1 if failed and "ignorestatus=true" not in args.text("call").split(",") else 0


def _warn(found: Sequence[BuildWarning], *, checking: bool) -> None:
    from buildkit_py.cli import report

    report.warnings(found, checking=checking)


def _enter(display: Display, error: StepError) -> None:
    """A shell is about to get the terminal."""
    display.close()
    sys.stderr.write(f"{error.message}\nA shell in the state of this step; `exit` leaves it.\n")
    sys.stderr.flush()


def _forget(path: str) -> None:
    """An earlier build's id must not be taken for that of a build that fails."""
    if path and os.path.isfile(path) and not os.path.islink(path):
        try:
            os.unlink(path)
        except OSError:
            pass  # Writing tells.


def _write_files(args: Args, result: BuildResult) -> None:
    if args.text("iidfile"):
        _write(args.text("iidfile"), str(result.image_id or ""), "--iidfile")
    if args.text("metadata_file"):
        import json

        text = json.dumps(result.metadata(), indent=2, sort_keys=True) + "\n"
        _write(args.text("metadata_file"), text, "--metadata-file")


def _write(path: str, text: str, option: str) -> None:
    from buildkit_py import textfile

    try:
        textfile.write(path, text.encode())
    except OSError as error:
        raise UsageError(f"{option}: can't write {path}: {error.strerror}") from error


_WITHOUT_MEANING = ("--rm", "--force-rm", "--compress", "--disable-content-trust")
"""Docker's, from when steps were containers of a daemon: here is nothing to remove, send or trust."""


def _only_default(name: str) -> Option:
    """Docker's, of which there is one kind here."""
    return option(name, metavar="NAME", choices=("default",), default="default", help="default", hidden=True)


PARAMS: tuple[Option | Argument, ...] = (
    option("--add-host", name="add_hosts", multiple=True, metavar="NAME:IP", help="Add a line to /etc/hosts"),
    option(
        "--allow",
        multiple=True,
        metavar="ENTITLEMENT",
        help="Allow network.host, security.insecure, device[=NAME]",
    ),
    option(
        "--annotation",
        name="annotations",
        multiple=True,
        metavar="[TYPE:]KEY=VALUE",
        help="Annotate the manifest, or index, …: docs/outputs.md",
    ),
    option(
        "--attest",
        multiple=True,
        metavar="type=KIND,…",
        help="State how it was built (provenance) or what is in it (sbom): docs/outputs.md",
    ),
    option(
        "--build-arg",
        name="build_args",
        multiple=True,
        metavar="NAME[=VALUE]",
        help="Set a build argument",
    ),
    option(
        "--build-arg-file",
        name="build_arg_files",
        multiple=True,
        metavar="FILE",
        help="Set the build arguments of a file: NAME=VALUE lines",
    ),
    option(
        "--build-context",
        name="build_contexts",
        multiple=True,
        metavar="NAME=PATH",
        help="A further context: a directory, URL or image",
    ),
    *(_only_default(name) for name in ("--builder", "--isolation")),
    option("--cache-from", multiple=True, metavar="SPEC", help="Take cache from here"),
    option("--cache-to", multiple=True, metavar="SPEC", help="Write cache to here"),
    option(
        "--cache-ttl",
        metavar="DURATION",
        help="Run RUN steps again whose results are older: 24h, 7d ($PYBUILD_CACHE_TTL)",
    ),
    option(
        "--call",
        metavar="METHOD",
        default="build",
        help="build, check, outline or targets; METHOD,format=json",
    ),
    flag("--check", help="Check the Dockerfile, build nothing"),
    flag("-D", "--debug", help="Show where pybuild itself fails, as PYBUILD_DEBUG=1 does"),
    flag("--dry-run", help="Build nothing: say what would run, as 'pybuild plan' does"),
    flag("--explain", help="Say at the end why steps ran, as 'pybuild why' does"),
    option("-f", "--file", metavar="FILE", help="The Dockerfile (default: PATH/Dockerfile)"),
    option("--format", metavar="FORMAT", help="Of the answer to --check and --call: text or json"),
    option("--iidfile", metavar="FILE", help="Write the image id here"),
    option("--label", name="labels", multiple=True, metavar="KEY=VALUE", help="Set a label of the image"),
    flag("--load", help="Keep the image in the store (same as -o type=docker)"),
    option("--metadata-file", metavar="FILE", help="Write the result's metadata here, as JSON"),
    option(
        "--network",
        metavar="MODE",
        default="default",
        help="Network of RUN steps: default, host, none, private, or its name",
    ),
    flag("--no-cache", help="Run every step again"),
    option("--no-cache-filter", multiple=True, metavar="STAGE", help="Run every step of these stages again"),
    option(
        "--on-failure",
        metavar="shell",
        help="Enter a RUN that fails by a shell in the state that it left",
    ),
    option(
        "-o",
        "--output",
        name="outputs",
        multiple=True,
        metavar="DEST",
        help="type=image|oci|docker|local|tar,dest=…; a directory; - for a tar",
    ),
    option("--platform", name="platforms", multiple=True, metavar="OS/ARCH", help="Build for this platform"),
    option("--progress", metavar="MODE", choices=PROGRESS, default="auto", help="How progress is shown"),
    option("--provenance", metavar="true|mode=max", help="Short for --attest type=provenance"),
    flag("--pull", help="Ask the registry for newer base images"),
    flag("--push", help="Push the image (same as -o type=registry)"),
    flag("-q", "--quiet", help="Print the image id alone"),
    option("--sbom", metavar="true", help="Short for --attest type=sbom"),
    option(
        "--secret",
        name="secrets",
        multiple=True,
        metavar="id=NAME,src=FILE",
        help="A secret for RUN --mount",
    ),
    *limits.OPTIONS,
    flag("--squash", help="Make one layer of all that the build adds to its base image"),
    option("--ssh", multiple=True, metavar="ID[=SOCKET]", help="An SSH agent or keys for RUN --mount"),
    option("-t", "--tag", name="tags", multiple=True, metavar="NAME[:TAG]", help="Name of the image"),
    *(flag(name, help="Docker's option", hidden=True) for name in _WITHOUT_MEANING),
    option("--target", metavar="STAGE", help="Stop at this stage"),
    option("--timestamp", metavar="SECONDS", help="SOURCE_DATE_EPOCH, for the times of files, too"),
    option("--ulimit", name="ulimits", multiple=True, metavar="NAME=SOFT[:HARD]", help="Limit of RUN steps"),
    option(
        "--unsetenv",
        name="unset_env",
        multiple=True,
        metavar="NAME",
        help="Leave a variable out of the image",
    ),
    option(
        "--unsetlabel",
        name="unset_labels",
        multiple=True,
        metavar="KEY",
        help="Leave a label out of the image",
    ),
    Argument("context", metavar="PATH"),
)
"""Of a build, and of what it would be (cli/plan.py)."""

COMMAND = Command(
    "build",
    "Build an image from a Dockerfile.\n\nPATH is the build context: a directory, a URL, or - for stdin.",
    PARAMS,
    run,
    examples=(
        "pybuild build -t app:1 .",
        "pybuild build -f Dockerfile.test --target tests --build-arg VERSION=3 .",
        "pybuild build -o type=oci,dest=app.tar .",
    ),
)
