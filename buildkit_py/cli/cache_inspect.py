"""``pybuild cache inspect``"""

from __future__ import annotations

import json
import stat

from buildkit_py.cli import sizes, template
from buildkit_py.cli.cache_ls import shown
from buildkit_py.cli.command import Args, Argument, Command, option
from buildkit_py.progress.text import clean
from buildkit_py.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from buildkit_py.engine.inspect_key import Inspected


def run(args: Args) -> int:
    from buildkit_py.engine import Engine
    from buildkit_py.engine.inspect_key import document, inspect

    engine = Engine()
    try:
        found = inspect(engine, args.text("key"))
    finally:
        engine.close()
    form = args.text("format")
    if form == "json":
        print(json.dumps(document(found), indent=2))
    elif form in ("", "text"):
        show(found)
    else:
        print(template.render(form, document(found)))
    return 0


def show(found: Inspected) -> None:
    inputs, item = found.inputs, found.item
    rows = [("key", inputs.key), ("step", inputs.name), ("stage", inputs.stage)]
    if item is None:
        rows.append(("result", "no longer in the store"))
    else:
        rows += [
            ("size", sizes.size(item.size)),
            ("made", f"{sizes.timestamp(item.created)} ({sizes.age(item.created)})"),
            ("last used", f"{sizes.timestamp(item.used)} ({sizes.age(item.used)}), {item.uses} times"),
            ("images", ", ".join(map(shown, item.images))),
        ]
    for name, value in rows:
        if value:
            print(f"{name + ':':<11} {clean(value)}")
    print("made of:")
    for name, value in inputs.record.items():
        for line in _field(name, value, found):
            print("  " + clean(line))
    for digest, files in found.files.items():
        print(f"files of {sizes.short(digest)}:")
        for path, state in files.items():
            kind = stat.filemode(state.mode)
            size = sizes.size(state.size) if stat.S_ISREG(state.mode) else ""
            content = sizes.short(state.content) if stat.S_ISREG(state.mode) else state.content
            link = " -> " if stat.S_ISLNK(state.mode) else "  "
            print(f"  {kind}  {state.uid}:{state.gid}  {size:>7}  {clean(path or '.')}{link}{clean(content)}")


def _field(name: str, value: Any, found: Inspected) -> list[str]:
    """A field of the record; lists stand one item a line, what is empty is left out."""
    if value in (None, "", [], 0, False):
        return []
    if isinstance(value, list):
        return [f"{name}:", *("  " + _value(item, found) for item in value)]
    return [f"{name}: {_value(value, found)}"]


def _value(value: Any, found: Inspected) -> str:
    if isinstance(value, str) and value in found.steps:
        return f"{sizes.short(value)} ({found.steps[value]})"
    if isinstance(value, str) and value in found.files:
        return f"{sizes.short(value)} ({len(found.files[value])} files, see below)"
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return ", ".join(filter(None, (_value(item, found) for item in value if item not in (None, "", []))))
    return json.dumps(value)


COMMAND = Command(
    "cache inspect",
    "Show every input of a cache key, and what it led to.\n\nKEY is a key of 'cache ls' or its beginning.",
    (
        option("--format", metavar="FORMAT", help="text, json, or a template like '{{json .record}}'"),
        Argument("key", metavar="KEY"),
    ),
    run,
    examples=("pybuild cache inspect 14f185525a96",),
)
