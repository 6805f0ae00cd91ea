"""``pybuild debug shell``"""

from __future__ import annotations

import sys

from buildkit_py.cli.command import Args, Argument, Command, flag


def run(args: Args) -> int:
    from buildkit_py.cli.history_logs import find
    from buildkit_py.cli.session import Session
    from buildkit_py.engine.shell import enter_step
    from buildkit_py.runtime import console

    console.require()
    with Session("quiet", passes_signals=True) as session:
        build = session.engine.history.find(args.text("build"))
        step = find(build, args.text("step"))

        def starting(missing: str) -> None:
            sys.stderr.write(f"{step.name}{f' ({missing})' if missing else ''}\n")
            sys.stderr.flush()

        return enter_step(session.engine, step, after=args.flag("after"), starting=starting)


COMMAND = Command(
    "debug shell",
    "Enter the state of a step of a build by a shell.\n\nBUILD is the beginning of an id of 'history ls', or "
    "^N for the Nth before the latest; STEP a number of 'history inspect', the beginning of a digest, or a "
    "part of a name. The shell gets the files that a RUN ran in, its user, directory and variables; what it "
    "writes is discarded.",
    (
        flag("--after", help="The files that the step made"),
        Argument("build", metavar="BUILD"),
        Argument("step", metavar="STEP"),
    ),
    run,
    examples=("pybuild debug shell ^0 'RUN make'", "pybuild debug shell --after 3f2a 5"),
)
