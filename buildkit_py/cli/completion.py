"""``pybuild completion``"""

from __future__ import annotations

from buildkit_py.cli.command import Args, Argument, Command


def run(args: Args) -> int:
    from buildkit_py.cli import app

    print(app.completion_script(args.text("shell")))
    return 0


COMMAND = Command(
    "completion",
    "Print the completion script of a shell: bash, zsh or fish.",
    (Argument("shell", metavar="SHELL"),),
    run,
    examples=('eval "$(pybuild completion bash)"',),
)
