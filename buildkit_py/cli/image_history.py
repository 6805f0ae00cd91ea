"""``pybuild image history``, which is ``history IMAGE`` as well"""

from __future__ import annotations

from datetime import datetime

from buildkit_py.cli import listing, sizes
from buildkit_py.cli.command import Args, Argument, Command, flag, flag_on, option
from buildkit_py.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from buildkit_py.engine import Engine
    from buildkit_py.image.store import Image

HEADINGS = {
    "ID": "IMAGE",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "CreatedBy": "CREATED BY",
    "Size": "SIZE",
    "Comment": "COMMENT",
}
COLUMNS = ("ID", "CreatedSince", "CreatedBy", "Size", "Comment")
LONGEST = 45
MISSING = "<missing>"


def run(args: Args) -> int:
    from buildkit_py.engine import Engine

    engine = Engine()
    try:
        image = engine.images.find(args.text("image"), args.text("platform"))
        found = rows(engine, image, whole=args.flag("no_trunc"), human=args.flag("human"))
    finally:
        engine.close()
    if args.flag("quiet"):
        for row in found:
            print(row["ID"])
    else:
        listing.show(found, HEADINGS, args.text("format"), COLUMNS)
    return 0


def rows(engine: Engine, image: Image, *, whole: bool, human: bool) -> list[dict[str, Any]]:
    """One for each line of the image's history, the last step first. Only the last one is an image."""
    layers = iter(image.diff_ids)
    chain = None
    found = []
    from buildkit_py import digest as digests
    from buildkit_py.source.image import PREFERENCE

    for entry in image.config.get("history") or ():
        size = 0
        if not entry.get("empty_layer"):
            diff = next(layers, None)
            chain = digests.chain_id(chain, diff) if diff else None
            snapshot = engine.snapshots.by_chain_id(chain) if chain else None
            if snapshot is not None:
                engine.enter()
                size = engine.snapshots.measure(engine.snapshots.chain(snapshot)[-1].layer)[0]
            elif diff is not None:  # not unpacked so far
                blob = engine.images.layer_blob(diff, PREFERENCE)
                size = blob.size if blob is not None else 0
        created = _seconds(entry.get("created") or "")
        text = " ".join((entry.get("created_by") or "").split())
        found.append(
            {
                "ID": MISSING,
                "CreatedSince": sizes.age(created) if human else sizes.timestamp(created),
                "CreatedAt": sizes.timestamp(created),
                "CreatedBy": text if whole or len(text) <= LONGEST else text[: LONGEST - 1] + "…",
                "Size": sizes.size(size) if human else str(size),
                "Comment": entry.get("comment") or "",
            }
        )
    found.reverse()
    if found:
        found[0]["ID"] = sizes.short(image.id, whole)
    return found


def _seconds(text: str) -> float:
    try:
        return datetime.fromisoformat(text.partition(".")[0].removesuffix("Z") + "+00:00").timestamp()
    except ValueError:
        return 0.0


COMMAND = Command(
    "image history",
    "Show how an image was made: its steps, the last one first. `history IMAGE` is the same.",
    (
        option("--format", metavar="FORMAT", help="table, json, or a template like '{{.CreatedBy}}'"),
        flag_on("-H", "--human", help="Print sizes and times for people"),
        flag("--no-trunc", help="Don't cut anything off"),
        option("--platform", metavar="OS/ARCH", help="Which of several platforms"),
        flag("-q", "--quiet", help="Show ids only"),
        Argument("image", metavar="IMAGE"),
    ),
    run,
)
