"""The command line. ``main`` is the console script; a subcommand is one module of this package.

Nothing heavy is imported here: `pybuild --version` is little more than a bare interpreter.
"""

from __future__ import annotations

import gc
import os
import sys


def main(argv: list[str] | None = None) -> int:
    """Run one command line and return its exit status; every error ends here, as text on stderr.

    As the console script (no ``argv``) it does not return: the process ends without tearing down the
    interpreter, see ``_leave``.
    """
    if argv is not None:
        return _run(argv)
    if sys.getfilesystemencoding() != "utf-8" and "utf8" not in sys._xoptions:
        _have_utf8()
    if sys.stdin is None or sys.stdout is None or sys.stderr is None:
        _fill_standard_streams()
    # What we make is for ourselves at least: no umask may close it to us.
    os.umask(os.umask(0) & 0o077)
    # The collector would walk all modules several times while they load and find nothing: 4 ms of 60.
    gc.set_threshold(50_000, 20, 100)
    _leave(_run(sys.argv[1:]))
    return 0


def _run(words: list[str]) -> int:
    try:
        if words in (["--version"], ["-v"]):
            from buildkit_py import __version__

            print("pybuild", __version__)
            status = 0
        else:
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
    except OSError as error:
        print(f"ERROR: can't write to stdout: {error.strerror}", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1


def _have_utf8() -> None:
    """Start anew in Python's UTF-8 mode: in a locale of another encoding the same Dockerfile and the same
    files would get other names in the image."""
    # By an option: PYTHONUTF8 counts for nothing after python -I, and we would start anew for ever.
    os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def _fill_standard_streams() -> None:
    """Put /dev/null where a caller closed a standard stream (``>&-``).

    Else the next file that is opened, the index maybe, gets its number and what is printed.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number is taken: number.
            os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(number, True)
    sys.stdin = sys.stdin or open(0)
    sys.stdout = sys.stdout or open(1, "w")
    sys.stderr = sys.stderr or open(2, "w")


def _dispatch(words: list[str]) -> int:
    while words and words[0] in ("--debug", "-D"):
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


def _leave(status: int) -> None:
    """End the process. Everything that must be closed has been; freeing each object and module in turn
    would take another 5 ms."""
    threading = sys.modules.get("threading")
    if threading is not None:
        for thread in threading.enumerate():
            if not thread.daemon and thread is not threading.current_thread():
                thread.join()
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        status = status or 1
    try:
        # Progress that nobody reads (`pybuild build . 2>&1 | head`) changes nothing about the result.
        sys.stderr.flush()
    except (OSError, ValueError):
        pass
    os._exit(status)
