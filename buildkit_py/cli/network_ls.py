"""``pybuild network ls``"""

from __future__ import annotations

from collections.abc import Callable

from buildkit_py.cli import listing, sizes
from buildkit_py.cli.command import Args, Command, flag, option
from buildkit_py.errors import UsageError
from buildkit_py.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from buildkit_py.network.store import Network

_VALUES = {"type": ("builtin", "custom"), "dangling": ("true", "false", "1", "0")}
FILTERS = ("name", "id", "label", "driver", "type", "dangling", "scope")
COLUMNS = ("ID", "Name", "Driver", "Scope", "Subnet")
HEADINGS = {
    "ID": "NETWORK ID",
    "Name": "NAME",
    "Driver": "DRIVER",
    "Scope": "SCOPE",
    "Subnet": "SUBNET",
    "Gateway": "GATEWAY",
    "Internal": "INTERNAL",
    "IPv6": "IPV6",
    "Labels": "LABELS",
    "Label": listing.label_heading,
    "CreatedAt": "CREATED AT",
}


def run(args: Args) -> int:
    filters = parse_filters(args.texts("filters"))
    from buildkit_py.engine import Engine
    from buildkit_py.engine import networks as engine_networks

    engine = Engine()
    try:
        engine.networks.bridge()
        networks = engine.networks.list()
        busy = set(engine_networks.members(engine)) if "dangling" in filters else set()
    finally:
        engine.close()
    kept = [n for n in networks if matches(n, filters, busy)]
    rows = [fields(n, whole=args.flag("no_trunc")) for n in kept]
    if not set(filters) & {"label", "dangling"}:
        fixed = [_fixed(*pair, whole=args.flag("no_trunc")) for pair in engine_networks.FIXED.items()]
        rows += [row for row in fixed if _fixed_matches(row, filters)]
    form = args.text("format")
    if args.flag("quiet"):
        for row in rows:
            print(row["ID"])
    else:
        listing.show(rows, HEADINGS, form, COLUMNS)
    return 0


def fields(network: Network, *, whole: bool = False) -> dict[str, Any]:
    return {
        "ID": network.id if whole else network.id[:12],
        "Name": network.name,
        "Driver": "bridge",
        "Scope": "local",
        "Subnet": network.subnet,
        "Gateway": network.gateway,
        "Internal": "true" if network.internal else "false",
        "IPv6": "false",
        "Labels": ",".join(f"{k}={v}" for k, v in sorted(network.labels.items())),
        "Label": lambda key: network.labels.get(key, ""),
        "CreatedAt": sizes.timestamp(network.created),
    }


def _fixed(name: str, driver: str, *, whole: bool) -> dict[str, Any]:
    from buildkit_py.engine.networks import fixed_id
    from buildkit_py.network.store import Network

    row = fields(Network(fixed_id(name), name, 0.0, "", "", "", False, {}), whole=whole)
    return {**row, "Driver": driver, "CreatedAt": ""}


def parse_filters(texts: tuple[str, ...], known: tuple[str, ...] = FILTERS) -> dict[str, list[str]]:
    """``key=value`` each. Raises UsageError for one that isn't known."""
    found: dict[str, list[str]] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if key not in known or not equals or value not in _VALUES.get(key, (value,)):
            raise UsageError(f"--filter: '{text}' is not understood", hint=f"there are {', '.join(known)}")
        found.setdefault(key, []).append(value)
    return found


def matches(network: Network, filters: dict[str, list[str]], busy: set[str]) -> bool:
    """Values of one key are alternatives, labels aside; all keys have to fit."""
    tests: dict[str, Callable[[str], bool]] = {
        "name": lambda v: v in network.name,
        "id": lambda v: network.id.startswith(v),
        "driver": lambda v: v == "bridge",
        "scope": lambda v: v == "local",
        "type": lambda v: v == ("builtin" if network.name == "bridge" else "custom"),
        "dangling": lambda v: (v in ("true", "1")) == (network.id not in busy and network.name != "bridge"),
    }
    for key, values in filters.items():
        if key == "label":
            if not all(labelled(network.labels, value) for value in values):
                return False
        elif not any(tests[key](value) for value in values):
            return False
    return True


def labelled(labels: dict[str, str], wanted: str) -> bool:
    key, equals, value = wanted.partition("=")
    return key in labels and (not equals or labels[key] == value)


def _fixed_matches(row: dict[str, Any], filters: dict[str, list[str]]) -> bool:
    tests: dict[str, Callable[[str], bool]] = {
        "name": lambda v: v in row["Name"],
        "id": lambda v: row["ID"].startswith(v[: len(row["ID"])]),
        "driver": lambda v: v == row["Driver"],
        "scope": lambda v: v == "local",
        "type": lambda v: v == "builtin",
    }
    return all(any(tests[key](value) for value in values) for key, values in filters.items())


COMMAND = Command(
    "network ls",
    "List networks.",
    (
        option(
            "-f",
            "--filter",
            name="filters",
            multiple=True,
            metavar="KEY=VALUE",
            help="By " + ", ".join(FILTERS),
        ),
        option("--format", metavar="FORMAT", help="table, json, or a template like '{{.Name}} {{.Subnet}}'"),
        flag("--no-trunc", help="Show whole ids"),
        flag("-q", "--quiet", help="Show ids only"),
    ),
    run,
)
