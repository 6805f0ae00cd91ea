"""The first semantic error of a file, and its stages."""

from __future__ import annotations

import pytest

from buildkit_py.frontends.dockerfile import mountfacts
from buildkit_py.frontends.dockerfile.facts import INSTRUCTIONS
from buildkit_py.frontends.dockerfile.parser import check, parse, stages
from buildkit_py.frontends.dockerfile.semantics import check_instructions

GOOD = [
    "RUN",
    "RUN a",
    "RUN []",
    "RUN --network=none a",
    "RUN --network=host a",
    "RUN --security=insecure a",
    "RUN --device=vendor.com/x=y --device=z,required a",
    "RUN --mount=target=/x a",
    "RUN --mount=type=bind,source=.,target=/x,ro a",
    "RUN --mount=type=bind,src=.,dst=/x,rw=true a",
    "RUN --mount=type=bind,from=x,destination=/x,readonly=false a",
    "RUN --mount=type=cache,target=/x,id=y,sharing=locked,mode=0755,uid=1,gid=2 a",
    "RUN --mount=type=cache,target=$X,id=$Y,sharing=$Z,mode=$M,uid=$U a",
    "RUN --mount=type=tmpfs,target=/x,size=1g a",
    "RUN --mount=type=secret,id=x,required,env=Y a",
    "RUN --mount=type=secret,id=x,required=true,mode=0400,uid=0,gid=0,target=/y a",
    "RUN --mount=type=ssh,id=default,required=0 a",
    "RUN --mount=type=$T,size=1,required a",
    "RUN --mount=TYPE=Cache,TARGET=/x a",
    "RUN --mount=type=cache,target=/a --mount=type=cache,target=/b a",
    "RUN '--mount=type=bind,\"target=/a,b\"' a",
    "CMD",
    "CMD []",
    "CMD a",
    "ENTRYPOINT",
    "ENTRYPOINT []",
    "ENTRYPOINT a",
    "ENV a=b",
    "ENV a b",
    "ENV a=b c=",
    "LABEL a=b",
    "ARG a",
    "ARG a b=c",
    "ARG a=",
    "EXPOSE 80",
    "EXPOSE $x",
    "COPY a b",
    "COPY a b c/",
    'COPY ["a", "b"]',
    "COPY --from=x --chown=1:1 --chmod=755 --link --parents --exclude=a --exclude=b c d",
    "COPY --link=true --parents=false a b",
    "COPY --link=True a b",
    "COPY <<E /x\nE",
    "COPY a <<E /x\nE",
    "COPY a '<<E'",
    "ADD a b",
    "ADD --keep-git-dir --checksum=sha256:x --chown=1 --chmod=1 --link --unpack=false --exclude=x a b",
    "VOLUME a b",
    'VOLUME ["a"]',
    "WORKDIR a",
    "USER a",
    "STOPSIGNAL $x",
    "MAINTAINER a",
    'SHELL ["a"]',
    "HEALTHCHECK NONE",
    "HEALTHCHECK none",
    "HEALTHCHECK --interval=5s NONE",
    "HEALTHCHECK CMD a",
    "HEALTHCHECK cmd a",
    'HEALTHCHECK CMD ["a"]',
    "HEALTHCHECK --interval=1h2m3.5s --timeout=0 --start-period=0s --start-interval=1ms --retries=0 CMD a",
    "HEALTHCHECK --retries=2147483647 CMD a",
    "HEALTHCHECK --interval= --retries= CMD a",
    "ONBUILD RUN a",
    "ONBUILD COPY --from=x a b",
    "FROM b",
    "FROM --platform=$X b AS c",
    "FROM b as C.d-e_f0",
]

