"""What a container runs, and with which environment: Docker's rules for ENTRYPOINT, CMD and variables."""

from __future__ import annotations

from typing import Any

import pytest

from buildkit_py.errors import PybuildError
from buildkit_py.request import RunRequest
from buildkit_py.runtime.process import arguments, environment

IMAGE = {"Entrypoint": ["/entry", "-x"], "Cmd": ["serve"]}


@pytest.mark.parametrize(
    ("config", "asked", "want"),
    [
        ({"Cmd": ["sh"]}, {}, ("sh",)),
        ({"Cmd": ["sh"]}, {"command": ("ls", "-l")}, ("ls", "-l")),
        (IMAGE, {}, ("/entry", "-x", "serve")),
        (IMAGE, {"command": ("help",)}, ("/entry", "-x", "help")),
        (IMAGE, {"entrypoint": ("sh",)}, ("sh",)),
        (IMAGE, {"entrypoint": ("sh",), "command": ("-c", "id")}, ("sh", "-c", "id")),
        (IMAGE, {"entrypoint": (), "command": ("id",)}, ("id",)),
        ({"Entrypoint": ["/e"], "Cmd": None}, {}, ("/e",)),
    ],
)
def test_arguments(config: dict[str, Any], asked: dict[str, Any], want: tuple[str, ...]) -> None:
    assert arguments(config, RunRequest("app", **asked)) == want


@pytest.mark.parametrize("asked", [{}, {"entrypoint": ()}])
def test_an_image_without_a_command_needs_one(asked: dict[str, Any]) -> None:
    config = IMAGE if asked else {}
    with pytest.raises(PybuildError, match="neither CMD nor ENTRYPOINT"):
        arguments(config, RunRequest("app", **asked))


def variables(config: dict[str, Any], request: RunRequest) -> dict[str, str]:
    return dict(item.split("=", 1) for item in environment(config, request, "/root", "box"))


def test_the_command_line_wins_over_the_image_and_both_over_defaults() -> None:
    config = {"Env": ["PATH=/bin", "A=image", "B=image"]}
    env = variables(config, RunRequest("app", env=(("A", "asked"),)))
    assert env == {"PATH": "/bin", "A": "asked", "B": "image", "HOSTNAME": "box", "HOME": "/root"}


def test_a_terminal_has_a_type_and_home_can_be_set() -> None:
    env = variables({"Env": ["HOME=/srv"]}, RunRequest("app", terminal=True))
    assert env["TERM"] == "xterm"
    assert env["HOME"] == "/srv"
    assert env["PATH"].startswith("/usr/local/sbin:")


def test_a_value_may_hold_equal_signs() -> None:
    assert variables({"Env": ["OPTS=a=b=c"]}, RunRequest("app"))["OPTS"] == "a=b=c"
