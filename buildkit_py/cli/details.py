"""What the ``inspect`` commands have in common."""

from __future__ import annotations

from collections.abc import Callable

from buildkit_py.cli.command import Args
from buildkit_py.errors import NotFoundError
from buildkit_py.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from buildkit_py.engine import Engine


def show(args: Args, find: Callable[[Engine, str], dict[str, Any]]) -> int:
    """Print the documents of all ``names``, as JSON or by ``format``; those that aren't there (NotFoundError
    of ``find``) are told, and make the exit status 1."""
    import json

    from buildkit_py.cli import report, template
    from buildkit_py.engine import Engine

    engine = Engine()
    status, found = 0, []
    try:
        for name in args.texts("names"):
            try:
                found.append(find(engine, name))
            except NotFoundError as error:
                status = report.show(error)
    finally:
        engine.close()
    form = args.text("format")
    if form in ("", "json"):
        print(json.dumps(found, indent=4, ensure_ascii=False))
    else:
        for document in found:
            print(template.render(form, document))
    return status
