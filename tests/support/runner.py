"""Run pybuild's command lines as one user, in a home and a store of their own."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tests.support.people import Person
from tests.support.program import Program, program
from tests.support.removal import remove

TIMEOUT = 300.0
LONG_AGO = 1_700_000_000
PASSED_ON = tuple(
    name for stem in ("http_proxy", "https_proxy", "no_proxy", "all_proxy") for name in (stem, stem.upper())
)


class Result(NamedTuple):
    """What a command gave back. ``status`` is negative after a signal."""

    status: int
    stdout: str
    stderr: str

    @property
    def text(self) -> str:
        return self.stdout + self.stderr


class Pybuild:
    """``folder`` is made new and belongs to ``person``: it holds home, store, contexts and outputs."""

    def __init__(self, person: Person, folder: Path, settings: Path | None) -> None:
        self.person = person
        self.folder = folder
        self.program: Program = program(person)
        self.environment = {
            "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin",
            "LANG": "C.UTF-8",
            "HOME": str(folder / "home"),
            "USER": person.user,
            "PYBUILD_ROOT": str(folder / "store"),
            **{name: os.environ[name] for name in PASSED_ON if name in os.environ},
            **self.program.environment,
        }
        if settings:
            self.environment["PYBUILD_REGISTRY_CONFIG"] = str(settings)
        for name in ("home", "out"):
            (folder / name).mkdir(parents=True)
        person.own(folder)

    @property
    def store(self) -> Path:
        return self.folder / "store"

    @property
    def out(self) -> Path:
        """A folder that the user can write."""
        return self.folder / "out"

    def start(
        self, *words: str | Path, env: Mapping[str, str] | None = None, **popen: object
    ) -> subprocess.Popen[str]:
        arguments: dict[str, object] = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "text": True,
            "errors": "replace",
            "cwd": self.folder,
            "env": {**self.environment, **(env or {})},
            "start_new_session": True,
            **self.person.popen(),
            **popen,
        }
        argv = [*self.program.argv, *map(str, words)]
        return subprocess.Popen(argv, **arguments)  # type: ignore[call-overload, no-any-return]

    def __call__(
        self,
        *words: str | Path,
        status: int | None = 0,
        input: str | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = TIMEOUT,
        **popen: object,
    ) -> Result:
        """Run to the end; fails the test where the exit status is not ``status`` (None: any will do)."""
        if input is not None:
            popen["stdin"] = subprocess.PIPE
        with self.start(*words, env=env, **popen) as process:
            try:
                stdout, stderr = process.communicate(input, timeout=timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                stdout, stderr = process.communicate()
                raise AssertionError(f"no end after {timeout} s: {words}\n{stdout}\n{stderr}") from None
        result = Result(process.returncode, stdout or "", stderr or "")
        if status is not None and result.status != status:
            raise AssertionError(
                f"pybuild {' '.join(map(str, words))}\nended with {result.status}, not {status}, as "
                f"{self.person.kind}\n--- stdout\n{result.stdout}\n--- stderr\n{result.stderr}"
            )
        return result

    def context(self, files: Mapping[str, str | bytes], name: str = "context") -> Path:
        """A build context of these files, in place of an earlier one of the same name; always of one age."""
        place = self.folder / name
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        for path, content in files.items():
            file = place / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content.encode() if isinstance(content, str) else content)
            os.utime(file, (LONG_AGO, LONG_AGO))
        return self.person.own(place)

    def copy(self, source: Path, name: str | None = None) -> Path:
        """A copy of a folder that belongs to the user."""
        place = self.folder / (name or source.name)
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(source, place, symlinks=True)
        return self.person.own(place)

    def check_store(self) -> None:
        """The store is whole: what is there answers, and agrees with its digests."""
        self("images")
        self("cache", "du")
        self("cache", "verify")

    def half_made(self) -> list[Path]:
        """Layer directories that no row of the index names, and blobs that never became one."""
        store = self.store
        with contextlib.closing(sqlite3.connect(store / "index.db")) as db:
            known = {str(row[0]) for row in db.execute("SELECT layer FROM snapshots")}
        modes = [mode for mode in (store / "snapshots").iterdir() if mode.name[0] != "."]
        layers = [layer for mode in modes for layer in mode.iterdir()]
        return [layer for layer in layers if layer.name not in known] + list((store / "staging").iterdir())

    def remove(self) -> None:
        """Delete the folder, files of subordinate ids included."""
        remove(self.folder)
