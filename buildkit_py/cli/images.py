"""``pybuild images``"""

from __future__ import annotations

import sys
from fnmatch import fnmatchcase

from buildkit_py.cli import report, sizes, template, values
from buildkit_py.cli.command import Args, Argument, Command, flag, option
from buildkit_py.errors import UsageError
from buildkit_py.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from buildkit_py.engine import Engine
    from buildkit_py.image.store import Image

HEADINGS = {
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "Digest": "DIGEST",
    "ID": "IMAGE ID",
    "CreatedSince": "CREATED",
    "Size": "SIZE",
}
NONE = "<none>"
FILTERS = ("before", "dangling", "label", "reference", "since", "until")


def run(args: Args) -> int:
    from buildkit_py.engine import Engine

    engine = Engine()
    try:
        images = _aged(engine, engine.images.images(), _filters(args.texts("filters")))
        if not args.flag("quiet"):
            images = [image._replace(size=engine.size_of(image)) for image in images]
    finally:
        engine.close()
    wanted = args.text("reference")
    filters = _filters(args.texts("filters"))
    if args.flag("quiet"):
        for image in images:
            if any(_kept(image, name, wanted, filters) for name in image.names or ("",)):
                print(sizes.short(image.id, args.flag("no_trunc")))
        return 0
    rows = [
        fields(image, name, whole=args.flag("no_trunc"))
        for image in images
        for name in image.names or ("",)
        if _kept(image, name, wanted, filters)
    ]
    _show(rows, args.text("format"), digests=args.flag("digests"))
    return 0


def fields(image: Image, name: str, *, whole: bool = False) -> dict[str, str]:
    """One line of the list, by docker's field names; one for each name of an image."""
    repository, tag = split(name)
    return {
        "ID": sizes.short(image.id, whole),
        "Repository": repository or NONE,
        "Tag": tag or NONE,
        "Digest": image.manifest or NONE,
        "CreatedSince": sizes.age(image.created),
        "CreatedAt": sizes.moment(image.created),
        "Size": sizes.size(image.size),
        "Platform": image.platform,
        "VirtualSize": sizes.size(image.size),
        "SharedSize": "N/A",
        "UniqueSize": "N/A",
        "Containers": "N/A",
    }


def split(name: str) -> tuple[str, str]:
    """Repository and tag of a normalised name, as people write them: Docker Hub's host left out."""
    name = name.partition("@")[0]
    repository, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:
        repository, tag = name, ""
    return familiar(repository), tag


def familiar(name: str) -> str:
    """A normalised name as people write it."""
    return name.removeprefix("docker.io/").removeprefix("library/")


def _kept(image: Image, name: str, wanted: str, filters: dict[str, list[str]]) -> bool:
    repository, tag = split(name)
    full = f"{repository}:{tag}"
    if wanted and not (fnmatchcase(full, wanted) or fnmatchcase(repository, wanted) or name == wanted):
        return False
    references = filters["reference"]
    if references and not any(fnmatchcase(full, r) or fnmatchcase(repository, r) for r in references):
        return False
    if any(bool(image.names) == (value in ("true", "1")) for value in filters["dangling"]):
        return False
    labels = (image.config.get("config") or {}).get("Labels") or {}
    for label in filters["label"]:
        key, equals, value = label.partition("=")
        if key not in labels or (equals and labels[key] != value):
            return False
    return True


def _aged(engine: Engine, images: list[Image], wanted: dict[str, list[str]]) -> list[Image]:
    """Those of the age that is wanted. Raises NotFoundError, UsageError."""
    last = [engine.images.find(name).created for name in wanted["before"]]
    last += [values.moment(text, "--filter until") for text in wanted["until"]]
    first = [engine.images.find(name).created for name in wanted["since"]]
    return [i for i in images if all(i.created < t for t in last) and all(i.created > t for t in first)]


def _filters(texts: tuple[str, ...]) -> dict[str, list[str]]:
    result: dict[str, list[str]] = {name: [] for name in FILTERS}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--filter: '{text}' is not of the form NAME=VALUE")
        if name not in result:
            raise UsageError(f"--filter: unknown filter '{name}'", hint="one of " + ", ".join(FILTERS))
        result[name].append(value)
    return result


def _show(rows: list[dict[str, str]], form: str, *, digests: bool) -> None:
    columns = [name for name in HEADINGS if digests or name != "Digest"]
    if form in ("", "table"):
        report.table([[HEADINGS[c] for c in columns], *([row[c] for c in columns] for row in rows)])
    elif form == "json":
        for row in rows:
            print(template.render("{{json .}}", row))
    elif form.startswith("table "):
        body = form.removeprefix("table ")
        lines = [template.render(body, {n: HEADINGS.get(n, n.upper()) for n in fields_known()})]
        lines += [template.render(body, row) for row in rows]
        report.table([line.split("\t") for line in lines])
    else:
        for row in rows:
            sys.stdout.write(template.render(form, row) + "\n")


def fields_known() -> tuple[str, ...]:
    return (*HEADINGS, "CreatedAt", "Platform", "VirtualSize", "SharedSize", "UniqueSize", "Containers")


COMMAND = Command(
    "images",
    "List images.",
    (
        flag("-a", "--all", help="Docker's option; every image is shown anyway"),
        flag("--digests", help="Show the digests of their manifests"),
        option(
            "-f",
            "--filter",
            name="filters",
            multiple=True,
            metavar="NAME=VALUE",
            help="reference=, dangling=, label=, before=, since=, until=",
        ),
        option(
            "--format", metavar="FORMAT", help="table, json, or a template like '{{.Repository}}:{{.Tag}}'"
        ),
        flag("--no-trunc", help="Show whole ids"),
        flag("-q", "--quiet", help="Show ids only"),
        Argument("reference", metavar="[REPOSITORY[:TAG]]", required=False),
    ),
    run,
)
