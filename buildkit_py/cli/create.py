"""``pybuild create``"""

from __future__ import annotations

from buildkit_py.cli import streams
from buildkit_py.cli.command import Args, Command, option
from buildkit_py.cli.container_options import ARGUMENTS, OPTIONS, cid_file, translate


def run(args: Args) -> int:
    request = translate(args)
    names = streams.chosen(args.texts("attach"))
    default = ("stdin", "stdout", "stderr") if request.interactive else ("stdout", "stderr")
    write_id = cid_file(args.text("cidfile"))
    from buildkit_py.cli.session import Session

    with Session("quiet" if args.flag("quiet") else "auto") as session:
        container = session.engine.create(request._replace(attach=names or default), session.display)
    write_id(container.id)
    print(container.id)
    return 0


COMMAND = Command(
    "create",
    "Create a container without starting it.",
    tuple(
        sorted(
            (
                *OPTIONS,
                option("-a", "--attach", multiple=True, metavar="STREAM", help="stdin, stdout or stderr"),
            ),
            key=lambda option: option.flags[-1],
        )
    )
    + ARGUMENTS,
    run,
    interspersed=False,
    examples=("pybuild create --name db -v data:/var/lib/postgresql postgres", "pybuild start db"),
)
