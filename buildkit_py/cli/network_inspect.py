"""``pybuild network inspect``"""

from __future__ import annotations

from buildkit_py.cli import details
from buildkit_py.cli.command import Args, Argument, Command, flag, option
from buildkit_py.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from buildkit_py.engine import Engine


def run(args: Args) -> int:
    return details.show(args, document)


def document(engine: Engine, name: str) -> dict[str, Any]:
    """As ``docker network inspect`` has it. Raises NotFoundError."""
    from buildkit_py.engine import networks

    if name in networks.FIXED:
        return networks.fixed_document(name)
    network = engine.networks.bridge() if name == "bridge" else engine.networks.get(name)
    return networks.document(network, networks.members(engine).get(network.id, ()))


COMMAND = Command(
    "network inspect",
    "Show the details of networks, and who is on them, as JSON.",
    (
        option("-f", "--format", metavar="FORMAT", help="A template like '{{json .Containers}}'"),
        flag("-v", "--verbose", help="Docker's option for networks of a swarm", hidden=True),
        Argument("names", metavar="NETWORK...", many=True),
    ),
    run,
)
