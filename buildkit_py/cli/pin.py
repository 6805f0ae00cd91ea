"""``pybuild pin``"""

from __future__ import annotations

import json
import os
import sys

from buildkit_py.cli.command import Args, Argument, Command, flag, option
from buildkit_py.errors import UsageError
from buildkit_py.progress.text import clean
from buildkit_py.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from buildkit_py.engine.pin import Pinned

STALE = 1
"""Exit status of --check where something is to be changed."""


def run(args: Args) -> int:
    from buildkit_py.engine import Engine
    from buildkit_py.engine.pin import pin, write

    path = dockerfile(args)
    engine = Engine()
    try:
        found = pin(engine, path, undo=args.flag("unpin"))
    finally:
        engine.close()
    checking = args.flag("check")
    if found.changes and not checking:
        write(path, found.text)
    if args.text("format") == "json":
        print(json.dumps(_document(path, found), indent=2))
    else:
        _show(path, found, quiet=args.flag("quiet"))
    return STALE if checking and found.changes else 0


def dockerfile(args: Args) -> str:
    """The file that a build would take. Raises UsageError for one that isn't here."""
    context, name = args.text("context") or ".", args.text("file")
    if "://" in context or context == "-" or name == "-" or "://" in name:
        raise UsageError("pin changes a Dockerfile of this machine", hint="give its directory, or -f FILE")
    if name:
        inside = os.path.join(context, name)
        return inside if not os.path.exists(name) and os.path.exists(inside) else name
    if os.path.isfile(context):
        return context
    for candidate in ("Dockerfile", "dockerfile"):
        if os.path.exists(os.path.join(context, candidate)):
            return os.path.join(context, candidate)
    return os.path.join(context, "Dockerfile")


def _show(path: str, found: Pinned, *, quiet: bool) -> None:
    for place, new in found.changes:
        if not quiet:
            print(f"{path}:{place.line}: {clean(place.image)} -> {clean(new)}")
    for place in found.same:
        if not quiet:
            print(f"{path}:{place.line}: {clean(place.image)} stays")
    for skipped in found.skipped:
        text = f"{path}:{skipped.line}: {clean(skipped.image)} holds a variable, and is left as it is"
        print(text, file=sys.stderr)


def _document(path: str, found: Pinned) -> dict[str, object]:
    return {
        "dockerfile": path,
        "changes": [{"line": p.line, "old": p.image, "new": new} for p, new in found.changes],
        "same": [{"line": p.line, "image": p.image} for p in found.same],
        "skipped": [{"line": s.line, "image": s.image} for s in found.skipped],
    }


COMMAND = Command(
    "pin",
    "Write the digests that their tags have now into the images of a Dockerfile: FROM, COPY --from, RUN "
    "--mount=from=.\n\nNothing else in the file is changed. With --unpin the digests are taken out again. "
    "Where a FROM is an ARG alone, the ARG's default is changed. PATH is a directory, or the Dockerfile.",
    (
        flag("--check", help="Change nothing; the exit status is 1 where something would be"),
        option("-f", "--file", metavar="FILE", help="The Dockerfile (default: PATH/Dockerfile)"),
        option("--format", metavar="FORMAT", choices=("text", "json"), default="text", help="text or json"),
        flag("-q", "--quiet", help="Say only what was left out"),
        flag("--unpin", help="Take digests out where there is a tag too"),
        Argument("context", metavar="[PATH]", required=False),
    ),
    run,
    examples=("pybuild pin .", "pybuild pin --check -f Dockerfile.release", "pybuild pin --unpin ."),
)
