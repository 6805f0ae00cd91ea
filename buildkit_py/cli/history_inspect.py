"""``pybuild history inspect``"""

from __future__ import annotations

import json

from buildkit_py.cli import report, sizes, template
from buildkit_py.cli.command import Args, Argument, Command, option
from buildkit_py.progress.text import clean, duration
from buildkit_py.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from buildkit_py.history.record import Build

HEADINGS = ("#", "STATE", "START", "TIME", "LANE", "STEP")
LABELS = {
    "context": "Context",
    "dockerfile": "Dockerfile",
    "digest": "Digest",
    "target": "Target",
    "platforms": "Platforms",
    "bases": "Base images",
    "args": "Arguments",
    "contexts": "Contexts",
    "secrets": "Secrets",
    "no_cache": "No cache",
    "no_cache_filter": "No cache for",
    "cache_ttl": "Cache time to live",
    "pull": "Pull",
}
BUILD = Argument("build", metavar="[BUILD]", required=False)
"""The beginning of an id, ^N for the Nth before the latest; else the latest."""


def run(args: Args) -> int:
    from buildkit_py.engine import Engine

    engine = Engine()
    try:
        build = engine.history.find(args.text("build"))
    finally:
        engine.close()
    form = args.text("format")
    if form == "json":
        print(json.dumps(document(build), indent=2, ensure_ascii=False))
    elif form and form != "text":
        print(template.render(form, document(build)))
    else:
        _show(build)
    return 0


def document(build: Build) -> dict[str, Any]:
    """All of a build, with steps numbered as ``logs`` takes them."""
    steps = [{"number": n, **step._asdict()} for n, step in enumerate(build.steps, 1)]
    return {**build._asdict(), "steps": steps}


def _show(build: Build) -> None:
    rows = [("Build", build.id), ("Name", build.name), ("Status", build.status)]
    rows.append(("Started", sizes.timestamp(build.started)))
    if build.completed:
        rows.append(("Duration", duration(build.seconds)))
    rows += [(label, _text(build.inputs[name])) for name, label in LABELS.items() if name in build.inputs]
    rows += [(name.capitalize(), _text(value)) for name, value in build.outputs.items()]
    if build.error:
        rows.append(("Error", build.error.partition("\n")[0]))
    width = max(len(label) for label, _ in rows) + 1
    for label, text in rows:
        print(f"{label + ':':{width}} {clean(text)}")
    print()
    report.table([HEADINGS, *map(_row, range(1, len(build.steps) + 1), [build] * len(build.steps))])


def _row(number: int, build: Build) -> tuple[str, ...]:
    step = build.steps[number - 1]
    began = f"{max(step.started - build.started, 0.0):.2f}s" if step.started else ""
    took = duration(step.seconds) if step.completed else ""
    return (str(number), step.state, began, took, str(step.lane), step.name)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k}={'(hidden)' if v is None else v}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return "yes" if value is True else str(value)


COMMAND = Command(
    "history inspect",
    "Show all that is known of a build.\n\n"
    "BUILD is the beginning of an id, or ^N for the Nth build before the latest, which is the default.",
    (
        option("--format", metavar="FORMAT", help="text, json, or a template like '{{json .steps}}'"),
        BUILD,
    ),
    run,
)
