"""Steps as SVG: over time, and as a graph. Links lead to ``#step-N``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape

from buildkit_py.history.match import label
from buildkit_py.history.record import Build, Step
from buildkit_py.progress.text import clean, duration

WIDTH = 1100
"""Of the timeline, in the units of CSS pixels, as all below."""
LEFT = 70
ROW = 26
BOX = 250
BOX_HEIGHT = 36
GAP = 34
BETWEEN = 16
LETTER = 7.3
_STEPS = (1, 2, 5)
_MARKS = 10


def timeline(build: Build, steps: Sequence[Step], numbers: Mapping[str, int]) -> str:
    """One row a lane: the steps that a thread had, one after the other."""
    begin = min([build.started, *(s.started for s in steps)])
    end = max([build.completed, *(max(s.completed, s.started) for s in steps)])
    scale = (WIDTH - LEFT - 10) / max(end - begin, 0.001)
    lanes = sorted({step.lane for step in steps})
    height = len(lanes) * ROW + 30
    out = [f'<svg width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" role="img">']
    out += _axis(end - begin, scale, height)
    for row, lane in enumerate(lanes):
        out.append(f'<text class="axis" x="4" y="{row * ROW + 17}">thread {lane}</text>')
        for step in steps:
            if step.lane == lane:
                out.append(_bar(step, begin, end, scale, row, numbers))
    return "".join([*out, "</svg>"])


def _bar(step: Step, begin: float, end: float, scale: float, row: int, numbers: Mapping[str, int]) -> str:
    x = LEFT + (step.started - begin) * scale
    seconds = (step.completed or end) - step.started
    width = max(seconds * scale, 2.0)
    label = _cut(step.text, int(width / LETTER) - 1)
    title = _text(f"{step.name} ({duration(seconds)})")
    at = f'class="on" x="{x + 4:.1f}" y="{row * ROW + 17}"'
    words = f'<text {at} pointer-events="none">{_text(label)}</text>' if label else ""
    return (
        f'<a href="#step-{numbers[step.digest]}"><rect class="bar {_text(step.state)}" x="{x:.1f}"'
        f' y="{row * ROW + 3}" width="{width:.1f}" height="{ROW - 6}" rx="3"><title>{title}</title></rect>'
        f"{words}</a>"
    )


def _axis(seconds: float, scale: float, height: int) -> Iterator[str]:
    step = _tick(seconds)
    for n in range(int(seconds / step) + 1):
        x = LEFT + n * step * scale
        yield f'<line class="grid" x1="{x:.1f}" y1="0" x2="{x:.1f}" y2="{height - 20}"/>'
        yield f'<text class="axis" x="{x + 2:.1f}" y="{height - 6}">{n * step:g}s</text>'


def _tick(seconds: float) -> float:
    """A round number of seconds of which at most ten or so fit."""
    unit = 0.001
    while True:
        for factor in _STEPS:
            if seconds / (unit * factor) <= _MARKS:
                return unit * factor
        unit *= 10


def graph(steps: Sequence[Step], numbers: Mapping[str, int]) -> str:
    """Boxes in rows, each below all that it needs, a column a stage; lines from a step to its users."""
    known = {step.digest: step for step in steps}
    inputs = {d: [i for i in dict.fromkeys(step.inputs) if i in known] for d, step in known.items()}
    rows = _rows(inputs)
    columns = _columns(rows, known)
    places = {
        digest: (columns[digest] * (BOX + BETWEEN) + 4, n * (BOX_HEIGHT + GAP) + 4)
        for n, row in enumerate(rows)
        for digest in row
    }
    width = (max(columns.values()) + 1) * (BOX + BETWEEN)
    height = len(rows) * (BOX_HEIGHT + GAP) - GAP + 8
    out = [f'<svg width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img">']
    for digest, needs in inputs.items():
        out += [_edge(places[i], places[digest]) for i in needs]
    out += [_box(known[d], place, numbers) for d, place in places.items()]
    return "".join([*out, "</svg>"])


def _columns(rows: list[list[str]], known: Mapping[str, Step]) -> dict[str, int]:
    """A stage has as many columns as it has steps side by side."""
    wide: dict[str, int] = {}
    places: dict[str, tuple[str, int]] = {}
    for row in rows:
        count: dict[str, int] = {}
        for digest in row:
            stage = label(known[digest])
            places[digest] = (stage, count.get(stage, 0))
            count[stage] = places[digest][1] + 1
            wide[stage] = max(wide.get(stage, 0), count[stage])
    first, starts = 0, {}
    for stage, width in wide.items():
        starts[stage] = first
        first += width
    return {digest: starts[stage] + n for digest, (stage, n) in places.items()}


def _rows(inputs: Mapping[str, list[str]]) -> list[list[str]]:
    """Steps by the length of the longest way to them."""
    import networkx

    dag: networkx.DiGraph[str] = networkx.DiGraph()
    dag.add_nodes_from(inputs)
    dag.add_edges_from((i, digest) for digest, needs in inputs.items() for i in needs)
    return [list(row) for row in networkx.topological_generations(dag)]


def _edge(start: tuple[float, float], end: tuple[float, float]) -> str:
    x1, y1 = start[0] + BOX / 2, start[1] + BOX_HEIGHT
    x2, y2 = end[0] + BOX / 2, end[1]
    bend = (y2 - y1) / 2
    return f'<path class="edge" d="M{x1} {y1}C{x1} {y1 + bend} {x2} {y2 - bend} {x2} {y2}"/>'


def _box(step: Step, place: tuple[float, float], numbers: Mapping[str, int]) -> str:
    x, y = place
    stage = step.name.partition("]")[0].lstrip("[") if step.name.startswith("[") else ""
    letters = int(BOX / LETTER) - 1
    area = f'x="{x}" y="{y}" width="{BOX}" height="{BOX_HEIGHT}" rx="4"'
    return (
        f'<a href="#step-{numbers[step.digest]}"><rect class="under" {area}/>'
        f'<rect class="box {_text(step.state)}" {area}><title>{_text(step.name)}</title></rect>'
        f'<text x="{x + 6}" y="{y + 15}" pointer-events="none">{_text(_cut(step.text, letters))}</text>'
        f'<text class="axis" x="{x + 6}" y="{y + 30}" pointer-events="none">'
        f"{_text(_cut(f'{step.state} {duration(step.seconds)}  {stage}', letters))}</text></a>"
    )


def _cut(value: str, letters: int) -> str:
    value = clean(value)
    if letters < 3:
        return ""
    return value if len(value) <= letters else value[: letters - 1] + "…"


def _text(value: str) -> str:
    return escape(clean(value), quote=True)
