"""``pybuild create``"""

from __future__ import annotations

from buildkit_py.cli import streams
from buildkit_py.cli.command import Args, Command, option
from buildkit_py.cli.container_options import ARGUMENTS, OPTIONS, IdFile, translate


def run(args: Args) -> int:
    request = translate(args)
    names = streams.chosen(args.texts("attach"))
    default = ("stdin", "stdout", "stderr") if request.interactive else ("stdout", "stderr")
    from buildkit_py.cli.session import Session

    progress = "quiet" if args.flag("quiet") else "auto"
    with IdFile(args.text("cidfile")) as id_file, Session(progress) as session:
        container = session.engine.create(request._replace(attach=names or default), session.display)
        id_file.write(container.id)
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
