"""``--call``: questions about a Dockerfile that are answered without building anything.

The texts are laid out as in Docker's documentation of ``docker buildx build --call``; the documents of
``--format json`` are described in docs/checks/README.md.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from buildkit_py.engine.build import Resolver, convert_options
from buildkit_py.engine.contexts import BuildFiles
from buildkit_py.errors import DockerfileError
from buildkit_py.frontends.dockerfile import convert, outline
from buildkit_py.llb.result import Warning
from buildkit_py.progress.events import Emit
from buildkit_py.request import BuildRequest, BuildResult, BuildWarning
from buildkit_py.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from buildkit_py.engine import Engine

Document = dict[str, Any]


def call(engine: Engine, request: BuildRequest, emit: Emit) -> BuildResult:
    """Answer ``request.call``. Raises DockerfileError, and what looking up base images raises."""
    engine.share()
    files = BuildFiles.open(request, engine, emit)
    try:
        return _answer(request, files, Resolver(engine, request, emit))
    finally:
        files.close()


def _answer(request: BuildRequest, files: BuildFiles, resolver: Resolver) -> BuildResult:
    as_json = request.format == "json"
    if request.call == "check":
        return _check(request, files, resolver, as_json)
    dockerfile = convert.read(files.dockerfile, files.shown, dict(request.build_args))
    if request.call == "targets":
        found = outline.targets(dockerfile)
        text = _dump(_targets_document(found, files)) if as_json else _targets_text(found)
        return BuildResult(targets=tuple((t.name, t.base, t.description) for t in found), text=text)
    told = convert.outline(dockerfile, convert_options(request, files), resolver)
    return BuildResult(text=_dump(_outline_document(told, files)) if as_json else _outline_text(told))


# check


def _check(request: BuildRequest, files: BuildFiles, resolver: Resolver, as_json: bool) -> BuildResult:
    found: tuple[Warning, ...] = ()
    error: DockerfileError | None
    try:
        dockerfile = convert.read(files.dockerfile, files.shown, dict(request.build_args))
        found, error = convert.examine(dockerfile, convert_options(request, files), resolver)
    except DockerfileError as e:
        error = e
    result = BuildResult(warnings=_shown(found, files), error=error)
    if not as_json:
        if error is not None and not found:
            raise error
        return result
    document: Document = {"warnings": [_warning_document(w) for w in found], "sources": _sources(files)}
    if error is not None:
        document["buildError"] = {"message": error.message, "location": _location(error.start, error.end)}
    return result._replace(text=_dump(document))


def _shown(found: tuple[Warning, ...], files: BuildFiles) -> tuple[BuildWarning, ...]:
    lines = files.lines() if found else ()
    return tuple(BuildWarning(w.message, w.rule, w.path, w.start, w.end, w.url, lines) for w in found)


def _warning_document(warning: Warning) -> Document:
    from buildkit_py.frontends.dockerfile.checks.descriptions import DESCRIPTIONS

    return {
        "ruleName": warning.rule,
        "description": DESCRIPTIONS[warning.rule],
        "url": warning.url,
        "detail": warning.message,
        "error": warning.error,
        "location": _location(warning.start, warning.end),
    }


# targets


def _targets_text(found: tuple[outline.Target, ...]) -> str:
    rows = [("TARGET", "DESCRIPTION")]
    rows += [(t.name + (" (default)" if t.default else ""), t.description) for t in found]
    return _columns(rows)


def _targets_document(found: tuple[outline.Target, ...], files: BuildFiles) -> Document:
    default = next(t.name for t in found if t.default)
    return {
        "default": default,
        "targets": [_target_document(target) for target in found],
        "sources": _sources(files),
    }


def _target_document(target: outline.Target) -> Document:
    return _without_empty(
        {
            "name": target.name,
            "default": target.default,
            "description": target.description,
            "base": target.base,
            "platform": target.platform,
            "location": _location(*target.range),
        }
    )


# outline


def _outline_text(told: outline.Outline) -> str:
    parts = [f"TARGET:      {told.target.name}"]
    if told.target.description:
        parts[0] += f"\nDESCRIPTION: {told.target.description}"
    if told.args:
        rows = [("BUILD ARG", "VALUE", "DESCRIPTION")]
        parts.append(_columns(rows + [(a.name, a.value or "", a.description) for a in told.args]))
    for title, wanted in (("SECRET", told.secrets), ("SSH", told.ssh)):
        if wanted:
            marks = [(w.id, "true" if w.required else "") for w in wanted]
            parts.append(_columns([(title, "REQUIRED"), *marks]))
    if told.cache:
        parts.append(_columns([("CACHE",), *((w.id,) for w in told.cache)]))
    return "\n\n".join(parts)


def _outline_document(told: outline.Outline, files: BuildFiles) -> Document:
    document = {
        "name": told.target.name,
        "description": told.target.description,
        "args": [
            {
                "name": a.name,
                **({} if a.value is None else {"value": a.value}),
                **({"description": a.description} if a.description else {}),
                "location": _location(*a.range),
            }
            for a in told.args
        ],
        "secrets": [_wanted_document(w, "name") for w in told.secrets],
        "ssh": [_wanted_document(w, "name") for w in told.ssh],
        "cache": [_wanted_document(w, "id") for w in told.cache],
        "sources": _sources(files),
    }
    return _without_empty(document)


def _wanted_document(wanted: outline.Wanted, key: str) -> Document:
    required = {"required": True} if wanted.required else {}
    return {key: wanted.id, **required, "location": _location(*wanted.range)}


# parts of documents


def _location(start: int, end: int) -> Document:
    if not start:
        return {}
    return {"ranges": [{"start": {"line": start}, "end": {"line": end}}]}


def _sources(files: BuildFiles) -> list[Document]:
    return [{"filename": files.shown}]


def _without_empty(document: Document) -> Document:
    return {key: value for key, value in document.items() if value not in ("", [], {})}


def _dump(document: Document) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False)


def _columns(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    lines = []
    for row in rows:
        lines.append("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return "\n".join(lines)
