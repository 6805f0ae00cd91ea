"""``pybuild ps``"""

from __future__ import annotations

import re

from buildkit_py.cli import listing, sizes, values
from buildkit_py.cli.command import Args, Command, flag, option
from buildkit_py.errors import UsageError
from buildkit_py.network import description as networks
from buildkit_py.network import record
from buildkit_py.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from buildkit_py.engine import Engine
    from buildkit_py.runtime.config import Config
    from buildkit_py.runtime.container import Container
    from buildkit_py.runtime.state import State

HEADINGS: dict[str, str | Callable[[str], str]] = {
    "ID": "CONTAINER ID",
    "Image": "IMAGE",
    "Command": "COMMAND",
    "RunningFor": "CREATED",
    "Status": "STATUS",
    "Ports": "PORTS",
    "Names": "NAMES",
    "Size": "SIZE",
    "CreatedAt": "CREATED AT",
    "State": "STATE",
    "Labels": "LABELS",
    "Label": listing.label_heading,
    "Mounts": "MOUNTS",
    "Networks": "NETWORKS",
    "LocalVolumes": "LOCAL VOLUMES",
    "Platform": "PLATFORM",
}
COLUMNS = ("ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names")
FILTERS = (
    *("ancestor", "before", "exited", "expose", "health", "id", "is-task", "label", "name", "network"),
    *("publish", "since", "status", "volume"),
)
STATUSES = ("created", "running", "paused", "restarting", "removing", "exited", "dead")
HEALTHS = ("starting", "healthy", "unhealthy", "none")
LONGEST = 19
"""Characters of a command that are shown."""


def run(args: Args) -> int:
    from buildkit_py.engine import Engine

    engine = Engine()
    try:
        rows = chosen(engine, args)
    finally:
        engine.close()
    if args.flag("quiet"):
        for row in rows:
            print(row["ID"])
        return 0
    columns = (*COLUMNS, "Size") if args.flag("size") else COLUMNS
    listing.show(rows, HEADINGS, args.text("format"), columns)
    return 0


def chosen(engine: Engine, args: Args) -> list[dict[str, Any]]:
    wanted = _filters(args)
    last = 1 if args.flag("latest") else values.whole(args.text("last"), "--last") or -1
    everything = args.flag("all") or last > 0 or bool(wanted["status"])
    rows = []
    containers = engine.containers.list()
    for container in containers:
        try:
            state, config = container.state(), container.config()
        except Exception:
            # Removed between the two looks.
            continue
        if (everything or state.live) and kept(engine, container, config, state, wanted, containers):
            row = fields(container, config, state, whole=args.flag("no_trunc"))
            if args.flag("size") or "Size" in args.text("format"):
                row["Size"] = size_of(engine, container)
            rows.append(row)
        if len(rows) == last:
            break
    return rows


def _filters(args: Args) -> dict[str, list[str]]:
    """Raises UsageError for a value that no container can have."""
    wanted = listing.filters(args.texts("filters"), FILTERS)
    for name, known in (("status", STATUSES), ("health", HEALTHS)):
        for value in wanted[name]:
            if value not in known:
                raise UsageError(f"--filter: there is no {name} '{value}'", hint="one of " + ", ".join(known))
    for value in wanted["exited"]:
        values.whole(value, "--filter exited")
    for value in wanted["name"]:
        try:
            re.compile(value)
        except re.error as error:
            raise UsageError(f"--filter: name={value} is no regular expression: {error}") from None
    return wanted


def fields(container: Container, config: Config, state: State, *, whole: bool) -> dict[str, Any]:
    from buildkit_py.runtime import description

    command = " ".join(f"'{word}'" if " " in word else word for word in config.command)
    if not whole and len(command) > LONGEST + 1:
        command = command[:LONGEST] + "…"
    mounts = [m.source or m.target for m in config.mounts if m.kind != "tmpfs"]
    labels = description.labels(config)
    return {
        "ID": container.id if whole else container.id[:12],
        "Image": config.request.image,
        "Command": f'"{command}"',
        "RunningFor": sizes.age(config.created),
        "CreatedAt": sizes.moment(config.created),
        "Status": description.status_text(state, sizes.age),
        "State": state.status,
        "Ports": ports_text(container, config, state),
        "Names": container.name,
        "Size": "",
        "Labels": ",".join(f"{key}={value}" for key, value in labels.items()),
        "Label": lambda key: labels.get(key, ""),
        "Mounts": ",".join(m if whole or len(m) <= 15 else m[:14] + "…" for m in mounts),
        "Networks": ",".join(networks_of(container, config)),
        "Platform": config.platform,
        "LocalVolumes": str(sum(m.kind == "volume" for m in config.mounts)),
    }


def ports_text(container: Container, config: Config, state: State) -> str:
    from buildkit_py.runtime import description

    return networks.ports_text(record.load(container.path), description.exposed(config)) if state.live else ""


def networks_of(container: Container, config: Config) -> list[str]:
    asked = [network.name for network in config.request.networking.networks]
    return networks.names(record.load(container.path), asked)


def size_of(engine: Engine, container: Container) -> str:
    own, whole = measured(engine, container)
    return f"{sizes.size(own)} (virtual {sizes.size(whole)})"


