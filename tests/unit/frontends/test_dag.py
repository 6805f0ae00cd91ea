"""The graph of instructions, and references that can't be followed."""

from __future__ import annotations

import networkx
import pytest

from buildkit_py.frontends.dockerfile.dag import Problem, instruction_dag, problems, references
from buildkit_py.frontends.dockerfile.parser import parse

FILE = b"""ARG V
FROM alpine AS one
RUN a
RUN b
FROM one AS two
COPY --from=busybox x y
COPY --from=0 x y
RUN --mount=type=bind,from=One,target=/x --mount=type=cache,target=/y c
"""


def test_edges() -> None:
    graph = instruction_dag(parse(FILE))
    edges: list[tuple[int, int, str]] = list(graph.edges(data="kind"))
    assert {(a, b): kind for a, b, kind in edges} == {
        (1, 2): "order",
        (2, 3): "order",
        (3, 4): "from",
        (4, 5): "order",
        (5, 6): "order",
        (6, 7): "order",
        (3, 6): "copy",
        (3, 7): "mount",
    }
    assert networkx.is_directed_acyclic_graph(graph)
    assert graph.nodes[5]["images"] == ("busybox",)
    assert graph.nodes[1]["images"] == ("alpine",)
    assert graph.nodes[0]["stage"] is None
    assert (graph.nodes[4]["stage"], graph.nodes[4]["name"], graph.nodes[4]["start"]) == (1, "from", 5)


def test_references() -> None:
    found = [(r.kind, r.name, r.stage) for r in references(parse(FILE))]
    assert found == [
        ("from", "alpine", None),
        ("from", "one", 0),
        ("copy", "busybox", None),
        ("copy", "0", 0),
        ("mount", "One", 0),
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM a\nCOPY --from=0 b c\n", [Problem("self", 1, (0,))]),
        ("FROM a AS b\nCOPY --from=B b c\n", [Problem("self", 1, (0,))]),
        ("FROM a AS b\nRUN --mount=from=b,target=/x c\n", [Problem("self", 1, (0,))]),
        ("FROM a\nCOPY --from=7 b c\n", [Problem("missing", 1, ())]),
        ("FROM a\nCOPY --from=99999999999999999999 b c\n", [Problem("missing", 1, ())]),
        ("FROM a\nCOPY --from=nobody b c\n", []),
        ("FROM a AS a\n", []),
        ("FROM b\nFROM x AS b\n", []),
        (
            "FROM x AS a\nCOPY --from=b x y\nFROM x AS b\nCOPY --from=a x y\n",
            [Problem("cycle", 3, (1, 0, 1))],
        ),
        ("FROM x AS a\nCOPY --from=b x y\nFROM a AS b\n", [Problem("cycle", 2, (1, 0, 1))]),
        (
            "FROM x AS a\nCOPY --from=b x y\nFROM x AS b\nCOPY --from=c x y\nFROM a AS c\n",
            [Problem("cycle", 4, (2, 0, 1, 2))],
        ),
        ("FROM x AS a\nFROM y AS a\nCOPY --from=a x y\n", [Problem("self", 2, (1,))]),
        ("FROM x AS a\nFROM a AS a\n", []),
        ("COPY --from=1 a b\nFROM x\n", []),
        ("FROM a\nRUN --mount='\"' b\n", []),
    ],
)
def test_problems(text: str, expected: list[Problem]) -> None:
    dockerfile = parse(text.encode())
    assert list(problems(dockerfile)) == expected
    graph = instruction_dag(dockerfile)
    cyclic = any(problem.kind in ("self", "cycle") for problem in expected)
    assert networkx.is_directed_acyclic_graph(graph) is not cyclic