BAD = [
    ('RUN ["a", "b\\u0000"]', "RUN: no argument can hold a NUL byte", 13),
    ('COPY ["a\\u0000", "b"]', "COPY: no argument can hold a NUL byte", 9),
    ("FOO", "unknown instruction: FOO", 1),
    ("RUNN a", "unknown instruction: RUNN (did you mean RUN?)", 1),
    ("cpoy a b", "unknown instruction: cpoy (did you mean COPY?)", 1),
    ("{", "unknown instruction: {", 1),
    ("RUN --mont=x a", "unknown flag: --mont of RUN (did you mean mount?)", 5),
    ("RUN --network=foo a", "invalid network mode 'foo'", 5),
    ("RUN --network=hosts a", "invalid network mode 'hosts' (did you mean host?)", 5),
    ("RUN --network a", "missing a value on flag: --network", 5),
    ("RUN --network=none --network=host a", "duplicate flag specified: --network", 5),
    ("RUN --security=x a", "invalid security mode 'x'", 5),
    ("RUN --mount a", "missing a value on flag: --mount", 5),
    ("RUN --mount= a", "unexpected key '' in --mount", 5),
    ("RUN --mount=type=bnd,target=/x a", "unsupported mount type 'bnd' (did you mean bind?)", 5),
    ("RUN --mount=type=bind,targt=/x a", "unexpected key 'targt' in --mount (did you mean target?)", 5),
    ("RUN --mount=type=bind,target a", "invalid field 'target' of --mount: it needs a value, target=…", 5),
    ("RUN --mount=type=bind,ro=maybe a", "invalid value for readonly of --mount", 5),
    ("RUN --mount=type=bind,required a", "--mount=type=bind takes no required", 5),
    ("RUN --mount=type=bind,size=1 a", "--mount=type=bind takes no size", 5),
    ("RUN --mount=type=bind,uid=1 a", "--mount=type=bind takes no uid", 5),
    ("RUN --mount=type=tmpfs,sharing=shared a", "--mount=type=tmpfs takes no sharing", 5),
    (
        "RUN --mount=type=cache,sharing=lock a",
        "unsupported sharing 'lock' of --mount (did you mean locked?)",
        5,
    ),
    ("RUN --mount=type=cache,uid=root a", "invalid value for uid of --mount: 'root' is no number", 5),
    ("RUN --mount=type=cache,mode=rwx a", "invalid value for mode of --mount: 'rwx' is no octal number", 5),
    ("RUN --mount=type=cache,mode=9 a", "invalid value for mode of --mount: '9' is no octal number", 5),
    ("RUN --mount=from=$x,target=/a a", "variables are not expanded here", 5),
    ("CMD --x a", "unknown flag: --x (CMD takes no flags)", 5),
    ("ENV --x a=b", "unknown flag: --x (ENV takes no flags)", 5),
    ("ENV", "ENV requires at least one argument", 1),
    ("ENV =b", "ENV names can not be blank", 1),
    ("ENV a=b =c", "ENV names can not be blank", 1),
    ("LABEL", "LABEL requires at least one argument", 1),
    ("LABEL =", "LABEL names can not be blank", 1),
    ("ARG", "ARG requires at least one argument", 1),
    ("ARG =a", "ARG names can not be blank", 5),
    ("EXPOSE", "EXPOSE requires at least one argument", 1),
    ("COPY", "COPY requires at least two arguments", 1),
    (
        "COPY a",
        "COPY requires at least two arguments, but only one was provided. Destination could not be",
        1,
    ),
    ('COPY ["a"]', "COPY requires at least two arguments", 1),
    ("COPY --link=x a b", "expecting a boolean value for flag --link, not 'x'", 6),
    ("COPY --link= a b", "expecting a boolean value for flag --link, not ''", 6),
    ("COPY --link --link a b", "duplicate flag specified: --link", 6),
    ("COPY --from a b", "missing a value on flag: --from", 6),
    ("COPY --form=a a b", "unknown flag: --form of COPY (did you mean from?)", 6),
    ("COPY --From=a a b", "unknown flag: --From of COPY (did you mean from?)", 6),
    ("COPY --checksum=a a b", "unknown flag: --checksum of COPY", 6),
    ("COPY a <<E\nE", "COPY cannot accept a heredoc as a destination", 8),
    ("ADD", "ADD requires at least two arguments", 1),
    ("ADD a", "ADD requires at least two arguments", 1),
    ("ADD --from=x a b", "unknown flag: --from of ADD", 5),
    ("ADD --parents a b", "unknown flag: --parents of ADD", 5),
    ("VOLUME", "VOLUME requires at least one argument", 1),
    ("VOLUME []", "VOLUME requires at least one argument", 1),
    ('VOLUME ["a", " "]', "VOLUME specified can not be an empty string", 1),
    ("WORKDIR", "WORKDIR requires exactly one argument", 1),
    ("USER", "USER requires exactly one argument", 1),
    ("STOPSIGNAL", "STOPSIGNAL requires exactly one argument", 1),
    ("MAINTAINER", "MAINTAINER requires exactly one argument", 1),
    ("SHELL", "SHELL requires at least one argument", 1),
    ("SHELL []", "SHELL requires at least one argument", 1),
    ("SHELL a", "SHELL requires the arguments to be in JSON form", 1),
    ("HEALTHCHECK", "HEALTHCHECK requires at least one argument", 1),
    ("HEALTHCHECK NONE a", "HEALTHCHECK NONE takes no arguments", 13),
    ("HEALTHCHECK CMD", "missing command after HEALTHCHECK CMD", 13),
    ("HEALTHCHECK CMD []", "missing command after HEALTHCHECK CMD", 13),
    ("HEALTHCHECK foo a", "unknown type 'foo' in HEALTHCHECK", 13),
    ("HEALTHCHECK --interval=5 CMD a", "--interval: '5' is not a duration", 13),
    ("HEALTHCHECK --interval=1us CMD a", "--interval=1us: the interval cannot be less than 1ms", 13),
    ("HEALTHCHECK --timeout=-1s CMD a", "cannot be less than 1ms", 13),
    ("HEALTHCHECK --retries=x CMD a", "--retries must be a number, not 'x'", 13),
    ("HEALTHCHECK --retries=-1 CMD a", "--retries must be at least 0", 13),
    ("HEALTHCHECK --retries=99999999999999999999 CMD a", "--retries must be a number", 13),
    (
        "HEALTHCHECK --intervall=1s CMD a",
        "unknown flag: --intervall of HEALTHCHECK (did you mean interval?)",
        13,
    ),
    ("ONBUILD", "ONBUILD requires an instruction", 1),
    ("ONBUILD ONBUILD RUN a", "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed", 9),
    ("ONBUILD FROM a", "FROM isn't allowed as an ONBUILD trigger", 9),
    ("ONBUILD MAINTAINER a", "MAINTAINER isn't allowed as an ONBUILD trigger", 9),
    ("ONBUILD --x RUN a", "unknown flag: --x (ONBUILD takes no flags)", 9),
    ("FROM", "FROM requires either one or three arguments", 1),
    ("FROM a b", "FROM requires either one or three arguments", 8),
    ("FROM a as", "FROM requires either one or three arguments", 8),
    ("FROM a on b", "FROM requires either one or three arguments", 8),
    ("FROM a as b c", "FROM requires either one or three arguments", 1),
    ("FROM --platfrom=x a", "unknown flag: --platfrom of FROM (did you mean platform?)", 6),
    ("FROM a AS 1", "invalid name for build stage: '1'", 11),
    ("FROM a AS b/c", "invalid name for build stage: 'b/c'", 11),
    ("FROM a AS $x", "invalid name for build stage: '$x'", 11),
    ("FROM a AS é", "invalid name for build stage: 'é'", 11),
    ("FROM a AS -b", "invalid name for build stage: '-b'", 11),
]


