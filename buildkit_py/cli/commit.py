"""``pybuild commit``"""

from __future__ import annotations

from buildkit_py.cli.command import Args, Argument, Command, flag_on, option


def run(args: Args) -> int:
    from buildkit_py.engine import Engine
    from buildkit_py.engine.commit import commit

    engine = Engine()
    try:
        engine.begin(supervisors=0)
        image = commit(
            engine,
            engine.containers.get(args.text("container")),
            args.text("name"),
            changes=args.texts("changes"),
            author=args.text("author"),
            message=args.text("message"),
            pause=args.flag("pause"),
        )
    finally:
        engine.close()
    print(image)
    return 0


COMMAND = Command(
    "commit",
    "Make an image of a container's files and settings; those of its mounts are left out.",
    (
        option("-a", "--author", metavar="NAME", help="Who made it"),
        option(
            "-c",
            "--change",
            name="changes",
            multiple=True,
            metavar="INSTRUCTION",
            help="A Dockerfile instruction for the image's settings, like 'CMD [\"app\"]'",
        ),
        option("-m", "--message", metavar="TEXT", help="A word on it, for its history"),
        flag_on("-p", "--pause", help="Pause the container meanwhile"),
        Argument("container", metavar="CONTAINER"),
        Argument("name", metavar="[NAME[:TAG]]", required=False),
    ),
    run,
    examples=("pybuild commit -c 'ENV MODE=test' web web:tested",),
)
