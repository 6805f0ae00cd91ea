"""``pybuild network ls``"""

from __future__ import annotations

from collections.abc import Callable

from buildkit_py.cli import listing, sizes
from buildkit_py.cli.command import Args, Command, flag, option
from buildkit_py.errors import UsageError
from buildkit_py.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from buildkit_py.network.store import Network

FILTERS = ("name", "id", "label", "driver", "type", "dangling", "scope")
COLUMNS = ("ID", "Name", "Driver", "Subnet")
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
    "CreatedAt": "CREATED AT",
}
_WITHOUT = ("host", "none", "private")
"""Always there, and no rows of the store: (name, driver) alike."""


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
    if not set(filters) & {"id", "label", "dangling"}:
        rows += [_fixed(name) for name in _WITHOUT if _fixed_matches(name, filters)]
    form = args.text("format")
    if args.flag("quiet"):
        for row in rows:
            print(row["ID"] or row["Name"])
    else:
        listing.show(rows, HEADINGS, form, COLUMNS)
    return 0


def fields(network: Network, *, whole: bool = False) -> dict[str, str]:
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
        "CreatedAt": sizes.timestamp(network.created),
    }


def _fixed(name: str) -> dict[str, str]:
    row = dict.fromkeys(("ID", "Subnet", "Gateway", "Labels", "CreatedAt"), "")
    return {**row, "Name": name, "Driver": name, "Scope": "local", "Internal": "false", "IPv6": "false"}


def parse_filters(texts: tuple[str, ...], known: tuple[str, ...] = FILTERS) -> dict[str, list[str]]:
    """``key=value`` each. Raises UsageError for one that isn't known."""
    found: dict[str, list[str]] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if key not in known or not equals:
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


def _fixed_matches(name: str, filters: dict[str, list[str]]) -> bool:
    tests: dict[str, Callable[[str], bool]] = {
        "name": lambda v: v in name,
        "driver": lambda v: v == name,
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
