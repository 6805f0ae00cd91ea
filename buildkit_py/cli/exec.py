"""``pybuild exec``"""

from __future__ import annotations

import os
import sys

from buildkit_py.cli import streams, values
from buildkit_py.cli.command import Args, Argument, Command, flag, option
from buildkit_py.engine.client import Client
from buildkit_py.errors import UsageError


def run(args: Args) -> int:
    from buildkit_py.engine import Engine
    from buildkit_py.engine.execute import ExecRequest, execute

    env: list[tuple[str, str]] = []
    for path in args.texts("env_files"):
        env += values.env_file(path)
    env += values.variables(args.texts("env"), "--env")
    interactive, terminal = args.flag("interactive"), args.flag("tty")
    if interactive and terminal and not args.flag("detach") and not sys.stdin.isatty():
        raise UsageError("-t needs a terminal on stdin", hint="leave -t out when stdin is a pipe or a file")
    request = ExecRequest(
        args.texts("command"),
        tuple(env),
        args.text("user"),
        values.directory(args.text("workdir"), "--workdir"),
        interactive,
        terminal,
        args.flag("privileged"),
    )
    names = ("stdin", "stdout", "stderr") if interactive else ("stdout", "stderr")
    client = Client(() if args.flag("detach") else names, streams.keys(args.text("detach_keys")))
    engine = Engine()
    try:
        engine.begin(supervisors=0)
        status = execute(engine, engine.containers.get(args.text("container")), request, client)
    finally:
        engine.close()
    if status is None and not args.flag("detach"):
        os.write(2, b"\r\n")
    return status or 0


COMMAND = Command(
    "exec",
    "Run a command in a container that runs.\n\nThe command's exit status is passed on; 126 says that the "
    "command can't be run, 127 that it isn't there.",
    (
        flag("-d", "--detach", help="Leave it running"),
        streams.DETACH_KEYS,
        option("-e", "--env", multiple=True, metavar="NAME[=VALUE]", help="Set a variable"),
        option(
            "--env-file", name="env_files", multiple=True, metavar="FILE", help="Set the variables of a file"
        ),
        flag("-i", "--interactive", help="Pass stdin on"),
        flag("--privileged", help="With all capabilities, and no filter of system calls"),
        flag("-t", "--tty", help="Give the command a terminal"),
        option("-u", "--user", metavar="USER[:GROUP]", help="Run as this user"),
        option("-w", "--workdir", metavar="DIRECTORY", help="Working directory"),
        Argument("container", metavar="CONTAINER"),
        Argument("command", metavar="COMMAND [ARGUMENT]...", many=True),
    ),
    run,
    interspersed=False,
    examples=("pybuild exec -it web sh", "pybuild exec -u postgres db psql -c 'select 1'"),
)
