"""``pybuild events``"""

from __future__ import annotations

import sys
import time

from buildkit_py.cli import listing, template, values
from buildkit_py.cli.command import Args, Command, option
from buildkit_py.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from buildkit_py.runtime.events import Event

FILTERS = ("container", "event", "image", "label", "type", "volume", "network")


def run(args: Args) -> int:
    from buildkit_py.linux.inotify import Watch
    from buildkit_py.paths import data_root
    from buildkit_py.runtime.events import Reader

    since = values.moment(args.text("since"), "--since")
    until = values.moment(args.text("until"), "--until")
    wanted = listing.filters(args.texts("filters"), FILTERS)
    begin = time.time()
    root = data_root()
    watch, reader = Watch(root), Reader(root)
    try:
        while True:
            for event in reader.read():
                when = event.time / 1e9
                if until and when > until:
                    return 0
                # Without --since only what comes from now on is shown.
                if when >= (since or begin) and kept(event, wanted):
                    show(event, args.text("format"))
            sys.stdout.flush()
            if until and time.time() >= until:
                return 0
            watch.wait(until - time.time() if until else None)
    finally:
        reader.close()
        watch.close()


def kept(event: Event, wanted: dict[str, list[str]]) -> bool:
    attributes = event.attributes
    action = event.action.partition(":")[0]
    for name, texts in wanted.items():
        if not texts:
            continue
        if name == "type":
            fits = event.type in texts
        elif name == "event":
            fits = action in texts or event.action in texts
        elif name == "image":
            image = attributes.get("image", "")
            fits = image in texts or _untagged(image) in texts
        elif name == "label":
            fits = listing.labelled(attributes, texts)
        else:
            fits = event.type == name and any(
                attributes.get("name") == text or event.id.startswith(text) for text in texts
            )
        if not fits:
            return False
    return True


def _untagged(image: str) -> str:
    return image.rpartition(":")[0] if ":" in image.rpartition("/")[2] else image


class _Document(dict[str, Any]):
    """By docker's names: those of its templates are found beside those of its JSON."""

    def __contains__(self, name: object) -> bool:
        return super().__contains__(TEMPLATES.get(str(name), name))

    def __getitem__(self, name: str) -> Any:
        return super().__getitem__(TEMPLATES.get(name, name))


TEMPLATES = {
    "Status": "status",
    "ID": "id",
    "From": "from",
    "Scope": "scope",
    "Time": "time",
    "TimeNano": "timeNano",
}


def document(event: Event) -> dict[str, Any]:
    return _Document(
        {
            "status": event.action,
            "id": event.id,
            "from": event.attributes.get("image", ""),
            "Type": event.type,
            "Action": event.action,
            "Actor": {"ID": event.id, "Attributes": event.attributes},
            "scope": "local",
            "time": event.time // 10**9,
            "timeNano": event.time,
        }
    )


def show(event: Event, form: str) -> None:
    if form:
        print(template.render("{{json .}}" if form == "json" else form, document(event)))
    else:
        from buildkit_py.runtime.log import stamp

        more = ", ".join(f"{key}={value}" for key, value in sorted(event.attributes.items()))
        print(f"{stamp(event.time)} {event.type} {event.action} {event.id} ({more})")


COMMAND = Command(
    "events",
    "Show what happens to containers, volumes and networks.",
    (
        option(
            "-f", "--filter", name="filters", multiple=True, metavar="NAME=VALUE", help=", ".join(FILTERS)
        ),
        option("--format", metavar="FORMAT", help="json, or a template like '{{.Action}} {{.ID}}'"),
        option("--since", metavar="TIME", help="2024-05-01T12:00:00, or 10m for ten minutes ago"),
        option("--until", metavar="TIME", help="As --since; then it ends"),
    ),
    run,
    examples=("pybuild events --since 1h --until 0s --filter event=die",),
)
