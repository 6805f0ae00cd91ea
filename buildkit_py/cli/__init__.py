"""The command line. ``main`` is the console script; a subcommand is one module of this package.

Nothing heavy is imported here: `pybuild --version` is little more than a bare interpreter.
"""

from __future__ import annotations

import os
import sys


def main(argv: list[str] | None = None) -> int:
    """Run one command line and return its exit status; every error ends here, as text on stderr."""
    words = sys.argv[1:] if argv is None else argv
    if words == ["--version"]:
        from buildkit_py import __version__

        print("pybuild", __version__)
        return 0
    try:
        status = _dispatch(words)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader went away (`pybuild images | head -1`); the interpreter would complain once more
        # when it flushes stdout on its way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141


def _dispatch(words: list[str]) -> int:
    while words and words[0] == "--debug":
        os.environ["PYBUILD_DEBUG"] = "1"
        words = words[1:]
    if "_PYBUILD_COMPLETE" in os.environ:
        from buildkit_py.cli import app

        return app.complete(os.environ["_PYBUILD_COMPLETE"])
    from buildkit_py.cli import fast, table

    error_status = 0
    try:
        found = table.find(words)
        command = table.load(found[0]) if found else None
        args = fast.parse(command, found[1]) if found and command else None
        if command is not None:
            error_status = command.error_status
        if command is None or args is None:
            from buildkit_py.cli import app

            parsed = app.parse(words)
            if parsed is None:
                return 0
            command, args = parsed
        return command.run(args)
    except (KeyboardInterrupt, BrokenPipeError):
        raise
    except Exception as error:
        from buildkit_py.cli import report

        return report.show(error, error_status)
