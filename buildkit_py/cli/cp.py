"""``pybuild cp``"""

from __future__ import annotations

import os
import sys

from buildkit_py.cli.command import Args, Argument, Command, flag
from buildkit_py.errors import UsageError


def run(args: Args) -> int:
    from buildkit_py.engine import Engine
    from buildkit_py.engine.copy import from_container, to_container

    (source_name, source), (target_name, target) = parse(args.text("source")), parse(args.text("target"))
    if bool(source_name) == bool(target_name):
        raise UsageError(
            "copying between two containers is not done" if source_name else "neither side is a container",
            hint="one side is CONTAINER:PATH; between two: pybuild cp a:/x - | pybuild cp - b:/",
        )
    follow, owners = args.flag("follow_link"), args.flag("archive")
    if target == "-" and sys.stdout.isatty():
        raise UsageError("a tar on a terminal helps nobody", hint="pipe it on: … - | tar x")
    engine = Engine()
    try:
        engine.begin(supervisors=0)
        container = engine.containers.get(source_name or target_name)
        if source_name:
            from_container(engine, container, source, target, follow=follow, owners=owners)
        else:
            to_container(engine, source, container, target, follow=follow, owners=owners)
    finally:
        engine.close()
    return 0


def parse(text: str) -> tuple[str, str]:
    """(container, path); ("", path) for one of this machine. A path with a colon is written ./with:colon."""
    name, colon, path = text.partition(":")
    if not colon or text.startswith(("/", ".")) or os.sep in name:
        return "", text
    if not name or not path:
        raise UsageError(f"'{text}' is neither a path nor CONTAINER:PATH")
    return name, path


COMMAND = Command(
    "cp",
    "Copy files between a container and this machine. The container may run or not.",
    (
        flag("-a", "--archive", help="Keep owners and set-id bits"),
        flag("-L", "--follow-link", help="Copy what a link means, where one is named"),
        flag("-q", "--quiet", help="Docker's option; nothing is said anyway"),
        Argument("source", metavar="SOURCE"),
        Argument("target", metavar="TARGET"),
    ),
    run,
    examples=(
        "pybuild cp web:/etc/nginx .",
        "pybuild cp page.html web:/srv/",
        "pybuild cp web:/var/log - | tar t",
    ),
)
