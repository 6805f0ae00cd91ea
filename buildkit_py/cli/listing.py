"""Lists as docker prints them: a table by default, ``--format`` with a template, ``-q`` ids alone."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from buildkit_py.cli import report, template
from buildkit_py.errors import UsageError
from buildkit_py.typed import Any


def show(
    rows: Sequence[Mapping[str, Any]], headings: Mapping[str, Any], form: str, columns: Sequence[str]
) -> None:
    """``headings``: by field, of all fields; a field that is a function is called by templates alone.
    ``columns``: the fields of the plain table."""
    if form in ("", "table"):
        report.table([[headings[c] for c in columns], *([row[c] for c in columns] for row in rows)])
    elif form == "json":
        for row in rows:
            print(template.render("{{json .}}", row))
    elif form.startswith("table "):
        body = form.removeprefix("table ")
        lines = [template.render(body, headings), *(template.render(body, row) for row in rows)]
        report.table([line.split("\t") for line in lines])
    else:
        for row in rows:
            sys.stdout.write(template.render(form, row) + "\n")


def label_heading(key: str) -> str:
    """Above ``{{.Label "org.some-name"}}``: docker makes SOME NAME of it."""
    return key.rpartition(".")[2].upper().replace("-", " ").replace("_", " ")


def filters(texts: Sequence[str], known: Sequence[str]) -> dict[str, list[str]]:
    """``NAME=VALUE`` each, by name. Raises UsageError for a name that is not known."""
    result: dict[str, list[str]] = {name: [] for name in known}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--filter: '{text}' is not of the form NAME=VALUE")
        if name not in result:
            raise UsageError(f"--filter: unknown filter '{name}'", hint="one of " + ", ".join(known))
        result[name].append(value)
    return result


def labelled(labels: Mapping[str, str], wanted: Sequence[str]) -> bool:
    """Whether all of ``KEY`` and ``KEY=VALUE`` are among the labels."""
    for text in wanted:
        key, equals, value = text.partition("=")
        if key not in labels or (equals and labels[key] != value):
            return False
    return True
