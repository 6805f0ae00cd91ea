"""Every example is built and, where it runs, run, by every kind of user that can.

What to build and what to expect is said by the test.json beside each Dockerfile:

    about        one line
    identities   the users who can (default: all); ``reason`` says why not the others
    builds       a list: target, arguments (of pybuild build), and what to do with the image:
      run        command, entrypoint, env; ``expect`` is a regular expression to find; ``status`` of the exit
      serve      env, path; ``expect`` is text in the body of the answer
      config     what ``config`` of the image's document holds at least
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.examples import Example, examples
from tests.support.people import KINDS, Person
from tests.support.runner import Pybuild
from tests.support.service import ask, serving

CASES = [
    pytest.param(example, kind, id=f"{example.name}-{kind}", marks=pytest.mark.slow)
    for kind in KINDS
    for example in examples()
    if kind in example.kinds
]


@pytest.mark.parametrize(("example", "each_identity"), CASES)
def test_example(
    example: Example,
    each_identity: str,
    kept: Callable[[str], Pybuild],
    host_flags: Callable[[Person], list[str]],
) -> None:
    pybuild = kept(each_identity)
    context = pybuild.copy(example.folder)
    flags = host_flags(pybuild.person)
    for number, build in enumerate(example.builds):
        tag = f"{example.name}:{number}"
        target = ["--target", build["target"]] if "target" in build else []
        words = ["-t", tag, *target, *build.get("arguments", []), *flags, context]
        pybuild("build", *words)
        again = pybuild("build", "--progress=plain", *words)
        assert " RUN " not in _not_cached(again.text), again.text
        if "config" in build:
            check_config(pybuild, tag, build["config"])
        if "run" in build:
            check_run(pybuild, tag, build["run"])
        if "serve" in build:
            check_serve(pybuild, tag, build["serve"])


def _not_cached(plain: str) -> str:
    """The headers of steps that were run, one a line."""
    headers = dict(re.findall(r"^(#\d+) (\[.*)$", plain, re.MULTILINE))
    cached = set(re.findall(r"^(#\d+) CACHED", plain, re.MULTILINE))
    return "\n".join(text for number, text in headers.items() if number not in cached)


def check_config(pybuild: Pybuild, tag: str, expected: dict[str, Any]) -> None:
    document = json.loads(pybuild("inspect", tag).stdout)[0]
    config = document.get("Config") or document["config"]
    assert {key: config.get(key) for key in expected} == expected


def check_run(pybuild: Pybuild, tag: str, told: dict[str, Any]) -> None:
    env = [f"--env={name}={value}" for name, value in told.get("env", {}).items()]
    entrypoint = [f"--entrypoint={told['entrypoint']}"] if "entrypoint" in told else []
    done = pybuild("run", "--rm", *env, *entrypoint, tag, *told["command"], status=told.get("status", 0))
    assert re.search(told["expect"], done.text, re.MULTILINE), done.text


def check_serve(pybuild: Pybuild, tag: str, told: dict[str, Any]) -> None:
    with serving(pybuild, tag, env=told.get("env", {})) as address:
        body = ask(address + told["path"])
        assert told["expect"] in body, body
