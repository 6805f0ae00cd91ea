from __future__ import annotations

import json

import pytest

from buildkit_py import cli
from buildkit_py.cli.doctor import able, render
from buildkit_py.cli.excerpt import Style
from buildkit_py.linux import probe
from buildkit_py.linux.probe import Finding

GOOD = Finding("kernel", True, "Linux 6.1.0")
LESSER = Finding(
    "subordinate ids",
    False,
    "none for alice",
    "sudo usermod --add-subuids 100000-165535 alice\nlog in",
    False,
)
BAD = Finding("user namespaces", False, "unshare: Operation not permitted", "sudo sysctl -w x=1")
Capture = pytest.CaptureFixture[str]


def test_all_is_well() -> None:
    assert render([GOOD], Style(False)) == "✓ kernel  Linux 6.1.0\n\nAll is well.\n"
    assert able([GOOD])


def test_what_could_be_better() -> None:
    assert able([GOOD, LESSER])
    assert render([GOOD, LESSER], Style(False)) == (
        "✓ kernel           Linux 6.1.0\n"
        "- subordinate ids  none for alice\n"
        "                   mend: sudo usermod --add-subuids 100000-165535 alice\n"
        "                         log in\n"
        "\n"
        "Builds work here. They would do better with: subordinate ids.\n"
    )


def test_what_must_be_mended() -> None:
    assert not able([GOOD, LESSER, BAD])
    text = render([LESSER, BAD], Style(True))
    assert "\x1b[31m✗\x1b[0m user namespaces  unshare: Operation not permitted\n" in text
    assert "\x1b[1mmend:\x1b[0m sudo sysctl -w x=1\n" in text
    assert text.endswith("\x1b[31mBuilds can't work here:\x1b[0m user namespaces.\n")


def test_the_command(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setattr(probe, "probe", lambda root: [GOOD, BAD])
    assert cli.main(["doctor"]) == 1
    assert capsys.readouterr().out.startswith("✓ kernel")
    assert cli.main(["doctor", "--format", "json"]) == 1
    assert json.loads(capsys.readouterr().out)[1]["mend"] == "sudo sysctl -w x=1"
    monkeypatch.setattr(probe, "probe", lambda root: [GOOD, LESSER])
    assert cli.main(["doctor"]) == 0
    capsys.readouterr()
