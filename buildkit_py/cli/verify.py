"""``pybuild verify``"""

from __future__ import annotations

import json

from buildkit_py.cli import build, fast
from buildkit_py.cli.command import Args, Argument, Command, Option, flag
from buildkit_py.progress.text import clean
from buildkit_py.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from buildkit_py.engine.verify import Verified
    from buildkit_py.snapshot.compare import Difference

MOST = 100
"""Differences that are shown."""
_LEFT_OUT = (
    "annotations", "cache_from", "cache_to", "cache_ttl", "call", "check", "dry_run", "explain", "iidfile",
    "load", "metadata_file", "no_cache", "no_cache_filter", "outputs", "push", "tags",
)  # fmt: skip
"""Options of build that have no meaning here."""


def run(args: Args) -> int:
    form = args.text("format")
    unset = fast.parse(build.COMMAND, [args.text("context")])
    assert unset is not None
    request = build.translate(Args({**unset.values, **args.values, "format": ""}))
    from buildkit_py.cli.session import Session

    with Session("quiet" if args.flag("quiet") else args.text("progress")) as session:
        found = session.engine.verify(args.text("image"), request, session.display, times=args.flag("times"))
    if form == "json":
        print(json.dumps(document(found), indent=2))
    else:
        show(found)
    return 0 if found.same else 1


def document(found: Verified) -> dict[str, Any]:
    return {
        "same": found.same,
        "image": found.image,
        "rebuilt": found.rebuilt,
        "config": [difference._asdict() for difference in found.config],
        "files": [difference._asdict() for difference in found.files],
    }


def show(found: Verified) -> None:
    if found.same:
        layers = "and every layer" if found.image == found.rebuilt else "but for the times in its layers"
        print(f"the same: the config and every file {layers}")
        return
    for title, differing in (("config", found.config), ("files", found.files)):
        if differing:
            print(f"{title}: {len(differing)} differences")
        for difference in differing[:MOST]:
            print("  " + clean(line(difference)))
        if len(differing) > MOST:
            print(f"  and {len(differing) - MOST} more (--format json has all)")


def line(difference: Difference) -> str:
    if difference.what == "only":
        where = "new" if difference.new else "gone"
        return f"{difference.path}: {where}: {difference.new or difference.old}"
    what = "" if difference.what == "config" else f"{difference.what} "
    return f"{difference.path}: {what}{difference.old or '-'} -> {difference.new or '-'}"


def _params() -> tuple[Option | Argument, ...]:
    options = [p for p in build.PARAMS if isinstance(p, Option) and p.name not in _LEFT_OUT]
    return (
        *options,
        flag("--times", help="Compare the times of files, too"),
        Argument("image", metavar="IMAGE"),
        Argument("context", metavar="PATH"),
    )


COMMAND = Command(
    "verify",
    "Build an image again from its context, without cache, and compare: the config, and the files one by "
    "one.\n\nGive the options that it was built with. Nothing of the build is kept. The exit status is 0 "
    "where all is the same, 1 where something differs.",
    _params(),
    run,
    examples=("pybuild verify app:1 .", "pybuild verify --build-arg VERSION=3 --format json app:3 ."),
)
