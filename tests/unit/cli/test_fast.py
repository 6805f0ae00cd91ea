"""Two parsers, one meaning: whatever the fast one answers, click answers too."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buildkit_py.cli import app, fast, table
from buildkit_py.cli.command import Args, Argument, Command, Value, flag, option
from buildkit_py.errors import UsageError

SAMPLE = Command(
    "sample",
    "A command with every kind of parameter.",
    (
        option("-t", "--tag", name="tags", multiple=True),
        option("-f", "--file"),
        option("--when", choices=("missing", "always"), default="missing"),
        option("--kind", choices=("one", "two")),
        flag("-a", "--all"),
        flag("-q", "--quiet"),
        flag("--no-cache"),
        Argument("first"),
        Argument("rest", many=True, required=False),
    ),
    lambda args: 0,
)
STRICT = SAMPLE._replace(interspersed=False)


def by_click(command: Command, argv: list[str]) -> dict[str, Value]:
    subcommand = app._Subcommand(command.name, command)
    _, args = subcommand.main(list(argv), prog_name="sample", standalone_mode=False)
    assert isinstance(args, Args)
    return dict(args.values)


def words_for(command: Command) -> st.SearchStrategy[list[str]]:
    """Command lines that are mostly well-formed, and some that are not."""
    options = [o for o in command.options if not o.is_flag]
    flags = [o for o in command.options if o.is_flag]
    value = st.sampled_from(
        ["", "x", "a=b", "-", "--", "-x", "missing", "always", "one", "--all", "=", "ü", "a b"]
    )
    names = st.sampled_from([f for o in options for f in o.flags] or ["--no-such"])
    switches = st.sampled_from([f for o in flags for f in o.flags]) if flags else st.just("--no-such")
    shorts = [f[1] for o in flags for f in o.flags if len(f) == 2] or ["?"]
    bundle = st.lists(st.sampled_from(shorts), min_size=1, max_size=3).map(lambda c: "-" + "".join(c))
    piece = st.one_of(
        st.tuples(names, value).map(list),
        st.tuples(names, value).map(lambda p: [f"{p[0]}={p[1]}"]),
        st.tuples(names, value).map(lambda p: [p[0] + p[1]]),
        switches.map(lambda s: [s]),
        st.tuples(switches, st.sampled_from(["true", "false", "1", "no"])).map(lambda p: [f"{p[0]}={p[1]}"]),
        bundle.map(lambda b: [b]),
        st.tuples(bundle, st.sampled_from(["true", "false", "no"])).map(lambda p: [f"{p[0]}={p[1]}"]),
        st.tuples(bundle, names, value).map(lambda p: [p[0] + p[1].lstrip("-")[:1] + p[2]]),
        value.map(lambda v: [v]),
        st.sampled_from([["--help"], ["--no-such"], ["-"], ["--"], ["-Z"]]),
    )
    return st.lists(piece, max_size=6).map(lambda pieces: [word for piece in pieces for word in piece])


COMMANDS = [SAMPLE, STRICT, *(table.load(name) for name in ("build", "run", "images", "prune"))]


@pytest.mark.parametrize("command", COMMANDS, ids=["sample", "strict", "build", "run", "images", "prune"])
def test_what_fast_answers_click_answers_too(command: Command) -> None:
    answered = 0

    @settings(max_examples=300, deadline=None)
    @given(words_for(command))
    def check(argv: list[str]) -> None:
        nonlocal answered
        args = fast.parse(command, argv)
        if args is not None:
            answered += 1
            assert dict(args.values) == by_click(command, argv)

    check()
    assert answered > 5


def parsed(argv: str, command: Command = SAMPLE) -> dict[str, Value] | None:
    args = fast.parse(command, argv.split())
    return None if args is None else dict(args.values)


def test_forms() -> None:
    expected = {
        "tags": ("a", "b", "c", "d"),
        "file": "F",
        "when": "always",
        "kind": "",
        "all": True,
        "quiet": True,
        "no_cache": True,
        "first": "ctx",
        "rest": (),
    }
    line = "-t a --tag b -tc --tag=d -f=F --when=always -aq ctx --no-cache"
    assert parsed(line) == expected == by_click(SAMPLE, line.split())


@pytest.mark.parametrize(
    "line", ["", "--no-such x", "-Z x", "x --tag", "x -t", "--when never x", "--help", "-aZ x", "--all=no x"]
)
def test_left_to_click(line: str) -> None:
    assert parsed(line) is None


def test_flags_can_be_turned_off_again() -> None:
    for line in ("--all --all=false x", "-a --all=0 x"):
        got = parsed(line)
        assert got is not None and got["all"] is False
        assert by_click(SAMPLE, line.split())["all"] is False
    assert parsed("--all=false -a x") == by_click(SAMPLE, ["--all=false", "-a", "x"])


def test_everything_after_the_image_belongs_to_its_command() -> None:
    run = table.load("run")
    for line in ("--rm image ls --rm -la -- -x", "--rm -- image ls --rm -la -- -x"):
        for values in (fast.parse(run, line.split()), Args(by_click(run, line.split()))):
            assert values is not None
            assert values.flag("remove") and values.text("image") == "image"
            assert values.texts("command") == ("ls", "--rm", "-la", "--", "-x")


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("bulid .", "there is no command 'bulid'", "did you mean 'build'?"),
        ("cache lss", "there is no command 'cache lss'", "did you mean 'cache ls'?"),
        ("xyzzy", "there is no command 'xyzzy'", "see 'pybuild --help'"),
        ("build", "missing argument 'PATH'", "see 'pybuild build --help'"),
        ("build --progress fancy .", "invalid value for '--progress'", "see 'pybuild build --help'"),
        ("build . -t", "option '-t' requires an argument", "see 'pybuild build --help'"),
        ("build --tga x .", "no such option '--tga'", "see 'pybuild build --help'"),
        ("build . .", "got unexpected extra argument", "see 'pybuild build --help'"),
        ("--colour build .", "no such option '--colour'", "see 'pybuild --help'"),
    ],
)
def test_mistakes_are_explained(line: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        app.parse(line.split())
    assert caught.value.message.startswith(message)
    assert caught.value.hint == hint


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.parse([]) is None
    root = capsys.readouterr().out
    assert "build       Build an image from a Dockerfile" in root
    assert "  container  " not in root
    assert app.parse(["cache", "--help"]) is None
    assert "Remove things from the build cache" in capsys.readouterr().out
    assert app.parse(["image"]) is None
    assert "ls       List images" in capsys.readouterr().out
    assert app.parse(["build", "-h"]) is None
    text = capsys.readouterr().out
    assert "-t, --tag NAME[:TAG]" in text and "Examples:" in text and fast.OFF not in text
    assert app.parse(["run", "--help"]) is None
    assert "-h, --hostname NAME" in capsys.readouterr().out


@pytest.mark.parametrize("name", table.COMMANDS)
def test_every_command_loads_under_its_name(name: str) -> None:
    command = table.load(name)
    assert command.name == name
    names = [p.name for p in command.params]
    assert len(set(names)) == len(names)
    flags = [f for o in command.options for f in o.flags]
    assert len(set(flags)) == len(flags)
    assert all(o.flags[-1].startswith("--") and o.help for o in command.options)
    assert all(not a.many for a in command.arguments[:-1])


@pytest.mark.parametrize(
    ("word", "values"),
    [
        ("-a=false", (False, False)),
        ("-a=true", (True, False)),
        ("-qa=false", (False, True)),
        ("-aq=1", (True, True)),
    ],
)
def test_a_short_switch_takes_a_value(word: str, values: tuple[bool, bool]) -> None:
    args = fast.parse(SAMPLE, ["-a", word, "x"] if word == "-a=false" else [word, "x"])
    assert args is not None
    assert (args.flag("all"), args.flag("quiet")) == values
    assert by_click(SAMPLE, [word, "x"])["all"] == values[0]


def test_history_is_an_images_where_no_subcommand_is_meant() -> None:
    assert table.find(["history", "app:1"]) == ("image history", ["app:1"])
    assert table.find(["history", "-q", "app:1"]) == ("image history", ["-q", "app:1"])
    assert table.find(["history", "ls"]) == ("history ls", [])
    assert table.find(["history"]) is None
    assert table.lengthened(["history", "--help"]) == ["history", "--help"]
    with pytest.raises(UsageError, match="no such option '--nothing'"):
        app.parse(["history", "app:1", "--nothing"])


def test_aliases_lead_somewhere() -> None:
    assert set(table.ALIASES.values()) <= set(table.COMMANDS)
    assert {name.split()[0] for name in (*table.ALIASES, *table.COMMANDS) if " " in name} == set(table.GROUPS)
    assert table.find(["image", "ls", "-q"]) == ("images", ["-q"])
    assert table.find(["cache", "prune"]) == ("cache prune", [])
    assert table.find(["cache"]) is None and table.find([]) is None and table.find(["--help"]) is None


def test_completion_scripts() -> None:
    assert "_PYBUILD_COMPLETE=bash_complete" in app.completion_script(
        "bash"
    ) or "pybuild" in app.completion_script("bash")
    with pytest.raises(UsageError, match="no completion"):
        app.completion_script("tcsh")
