"""Every rule has a page, and the page's examples show what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from buildkit_py.digest import of_bytes
from buildkit_py.frontends.dockerfile.checks import EXPERIMENTAL, RULES, page
from buildkit_py.frontends.dockerfile.checks.descriptions import DESCRIPTIONS
from buildkit_py.frontends.dockerfile.convert import ConvertOptions, lint
from buildkit_py.frontends.dockerfile.parser import parse
from buildkit_py.llb.result import ResolvedImage

PAGES = Path(__file__).parents[4] / "docs" / "checks"


class AnyImage:
    """Every image exists; ``only-for-amd64`` for nothing else."""

    def resolve(self, ref: str, platform: str) -> ResolvedImage:
        arch = "amd64" if ref == "only-for-amd64" else platform.split("/")[1]
        config = {"architecture": arch, "os": "linux", "config": {}}
        return ResolvedImage(ref, of_bytes(ref.encode()), config)


def example(rule: str, which: str) -> str:
    name = page(rule).rstrip("/").rpartition("/")[2]
    text = (PAGES / f"{name}.md").read_text()
    assert text.startswith(f"# {rule}\n")
    found = re.search(rf"## {which}\n\n```dockerfile\n(.*?)```", text, re.DOTALL)
    assert found, f"{name}.md has no example under {which}"
    return found[1]


def found(rule: str, text: str) -> set[str]:
    ignore = tuple(re.findall(r"[!*]?[\w.*]*\.env\b", text.partition("\n")[0])) if "ignore" in text else ()
    if not re.search(r"^FROM", text, re.MULTILINE | re.IGNORECASE):
        # An ARG may stand there as the description of a stage's argument.
        text = "FROM busybox\n" + text
    if rule in EXPERIMENTAL:
        text = "# check=experimental=all\n" + text
    options = ConvertOptions(platforms=("linux/amd64",), ignore=ignore)
    return {warning.rule for warning in lint(parse(text.encode(), "Dockerfile"), options, AnyImage())}


@pytest.mark.parametrize("rule", RULES)
def test_the_examples_of_a_page(rule: str) -> None:
    bad = example(rule, "Bad")
    if rule == "InvalidDefaultArgInFrom":
        # With the argument the file builds; without, it can't be converted at all.
        options = ConvertOptions(build_args={"TAG": "1"}, platforms=("linux/amd64",))
        assert rule in {w.rule for w in lint(parse(bad.encode(), "Dockerfile"), options, AnyImage())}
    else:
        assert rule in found(rule, bad)
    assert found(rule, example(rule, "Good")) == set()


def test_every_rule_is_described_and_listed() -> None:
    assert set(DESCRIPTIONS) == set(RULES)
    assert len(RULES) == 22
    listed = (PAGES / "README.md").read_text()
    for rule in RULES:
        name = page(rule).rstrip("/").rpartition("/")[2]
        assert f"[{rule}]({name}.md)" in listed
    assert len(list(PAGES.iterdir())) == len(RULES) + 1
