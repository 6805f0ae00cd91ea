from __future__ import annotations

import pytest

from buildkit_py.cli import sizes
from buildkit_py.cli.template import render
from buildkit_py.errors import UsageError

DOCUMENT = {
    "Id": "sha256:ab",
    "Size": 12,
    "Config": {"Env": ["A=1", "B=2"], "Labels": {"b.c": "x", "a": "y"}, "Tty": False, "User": None},
}


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("plain", "plain"),
        ("{{.Id}}", "sha256:ab"),
        ("{{ .Id }}\\t{{.Size}}", "sha256:ab\t12"),
        ("{{json .Config.Env}}", '["A=1","B=2"]'),
        ("{{json .Config.Labels}}", '{"b.c":"x","a":"y"}'),
        ("{{.Config.Env}}", "[A=1 B=2]"),
        ("{{.Config.Labels}}", "map[a:y b.c:x]"),
        ("{{.Config.Tty}}", "false"),
        ("{{.Config.User}}", "<no value>"),
        ('{{index .Config.Labels "b.c"}}', "x"),
        ('{{index .Config.Labels "none"}}', ""),
        ("{{index .Config.Env 1}}", "B=2"),
        ("{{len .Config.Env}}", "2"),
        ("{{upper .Id}}", "SHA256:AB"),
        ("{{lower .Id}}", "sha256:ab"),
        ('{{join .Config.Env " "}}', "A=1 B=2"),
        ('{{"text"}}', "text"),
        ("{{- .Size -}}", "12"),
    ],
)
def test_render(template: str, expected: str) -> None:
    assert render(template, DOCUMENT) == expected


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{.Id", "not closed"),
        ("{{}}", "empty"),
        ("{{range .Config.Env}}x{{end}}", "'{{range .Config.Env}}' is not understood"),
        ("{{if .Id}}", "'{{if .Id}}' is not understood"),
        ("{{.Nothing}}", "no field 'Nothing'"),
        ("{{.Id.Deeper}}", "no field 'Deeper'"),
        ("{{json Id}}", "'Id' is not understood"),
        ("{{json .Id .Size}}", "wrong arguments"),
        ("{{index .Config.Env 7}}", "wrong arguments"),
        ("{{len .Size}}", "wrong arguments"),
        ('{{index .Config "x}}', "a quote is not closed"),
        ("{{.Id .Size}}", "is not understood"),
    ],
)
def test_refused_by_name(template: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        render(template, DOCUMENT)
    assert message in caught.value.message


def test_sizes_and_ages() -> None:
    assert [sizes.size(n) for n in (0, 999, 1000, 4_428_000, 123_456_789, 999_999, 5_000_000_000_000)] == [
        "0B", "999B", "1kB", "4.43MB", "123MB", "1MB", "5TB",
    ]  # fmt: skip
    ages = {
        0.5: "less than a second", 1: "1 second", 59: "59 seconds", 60: "about a minute", 150: "2 minutes",
        3600: "about an hour", 7200: "2 hours", 86400: "1 day", 86400 * 13: "13 days", 86400 * 20: "2 weeks",
        86400 * 70: "2 months", 86400 * 800: "2 years",
    }  # fmt: skip
    for seconds, text in ages.items():
        assert sizes.age(1000.0, 1000.0 + seconds) == f"{text} ago"
    assert sizes.timestamp(0) == "1970-01-01T00:00:00Z"
    assert sizes.short("sha256:" + "ab" * 32) == "abababababab"
    assert sizes.short("sha256:ab", True) == "sha256:ab"
