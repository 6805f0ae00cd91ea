"""``pybuild why``"""

from __future__ import annotations

import json
import sys

from buildkit_py.cli.command import Args, Command, option
from buildkit_py.cli.history_inspect import BUILD
from buildkit_py.progress.text import clean
from buildkit_py.typed import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from buildkit_py.engine import Engine
    from buildkit_py.history.record import Build
    from buildkit_py.history.why import Explanation


def run(args: Args) -> int:
    from buildkit_py.engine import Engine

    engine = Engine()
    try:
        build = engine.history.find(args.text("build"))
        found = engine.why(build)
    finally:
        engine.close()
    if args.text("format") == "json":
        from buildkit_py.history.why import document

        steps = [document(explanation) for explanation in found]
        print(json.dumps({"build": build.id, "name": build.name, "steps": steps}, indent=2))
    else:
        show(build, found, sys.stdout)
    return 0


def explain(engine: Engine, id: str) -> None:
    """For ``build --explain``: on stderr, with the progress."""
    build = engine.history.find(id)
    show(build, engine.why(build), sys.stderr)


def show(build: Build, found: list[Explanation], stream: TextIO) -> None:
    from buildkit_py.history.wording import lines

    count = len(build.work)
    if not found:
        stream.write(f"build {build.id} ({clean(build.name)}): nothing ran, {count} steps were cached\n")
        return
    stream.write(f"build {build.id} ({clean(build.name)}): {len(found)} of {count} steps ran\n")
    for explanation in found:
        stream.write(f"\n{clean(explanation.step.name)}\n")
        for reason in explanation.reasons:
            for line in lines(reason):
                stream.write(f"    {clean(line)}\n")


COMMAND = Command(
    "why",
    "Say why the steps of a build ran, and were not cached.\n\n"
    "BUILD is the beginning of an id, or ^N for the Nth build before the latest, which is the default. The "
    "key of a step is compared with the nearest earlier one.",
    (
        option("--format", metavar="FORMAT", choices=("text", "json"), default="text", help="text or json"),
        BUILD,
    ),
    run,
    examples=("pybuild why", "pybuild why ^1 --format json"),
)
