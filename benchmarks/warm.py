"""A process that has pybuild's modules in memory, and runs a command line in a fork of itself when told to.

    PYTHON benchmarks/warm.py run --rm IMAGE true

What is left of a command without the interpreter's start and without imports: the work itself. Reads
numbers from stdin; for each it runs the command line so many times at once, and answers with a line: ``ok``,
or the statuses. The modules are those that are there after the command line has run once, in a fork.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys

from buildkit_py import cli


def run(words: list[str]) -> int:
    """Fork, run, return the child's process id."""
    pid = os.fork()
    if pid == 0:
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(null, 1)
        sys.argv = ["pybuild", *words]
        cli.main()
    return pid


def used(words: list[str]) -> list[str]:
    """The names of the modules that the command, its supervisor and its sandbox load."""
    ours, theirs = os.pipe()
    leave = os._exit

    def tell_and_leave(status: int) -> None:
        try:
            os.write(theirs, "".join(f"{name}\n" for name in sys.modules).encode())
        except OSError:
            # The supervisor and the sandbox have closed it.
            pass
        finally:
            leave(status)

    os._exit = tell_and_leave  # type: ignore[assignment]
    pid = run(words)
    os._exit = leave
    os.close(theirs)
    with open(ours) as pipe:
        names = pipe.read().split()
    os.waitpid(pid, 0)
    return names


def main() -> int:
    words = sys.argv[1:]
    loaded = set(sys.modules)
    beside = ["buildkit_py.runtime.supervisor", "buildkit_py.sandbox.starter", "buildkit_py.sandbox.child"]
    beside += ["buildkit_py.sandbox.joiner", "buildkit_py.linux.emulation", "buildkit_py.engine.resources"]
    for name in (*used(words), *beside):
        if name not in loaded and name != "__main__":
            importlib.import_module(name)
    gc.freeze()
    for line in sys.stdin:
        pids = [run(words) for _ in range(int(line))]
        statuses = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
        print("ok" if not any(statuses) else statuses, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