@pytest.mark.parametrize("line", GOOD)
def test_acceptable(line: str) -> None:
    assert check(parse(f"FROM a\n{line}\n".encode())) is None


@pytest.mark.parametrize(("line", "message", "column"), BAD)
def test_not_acceptable(line: str, message: str, column: int) -> None:
    error = check(parse(f"FROM a\nRUN ok\n{line}\n".encode(), "x/Dockerfile"))
    assert error is not None
    assert error.message.startswith(message) or message in error.message
    assert (error.path, error.start, error.column) == ("x/Dockerfile", 3, column)
    assert error.lines[2] == line.partition("\n")[0]


@pytest.mark.parametrize("name", sorted(set(INSTRUCTIONS) - {"from", "arg"}))
def test_only_arg_may_stand_before_from(name: str) -> None:
    lines = {
        "env": "ENV a=b",
        "label": "LABEL a=b",
        "shell": 'SHELL ["a"]',
        "healthcheck": "HEALTHCHECK NONE",
    }
    lines |= {"copy": "COPY a b", "add": "ADD a b", "onbuild": "ONBUILD RUN a"}
    error = check(parse(f"ARG a\n{lines.get(name, name.upper() + ' a')}\nFROM b\n".encode()))
    assert error is not None
    assert (error.start, error.column) == (2, 1)
    assert error.message == f"no build stage yet: {name.upper()} must come after FROM"


