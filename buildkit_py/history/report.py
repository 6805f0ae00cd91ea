"""One build as one HTML page that needs nothing else: timeline, graph, steps with reasons and logs.

Everything that a Dockerfile or a program decides (names, values, logs) is text, and escaped here.
Besides, the page has a policy (Content-Security-Policy) by which no script runs but its own and
nothing is fetched.
"""

from __future__ import annotations

import os
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from html import escape

from buildkit_py.history import chart
from buildkit_py.history.record import Build, Step
from buildkit_py.history.why import Explanation
from buildkit_py.history.wording import lines
from buildkit_py.progress.text import LogLines, clean, duration
from buildkit_py.tuples import NamedTuple

HEAD = 1 << 18
TAIL = 1 << 21
"""Bytes of the beginning and the end of a log that is too long for a page."""

LABELS = (
    ("context", "Context"),
    ("dockerfile", "Dockerfile"),
    ("target", "Target"),
    ("platforms", "Platforms"),
    ("bases", "Base images"),
    ("args", "Arguments"),
    ("contexts", "Contexts"),
    ("secrets", "Secrets"),
)

ReadLog = Callable[[Step], "Log | None"]


class Log(NamedTuple):
    """What a page shows of a step's output."""

    head: bytes
    left_out: int = 0
    """Bytes between."""
    tail: bytes = b""


def page(build: Build, reasons: Sequence[Explanation], read_log: ReadLog) -> bytes:
    """The document, UTF-8."""
    return "".join(_page(build, reasons, read_log)).encode("utf-8", "replace")


def _page(build: Build, reasons: Sequence[Explanation], read_log: ReadLog) -> Iterator[str]:
    style, script = _part("report.css"), _part("report.js")
    policy = f"default-src 'none'; script-src {_source(script)}; style-src {_source(style)}; base-uri 'none'"
    yield '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    yield f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
    yield '<meta name="viewport" content="width=device-width">\n'
    yield f"<title>{text(build.name)} - build {text(build.id)}</title>\n"
    yield f"<style>{style}</style>\n</head>\n<body>\n"
    yield from _head(build)
    timed = [step for step in build.steps if step.started and step.state != "cached"]
    if timed:
        yield '<h2>Timeline</h2>\n<div class="chart">'
        yield chart.timeline(build, timed, _number(build))
        yield "</div>\n"
        yield from _legend(build.steps)
    if build.work:
        yield '<h2>Graph</h2>\n<div class="chart">'
        yield chart.graph(build.work, _number(build))
        yield "</div>\n"
    yield from _steps(build, {e.step.digest: e for e in reasons}, read_log)
    yield f"<script>{script}</script>\n</body>\n</html>\n"


def _legend(steps: Sequence[Step]) -> Iterator[str]:
    yield '<p class="legend">'
    yield from (f'<span class="{text(s)}">{text(s)}</span>' for s in sorted({s.state for s in steps}))
    yield "</p>\n"


def _part(name: str) -> str:
    """A file beside this one, with line breaks around it as they stand in the page."""
    with open(os.path.join(os.path.dirname(__file__), name), encoding="utf-8") as file:
        return "\n" + file.read()


def _source(content: str) -> str:
    """What allows this very text, in a Content-Security-Policy."""
    return f"'sha256-{b64encode(sha256(content.encode()).digest()).decode()}'"


def _number(build: Build) -> dict[str, int]:
    return {step.digest: n for n, step in enumerate(build.steps, 1)}


def text(value: object) -> str:
    """Any text as HTML: without control characters, and nothing in it is markup, in attributes neither."""
    return escape(clean(str(value)), quote=True)


def _head(build: Build) -> Iterator[str]:
    work = build.work
    cached = sum(step.state == "cached" for step in work)
    yield f'<header><h1>{text(build.name)}</h1><p class="{text(build.status)}">'
    yield f'<span class="state">{text(build.status)}</span></p>'
    yield f"<p>{len(work)} steps, {cached} cached"
    if build.completed:
        yield f", in {duration(build.seconds)}"
    yield "</p></header>\n<dl>\n"
    rows = [
        ("Build", build.id),
        ("Started", time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(build.started))),
    ]
    rows += [(label, _plain(build.inputs[name])) for name, label in LABELS if name in build.inputs]
    rows += [(name.capitalize(), _plain(value)) for name, value in build.outputs.items()]
    for label, value in rows:
        yield f"<dt>{text(label)}</dt><dd>{text(value)}</dd>\n"
    yield "</dl>\n"
    if build.error:
        yield f'<pre class="failed">{_block(build.error)}</pre>\n'


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k}={'(hidden)' if v is None else v}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value)


def _steps(build: Build, reasons: dict[str, Explanation], read_log: ReadLog) -> Iterator[str]:
    yield '<h2>Steps</h2>\n<p id="tools" class="tools" hidden>'
    yield '<input id="find" type="search" placeholder="Find">'
    yield '<label><input id="cached" type="checkbox" checked> cached</label>'
    yield '<button id="all" type="button">Open or close all</button></p>\n'
    for number, step in enumerate(build.steps, 1):
        log = read_log(step)
        opened = " open" if step.state in ("failed", "running") else ""
        state, why = text(step.state), reasons.get(step.digest)
        yield f'<details class="step {state}" id="step-{number}" data-state="{state}"{opened}>\n'
        yield f'<summary><span class="state">{state}</span>'
        yield f'<span class="name">{text(step.name)}</span>'
        yield f'<span class="time">{duration(step.seconds)}</span>'
        if why is not None:
            yield f'<span class="why">{text("; ".join(lines(r)[0] for r in why.reasons))}</span>'
        yield "</summary>\n<div>\n"
        yield from _details(build, step, why, log)
        yield "</div>\n</details>\n"


def _details(build: Build, step: Step, why: Explanation | None, log: Log | None) -> Iterator[str]:
    if why is not None:
        yield '<ul class="reasons">\n'
        for reason in why.reasons:
            first, *more = lines(reason)
            block = "\n".join(clean(line.removeprefix("  ")) for line in more)
            yield f'<li><span class="name">{text(first)}</span>'
            yield (f"<pre>{escape(block)}</pre>" if more else "") + "</li>\n"
        yield "</ul>\n"
    rows = [("Line", str(step.line) if step.line else ""), ("Key", step.key), ("Image", step.image)]
    if why is not None and why.previous_key:
        rows.append(("Compared with", f"{why.previous_key} {why.previous_build}"))
    rows.append(("Error", step.error if step.state == "failed" else ""))
    if any(value for _, value in rows):
        yield "<dl>\n"
        for label, value in rows:
            if value:
                yield f"<dt>{text(label)}</dt><dd>{text(value)}</dd>\n"
        yield "</dl>\n"
    if log is not None:
        yield f"<pre>{_log(log.head)}</pre>\n"
        if log.left_out:
            yield f'<p class="note">{log.left_out} bytes are left out here; '
            yield f"pybuild history logs {text(build.id)} prints them all.</p>\n<pre>{_log(log.tail)}</pre>\n"


def _log(data: bytes) -> str:
    """As it would look on a screen, progress bars at their last state."""
    lines = LogLines()
    return escape("\n".join(clean(line) for line in [*lines.feed(data), *lines.end()]))


def _block(value: str) -> str:
    return "\n".join(text(line) for line in value.split("\n"))
