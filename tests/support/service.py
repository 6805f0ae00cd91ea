"""A container that serves HTTP, from its start to its end."""

from __future__ import annotations

import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.registry import free_port
from tests.support.runner import Pybuild

PATIENCE = 30.0


@contextmanager
def serving(pybuild: Pybuild, *words: str, env: dict[str, str]) -> Iterator[str]:
    """``pybuild run`` with PORT set to a free port, the network shared with the host; gives the address.

    At the end it is asked to stop by SIGTERM, as a shell or a service manager does, and must do so.
    """
    port = free_port()
    variables = [f"--env={name}={value}" for name, value in {"PORT": str(port), **env}.items()]
    process = pybuild.start("run", "--rm", "--network=host", *variables, *words)
    try:
        yield f"http://127.0.0.1:{port}"
        assert process.poll() is None, process.communicate()
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError("the container went on after SIGTERM") from None
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def ask(url: str, data: bytes | None = None) -> str:
    """The body of the answer, waiting for the service to come up."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, data), timeout=5) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as error:
            with error:
                return f"{error.code} {error.read().decode()}"
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