def test_the_first_error_counts() -> None:
    error = check(parse(b"FROM a\nRUN a\nCOPY a\nFOO\nFROM a b\n"))
    assert error is not None and error.start == 3


def test_a_file_without_from_has_no_faulty_instruction_but_no_stage_either() -> None:
    dockerfile = parse(b"ARG a\nARG b\n")
    assert check_instructions(dockerfile) is None
    error = check(dockerfile)
    assert error is not None and "no build stage" in error.message and error.start == 2


def test_a_trigger_is_not_judged_where_it_is_written() -> None:
    assert check(parse(b"FROM a\nONBUILD FOO --x\nONBUILD COPY a\n")) is None


def test_the_range_of_an_error() -> None:
    error = check(parse(b"FROM a\nCOPY \\\n --from=b \\\n --form=c \\\n a b\n"))
    assert error is not None
    assert (error.start, error.end) == (2, 5)


def test_stages() -> None:
    text = b"ARG V\nFROM a:$V AS One\nRUN b\nFROM --platform=$P one\nFROM x as 1y\nFROM\nCMD c\n"
    found = stages(parse(text))
    assert [(s.index, s.name, s.base, s.platform) for s in found] == [
        (0, "one", "a:$V", ""),
        (1, "", "one", "$P"),
        (2, "1y", "x", ""),
        (3, "", "", ""),
    ]
    assert [[i.name for i in s.instructions] for s in found] == [
        ["from", "run"],
        ["from"],
        ["from"],
        ["from", "cmd"],
    ]
    assert stages(parse(b"ARG a\n")) == ()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("type=bind", [("type", "bind")]),
        ("src=a,dst=b,ro", [("source", "a"), ("target", "b"), ("readonly", None)]),
        ("SOURCE=a", [("source", "a")]),
        ('"target=/a,b",rw', [("target", "/a,b"), ("readwrite", None)]),
        ("env=a=b", [("env", "a=b")]),
        ("", [("", None)]),
    ],
)
def test_mount_fields(value: str, expected: list[tuple[str, str | None]]) -> None:
    assert mountfacts.fields(value) == expected


def test_mount_fields_with_an_open_quote() -> None:
    with pytest.raises(ValueError, match="invalid --mount"):
        mountfacts.fields('"target=/a')


@pytest.mark.parametrize(("value", "expected"), [(None, True), ("1", True), ("True", True), ("f", False)])
def test_booleans(value: str | None, expected: bool) -> None:
    assert mountfacts.boolean(value) is expected
