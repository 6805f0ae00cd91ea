from __future__ import annotations

import pytest

from buildkit_py.cli import sizes
from buildkit_py.cli.template import render
from buildkit_py.errors import UsageError

DOCUMENT = {
    "Id": "sha256:ab",
    "Size": 12,
    "Config": {
        "Env": ["A=1", "B=2"],
        "Labels": {"b.c": "x", "a": "y"},
        "Tty": False,
        "User": "",
        "Cmd": None,
        "Volumes": None,
        "Healthcheck": None,
    },
    "State": {"Status": "running", "Running": True, "ExitCode": 3},
    "Mounts": [
        {"Type": "volume", "Name": "data", "Destination": "/data", "RW": True},
        {"Type": "bind", "Destination": "/src", "RW": False},
    ],
    "Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}], "53/udp": None},
    "Label": lambda key: {"a": "y"}.get(key, ""),
}


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("plain", "plain"),
        ("{{.Id}}", "sha256:ab"),
        ("{{.ID}}", "sha256:ab"),
        ("{{ .Id }}\\t{{.Size}}", "sha256:ab\t12"),
        ("{{json .Config.Env}}", '["A=1","B=2"]'),
        ("{{json .Config.Labels}}", '{"b.c":"x","a":"y"}'),
        ("{{.Config.Env}}", "[A=1 B=2]"),
        ("{{.Config.Labels}}", "map[a:y b.c:x]"),
        ("{{.Config.Tty}}", "false"),
        ("{{.Config.Cmd}}", "[]"),
        ("{{.Config.Volumes}}", "map[]"),
        ("{{.Config.Healthcheck}}", "<nil>"),
        ("{{.Config.Labels.none}}", "<no value>"),
        ("{{.State}}", "{running true 3}"),
        ("{{.State.Health}}", "<nil>"),
        ("{{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}}", "none"),
        ("{{if .State.Running}}up{{else}}down{{end}}", "up"),
        ("{{if not .State.Running}}down{{else if eq .Size 12}}dozen{{else}}x{{end}}", "dozen"),
        ('{{if and .State.Running (eq .State.Status "running")}}yes{{end}}', "yes"),
        ('{{or .Config.User "nobody"}}', "nobody"),
        ('{{ne .State.ExitCode 0}} {{gt .Size 3}} {{le 3 2}} {{lt "a" "b"}}', "true true false true"),
        ("{{range .Mounts}}{{.Type}}:{{.Destination}}{{println}}{{end}}", "volume:/data\nbind:/src\n"),
        ("{{range $i, $e := .Config.Env}}{{if $i}},{{end}}{{$e}}{{end}}", "A=1,B=2"),
        ("{{range $k, $v := .Config.Labels}}{{$k}}={{$v}};{{end}}", "a=y;b.c=x;"),
        ("{{range .Config.Cmd}}x{{else}}nothing{{end}}", "nothing"),
        ("{{range .Config.Env}}{{.}}{{break}}{{end}}", "A=1"),
        ('{{range .Config.Env}}{{if eq . "A=1"}}{{continue}}{{end}}{{.}}{{end}}', "B=2"),
        ('{{(index (index .Ports "80/tcp") 0).HostPort}}', "8080"),
        ("{{range $p, $b := .Ports}}{{if $b}}{{$p}} {{(index $b 0).HostPort}}{{end}}{{end}}", "80/tcp 8080"),
        ("{{.Ports}}", "map[53/udp:<nil> 80/tcp:[{0.0.0.0 8080}]]"),
        ("{{with .State}}{{.Status}} {{$.Size}}{{end}}", "running 12"),
        ("{{$x := .Id}}{{range .Mounts}}{{$x = .Destination}}{{end}}{{$x}}", "/src"),
        ("{{.Id | upper | len}}", "9"),
        ('{{.Size | printf "%05d|%-4s|%v|%q" 7 "ab" true}}', '00007|ab  |true|"12"'),
        ('{{printf "%s" .Size}} {{printf "%d" .Id}}', "12 %!d(string=sha256:ab)"),
        ("{{slice .Id 0 6}} {{slice .Config.Env 1}}", "sha256 [B=2]"),
        ('{{split .Id ":"}} {{title "one two"}} {{truncate .Id 3}}', "[sha256 ab] One Two sha"),
        ('{{pad "x" 1 2}}| {{html "<"}} {{print 1 2 "a" "b"}}', " x  | &lt; 1 2ab"),
        ('{{.Label "a"}}{{.Label "none"}}', "y"),
        ("a {{- .Size -}}  b {{/* nothing */}}c", "a12b c"),
        ('{{"a \\"quote\\"" }}{{`raw }}`}}', 'a "quote"raw }}'),
        ("{{true}} {{-3}} {{1.5}}", "true -3 1.5"),
        ('{{index .Ports "none"}} {{json .State}}', '<nil> {"Status":"running","Running":true,"ExitCode":3}'),
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
        ("{{}}", "a value is missing"),
        ("{{if .Id}}", "'{{end}}' is missing"),
        ("{{range .Mounts}}{{else}}{{else}}{{end}}", "after an else"),
        ("{{end}}", "'{{end}}' ends nothing"),
        ("{{if}}{{end}}", "a value is missing"),
        ("{{break}}", "is in no range"),
        ("{{range .Id}}x{{end}}", "is no list and no map"),
        ('{{template "x"}}', "'template' is not understood"),
        ("{{$y}}", "no variable '$y'"),
        ("{{(len .Id}}", "a parenthesis is not closed"),
        ("{{.State.Health.Status}}", "no field 'Status'"),
        ('{{index (index .Ports "53/udp") 0}}', "wrong arguments"),
        ("{{eq .Id 1}}", "wrong arguments"),
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


def test_a_field_of_another_case_is_not_taken_for_one_that_may_be_missing() -> None:
    assert render("{{.Name}}", {"Id": "x"}) == ""
    with pytest.raises(UsageError):
        render("{{.Name}}", {"name": "x"})


def test_sizes_and_ages() -> None:
    assert [sizes.size(n) for n in (0, 999, 1000, 4_428_000, 123_456_789, 999_999, 5_000_000_000_000)] == [
        "0B", "999B", "1kB", "4.43MB", "123MB", "1MB", "5TB",
    ]  # fmt: skip
    ages = {
        0.5: "Less than a second", 1: "1 second", 59: "59 seconds", 60: "About a minute", 150: "2 minutes",
        3600: "About an hour", 7200: "2 hours", 86400: "24 hours", 86400 * 13: "13 days",
        86400 * 20: "2 weeks", 86400 * 70: "2 months", 86400 * 800: "2 years",
    }  # fmt: skip
    for seconds, text in ages.items():
        assert sizes.age(1000.0, 1000.0 + seconds) == f"{text} ago"
    assert sizes.timestamp(0) == "1970-01-01T00:00:00Z"
    assert sizes.short("sha256:" + "ab" * 32) == "abababababab"
    assert sizes.short("sha256:ab", True) == "sha256:ab"
