"""Several stores of one user, each as if it were another machine's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.support.runner import Pybuild


class Machines:
    """One user's stores: each is another machine."""

    def __init__(self, pybuild: Pybuild) -> None:
        self._pybuild = pybuild
        self.environment: dict[str, str] = {}
        """Further variables of the machines."""
        self._count = 0

    def __call__(self) -> Callable[..., str]:
        """A machine that has built nothing: runs ``pybuild build`` with the words, gives what it told."""
        self._count += 1
        root = str(self._pybuild.folder / f"machine-{self._count}")

        def run(*words: str | Path, command: str = "build", status: int = 0) -> str:
            first = ("build", "--progress=plain") if command == "build" else (command,)
            env = {"PYBUILD_ROOT": root, **self.environment}
            return self._pybuild(*first, *words, env=env, status=status).text

        return run


def ran(told: str) -> list[str]:
    """The steps that were not cached, but for base images."""
    steps: dict[str, str] = {}
    cached = set()
    for line in told.splitlines():
        number, _, rest = line.partition(" ")
        if rest.startswith("["):
            steps[number] = rest
        elif rest == "CACHED":
            cached.add(number)
    made = [s for n, s in steps.items() if n not in cached and not s.startswith("[internal]")]
    return [s for s in made if "] FROM " not in s]
