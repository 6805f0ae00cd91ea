"""Health checks: a command in the container, again and again, whose exit status says whether it is well."""

from __future__ import annotations

import os
from collections.abc import Callable

from buildkit_py.errors import PybuildError
from buildkit_py.runtime.config import Config
from buildkit_py.runtime.log import now
from buildkit_py.runtime.loop import Loop
from buildkit_py.runtime.state import State
from buildkit_py.sandbox.launcher import Running
from buildkit_py.tuples import NamedTuple
from buildkit_py.typed import Any

LONGEST = 4096
"""Bytes that are kept of what a check says."""
KEPT = 5
"""Answers that are remembered."""
_NANO = 1e9


class Check(NamedTuple):
    args: tuple[str, ...]
    interval: float
    """Seconds, like the next three."""
    timeout: float
    start_period: float
    """In which failures don't count."""
    start_interval: float
    retries: int


def check_of(config: Config) -> Check | None:
    """What was asked for over what the image says; None for no health check."""
    asked, image = config.request.health, config.image_config.get("Healthcheck") or {}
    test = asked.test or tuple(image.get("Test") or ())
    if not test or test[0] == "NONE":
        return None
    if test[0] == "CMD-SHELL":
        args = (*(config.image_config.get("Shell") or ("/bin/sh", "-c")), *test[1:])
    else:
        args = test[1:]

    def seconds(given: float, key: str, default: float) -> float:
        return given or max(image.get(key) or 0, 0) / _NANO or default

    return Check(
        args,
        seconds(asked.interval, "Interval", 30.0),
        seconds(asked.timeout, "Timeout", 30.0),
        seconds(asked.start_period, "StartPeriod", 0.0),
        seconds(asked.start_interval, "StartInterval", 5.0),
        asked.retries or image.get("Retries") or 3,
    )


class Monitor:
    """Of one run of a container.

    ``launch`` starts a command in it on the given descriptor of its output; ``state`` is the container's;
    ``note`` takes what of that changed.
    """

    def __init__(
        self,
        loop: Loop,
        check: Check,
        launch: Callable[[tuple[str, ...], int], Running],
        state: Callable[[], State],
        note: Callable[[dict[str, Any]], None],
    ) -> None:
        self._loop = loop
        self._check = check
        self._launch = launch
        self._state = state
        self._note = note
        self._probe: _Probe | None = None
        self._closed = False
        self._starting = check.start_period > 0
        if self._starting:
            loop.after(check.start_period, self._started)
        self._schedule()

    def _schedule(self) -> None:
        wait = self._check.interval
        if self._starting:
            wait = min(wait, self._check.start_interval)
        self._loop.after(wait, self._run)

    def _started(self) -> None:
        self._starting = False

    def _run(self) -> None:
        if self._state().status != "running":
            # Paused: nothing would answer.
            self._schedule()
            return
        try:
            self._probe = _Probe(self._loop, self._check, self._launch, self._answered)
        except PybuildError as e:
            self._answered(now(), 126, e.message)

    def _answered(self, began: str, status: int, output: str) -> None:
        self._probe = None
        if self._closed:
            return
        answer = {"Start": began, "End": now(), "ExitCode": status, "Output": output}
        state = self._state()
        changes: dict[str, Any] = {"health_log": (*state.health_log, answer)[-KEPT:]}
        if status == 0:
            self._starting = False
            changes.update(health="healthy", failing=0)
        elif not self._starting:
            changes["failing"] = state.failing + 1
            if changes["failing"] >= self._check.retries:
                changes["health"] = "unhealthy"
        self._note(changes)
        self._schedule()

    def close(self) -> None:
        """The container has ended, and what checked it."""
        self._closed = True
        self._loop.cancel(self._run)
        self._loop.cancel(self._started)


class _Probe:
    """One check that runs."""

    def __init__(
        self,
        loop: Loop,
        check: Check,
        launch: Callable[[tuple[str, ...], int], Running],
        answer: Callable[[str, int, str], None],
    ) -> None:
        self._loop = loop
        self._answer = answer
        self._timeout = check.timeout
        self._began = now()
        self._said = b""
        self._late = False
        self._output, theirs = os.pipe()
        try:
            self._running = launch(check.args, theirs)
        except BaseException:
            os.close(self._output)
            raise
        finally:
            os.close(theirs)
        loop.watch(self._output, self._hear)
        loop.watch(self._running.fileno(), self._advance)
        loop.after(check.timeout, self._kill)

    def _hear(self, events: int) -> None:
        data = os.read(self._output, 65536)
        self._said = (self._said + data)[:LONGEST]
        if not data:
            self._loop.forget(self._output)

    def _advance(self, events: int) -> None:
        fd = self._running.fileno()
        status: int | None
        try:
            status = self._running.advance()
        except PybuildError as e:
            status, self._said = 126, e.message.encode()
        if status is None:
            return
        self._loop.forget(fd)
        self._close()
        output = self._said.decode("utf-8", "replace")
        if self._late:
            status, output = -1, f"Health check exceeded timeout ({self._timeout:g}s)"
        self._answer(self._began, status, output)

    def _kill(self) -> None:
        self._late = True
        self._running.kill()

    def _close(self) -> None:
        """It has ended: take what it left."""
        self._loop.cancel(self._kill)
        self._loop.forget(self._output)
        os.set_blocking(self._output, False)
        try:
            self._said = (self._said + os.read(self._output, LONGEST))[:LONGEST]
        except BlockingIOError:
            # Something that it started still has its output.
            pass
        os.close(self._output)


def merged(config: Config) -> dict[str, Any] | None:
    """What was asked for over what the image says, in the form of an image's config."""
    asked, image = config.request.health, config.image_config.get("Healthcheck") or {}
    given = {
        "Test": list(asked.test),
        "Interval": int(asked.interval * _NANO),
        "Timeout": int(asked.timeout * _NANO),
        "StartPeriod": int(asked.start_period * _NANO),
        "StartInterval": int(asked.start_interval * _NANO),
        "Retries": asked.retries,
    }
    return image | {key: value for key, value in given.items() if value} or None