def measured(engine: Engine, container: Container) -> tuple[int, int]:
    """Bytes of what it changed, and of that with its image's layers."""
    from buildkit_py.snapshot.usage import measure

    engine.enter()
    own, _ = measure(container.part("fs"))
    layers = engine.snapshots.chain(container.snapshot)
    image = sum(engine.snapshots.measure(info.layer)[0] for info in layers)
    return own, own + image


def kept(
    engine: Engine,
    container: Container,
    config: Config,
    state: State,
    wanted: dict[str, list[str]],
    containers: list[Container],
) -> bool:
    from buildkit_py.runtime import description

    def one_of(name: str, test: bool) -> bool:
        return not wanted[name] or test

    on = set(networks_of(container, config)) | _network_ids(container)
    volumes = {m.source for m in config.mounts} | {m.target for m in config.mounts}
    health = state.health or "none"
    return (
        one_of("id", any(container.id.startswith(text) for text in wanted["id"]))
        and one_of("name", any(_matches(text, container.name) for text in wanted["name"]))
        and one_of("status", state.status in wanted["status"])
        and one_of("exited", state.status == "exited" and str(state.exit_code) in wanted["exited"])
        and one_of("health", health in wanted["health"])
        and one_of("volume", bool(volumes & set(wanted["volume"])))
        and one_of("network", bool(on & set(wanted["network"])))
        and one_of("ancestor", any(_descends(engine, config, text) for text in wanted["ancestor"]))
        and one_of("is-task", "false" in wanted["is-task"])
        and listing.labelled(description.labels(config), wanted["label"])
        and all(_age_of(containers, text) > container.created for text in wanted["before"])
        and all(_age_of(containers, text) < container.created for text in wanted["since"])
        and one_of("expose", any(_exposes(config, text) for text in wanted["expose"]))
        and one_of("publish", any(_publishes(container, text) for text in wanted["publish"]))
    )


def _network_ids(container: Container) -> set[str]:
    """In full and as they are listed."""
    state = record.load(container.path)
    ids = [endpoint.network_id for endpoint in (state.endpoints if state else ()) if endpoint.network_id]
    return {id[:length] for id in ids for length in (12, 64)}


def _descends(engine: Engine, config: Config, text: str) -> bool:
    """Whether a container's image is the one that is meant, or was built on it."""
    if config.request.image == text or config.image == text or config.image[7:].startswith(text):
        return True
    image = engine.images.match(text, "")
    own = engine.images.by_id(config.image)
    if image is None or own is None:
        return image is not None and image.id == config.image
    # Nobody records what an image was built on: its history and its layers begin with those of its base.
    pairs = [(i.config.get("history") or [], i.diff_ids) for i in (image, own)]
    (steps, layers), (own_steps, own_layers) = pairs
    based = bool(steps) and own_steps[: len(steps)] == steps and own_layers[: len(layers)] == layers
    return image.id == own.id or (based and len(own_steps) > len(steps))


def _matches(text: str, name: str) -> bool:
    """Docker's names begin with a slash, which a filter may have or not."""
    return bool(re.search(text, name) or re.search(text, "/" + name))


def _exposes(config: Config, text: str) -> bool:
    """Whether a port is the image's, of ``--expose`` or published."""
    from buildkit_py.runtime import description

    exposed = description.exposed(config)
    return any(port in exposed for port in _ports(text))


def _publishes(container: Container, text: str) -> bool:
    """By the container's port, or by this machine's."""
    state = record.load(container.path)
    found = {f"{n}/{p.protocol}" for p in (state.ports if state else ()) for n in (p.container, p.host)}
    return any(port in found for port in _ports(text))


def _ports(text: str) -> list[str]:
    """``80``, ``53/udp``, ``8000-8010/tcp`` as single ports. Raises UsageError."""
    numbers, _, protocol = text.partition("/")
    first, _, last = numbers.partition("-")
    try:
        return [f"{n}/{protocol or 'tcp'}" for n in range(int(first), int(last or first) + 1)]
    except ValueError:
        raise UsageError(
            f"--filter: '{text}' is no port", hint="for example 80, 53/udp or 8000-8010"
        ) from None


def _age_of(containers: list[Container], text: str) -> float:
    for container in containers:
        if container.name == text or container.id.startswith(text):
            return container.created
    raise UsageError(f"--filter: no such container: {text}")


COMMAND = Command(
    "ps",
    "List containers.",
    (
        flag("-a", "--all", help="Those that don't run, too"),
        option(
            "-f", "--filter", name="filters", multiple=True, metavar="NAME=VALUE", help=", ".join(FILTERS)
        ),
        option("--format", metavar="FORMAT", help="table, json, or a template like '{{.ID}} {{.Names}}'"),
        option("-n", "--last", metavar="NUMBER", help="The last ones that were created"),
        flag("-l", "--latest", help="The last one that was created"),
        flag("--no-trunc", help="Show whole ids and commands"),
        flag("-q", "--quiet", help="Show ids only"),
        flag("-s", "--size", help="Show what they take on disk"),
    ),
    run,
)
