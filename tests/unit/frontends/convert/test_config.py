"""The image config: what each metadata instruction leaves in it, and in history."""

from __future__ import annotations

from typing import Any

import pytest

from buildkit_py.errors import UsageError
from buildkit_py.oci import defaults
from tests.unit.frontends.convert.building import Builder


def test_scratch(build: Builder) -> None:
    built = build('FROM scratch\nCMD ["/x"]\n')
    assert built.target.root is None
    assert built.nodes == []
    assert built.document == {
        "architecture": "amd64",
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": {"Env": [f"PATH={defaults.PATH}"], "WorkingDir": "/", "Cmd": ["/x"]},
        "history": [
            {
                "created": "1970-01-01T00:00:00Z",
                "created_by": 'CMD ["/x"]',
                "comment": "buildkit.dockerfile.v0",
                "empty_layer": True,
            }
        ],
    }


def test_base_is_kept(build: Builder) -> None:
    built = build("FROM base\n")
    assert built.document["author"] == "somebody"
    assert built.document["unknown"] == {"kept": True}
    assert built.config["Unknown"] == [1]
    assert "container_config" not in built.document
    assert "rootfs" not in built.document
    assert built.document["history"] == [{"created_by": "base"}]
    assert built.config["Env"] == ["PATH=/base/bin", "FROM_BASE=yes"]


def test_base_is_not_changed(build: Builder) -> None:
    base = {"architecture": "amd64", "os": "linux", "config": {"Labels": {"a": "1"}, "Env": ["A=1"]}}
    build("FROM image\nLABEL a=2\nENV A=2\nEXPOSE 1\nUSER x\n", {"image": base})
    assert base["config"] == {"Labels": {"a": "1"}, "Env": ["A=1"]}


@pytest.mark.parametrize("broken", [{}, {"config": None}, {"config": None, "history": None, "os": 3}])
def test_sparse_base(build: Builder, broken: dict[str, Any]) -> None:
    built = build("FROM image\nENV A=1\n", {"image": broken})
    assert built.config == {"Env": ["A=1"]}
    assert (built.document["os"], built.document["architecture"]) == ("linux", "amd64")


SHELL = ["/bin/sh", "-c"]


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("CMD a b", "Cmd", [*SHELL, "a b"]),
        ("CMD a $X 'b'", "Cmd", [*SHELL, "a $X 'b'"]),
        ('CMD ["a", "$X"]', "Cmd", ["a", "$X"]),
        ("CMD ['a']", "Cmd", [*SHELL, "['a']"]),
        ("CMD a\nCMD b", "Cmd", [*SHELL, "b"]),
        ("CMD []", "Cmd", None),
        ('SHELL ["/bin/bash", "-ec"]\nCMD a', "Cmd", ["/bin/bash", "-ec", "a"]),
        ('CMD a\nSHELL ["/bin/bash", "-ec"]', "Cmd", [*SHELL, "a"]),
        ('SHELL ["/bin/bash", "-ec"]', "Shell", ["/bin/bash", "-ec"]),
        ("ENTRYPOINT a b", "Entrypoint", [*SHELL, "a b"]),
        ('ENTRYPOINT ["a"]', "Entrypoint", ["a"]),
        ('ENTRYPOINT ["a"]\nENTRYPOINT []', "Entrypoint", None),
        ('ENTRYPOINT ["a"]', "Cmd", None),
        ('CMD ["c"]\nENTRYPOINT ["a"]', "Cmd", ["c"]),
        ('ENTRYPOINT ["a"]\nCMD ["c"]', "Cmd", ["c"]),
        ("LABEL a=b", "Labels", {"a": "b"}),
        ("LABEL a b c", "Labels", {"a": "b c"}),
        ('LABEL a="b c" "d e"=f g=\'$X\'', "Labels", {"a": "b c", "d e": "f", "g": "$X"}),
        ("ARG K=k\nLABEL $K=v", "Labels", {"k": "v"}),
        ("LABEL a=1\nLABEL b=2 a=3", "Labels", {"a": "3", "b": "2"}),
        ("USER app", "User", "app"),
        ("ENV U=x\nUSER $U:${G:-g}", "User", "x:g"),
        ("USER 1000:1000", "User", "1000:1000"),
        ("VOLUME /a /b", "Volumes", {"/a": {}, "/b": {}}),
        ('VOLUME ["/a b"]', "Volumes", {"/a b": {}}),
        ("VOLUME /a\nVOLUME /b", "Volumes", {"/a": {}, "/b": {}}),
        ("ENV D=/d\nVOLUME $D/x", "Volumes", {"/d/x": {}}),
        ("STOPSIGNAL SIGQUIT", "StopSignal", "SIGQUIT"),
        ("STOPSIGNAL quit", "StopSignal", "quit"),
        ("STOPSIGNAL 9", "StopSignal", "9"),
        ("STOPSIGNAL RTMIN+3", "StopSignal", "RTMIN+3"),
        ("ENV S=15\nSTOPSIGNAL $S", "StopSignal", "15"),
        ("EXPOSE 80", "ExposedPorts", {"80/tcp": {}}),
        ("EXPOSE 80/UDP 81/sctp", "ExposedPorts", {"80/udp": {}, "81/sctp": {}}),
        ("EXPOSE 80/", "ExposedPorts", {"80/tcp": {}}),
        ("EXPOSE 80-82", "ExposedPorts", {"80/tcp": {}, "81/tcp": {}, "82/tcp": {}}),
        ("EXPOSE 8080:80", "ExposedPorts", {"80/tcp": {}}),
        ("EXPOSE 127.0.0.1:8080:80/tcp", "ExposedPorts", {"80/tcp": {}}),
        ("ENV P='1 2'\nEXPOSE $P", "ExposedPorts", {"1/tcp": {}, "2/tcp": {}}),
        ("EXPOSE 1\nEXPOSE 2", "ExposedPorts", {"1/tcp": {}, "2/tcp": {}}),
        ("HEALTHCHECK NONE", "Healthcheck", {"Test": ["NONE"]}),
        ("HEALTHCHECK CMD curl -f x", "Healthcheck", {"Test": ["CMD-SHELL", "curl -f x"]}),
        ('HEALTHCHECK CMD ["curl", "x"]', "Healthcheck", {"Test": ["CMD", "curl", "x"]}),
        (
            "HEALTHCHECK --interval=1m30s --timeout=300ms --start-period=1.5s --start-interval=2s "
            "--retries=4 CMD x",
            "Healthcheck",
            {
                "Test": ["CMD-SHELL", "x"],
                "Interval": 90_000_000_000,
                "Timeout": 300_000_000,
                "StartPeriod": 1_500_000_000,
                "StartInterval": 2_000_000_000,
                "Retries": 4,
            },
        ),
        ("HEALTHCHECK --interval=0 --retries=0 CMD x", "Healthcheck", {"Test": ["CMD-SHELL", "x"]}),
        ("ONBUILD RUN make", "OnBuild", ["RUN make"]),
        ("ONBUILD RUN a\nONBUILD COPY b $C", "OnBuild", ["RUN a", "COPY b $C"]),
        ("ONBUILD RUN <<E\nx\nE", "OnBuild", ["RUN <<E\nx\nE"]),
        ("ONBUILD COPY <<-E <<F /\n\tx\nE\ny\nF", "OnBuild", ["COPY <<-E <<F /\nx\nE\ny\nF"]),
        ("WORKDIR /a\nWORKDIR b\nWORKDIR ../c/./d/", "WorkingDir", "/a/c/d"),
        ("WORKDIR a", "WorkingDir", "/base/a"),
        ("ENV D=/d\nWORKDIR $D", "WorkingDir", "/d"),
        ("WORKDIR ../../..", "WorkingDir", "/"),
        ("WORKDIR //x", "WorkingDir", "/x"),
        ("ENV A=1 B=2", "Env", ["PATH=/base/bin", "FROM_BASE=yes", "A=1", "B=2"]),
        ("ENV A 1  2", "Env", ["PATH=/base/bin", "FROM_BASE=yes", "A=1  2"]),
        ("ENV PATH=/x:$PATH", "Env", ["PATH=/x:/base/bin", "FROM_BASE=yes"]),
        ("ENV A=1\nENV A=2 B=$A", "Env", ["PATH=/base/bin", "FROM_BASE=yes", "A=2", "B=1"]),
        (
            "ENV A='1 $B' B=\"x y\" C=a\\ b",
            "Env",
            ["PATH=/base/bin", "FROM_BASE=yes", "A=1 $B", "B=x y", "C=a b"],
        ),
        ("ENV A=", "Env", ["PATH=/base/bin", "FROM_BASE=yes", "A="]),
        ("ENV K=n\nENV $K=1", "Env", ["PATH=/base/bin", "FROM_BASE=yes", "K=n", "n=1"]),
    ],
)
def test_field(build: Builder, text: str, field: str, value: Any) -> None:
    assert build(f"FROM base\n{text}\n").config.get(field) == value


def test_old_value_within_one_instruction(build: Builder) -> None:
    env = build("FROM scratch\nENV abc=hello\nENV abc=bye def=$abc\nENV ghi=$abc\n").config["Env"]
    assert env[1:] == ["abc=bye", "def=hello", "ghi=bye"]


def test_maintainer(build: Builder) -> None:
    assert build("FROM base\nMAINTAINER A B <a@b>\n").document["author"] == "A B <a@b>"


def test_cmd_of_a_parent_stage_is_inherited(build: Builder) -> None:
    built = build('FROM base AS a\nCMD ["c"]\nFROM a\nENTRYPOINT ["e"]\n')
    assert "Cmd" not in built.config


def test_cmd_in_the_same_stage_before_onbuild(build: Builder) -> None:
    base = {"os": "linux", "architecture": "amd64", "config": {"Cmd": ["old"], "OnBuild": ['CMD ["new"]']}}
    built = build('FROM image\nENTRYPOINT ["e"]\n', {"image": base})
    assert built.config["Cmd"] == ["new"]


@pytest.mark.parametrize(
    ("text", "created_by"),
    [
        ("ENV a=b c='d e'", "ENV a=b c=d e"),
        ("ARG a", "ARG a"),
        ("ARG a=1 b", "ARG a=1 b"),
        ("LABEL a=b", "LABEL a=b"),
        ("WORKDIR /app", "WORKDIR /app"),
        ("USER me", "USER me"),
        ('CMD echo "hi"', 'CMD ["/bin/sh" "-c" "echo \\"hi\\""]'),
        ('CMD ["a", "b c"]', 'CMD ["a" "b c"]'),
        ("CMD []", "CMD []"),
        ('ENTRYPOINT ["e"]', 'ENTRYPOINT ["e"]'),
        ("EXPOSE 81 80", "EXPOSE map[80/tcp:{} 81/tcp:{}]"),
        ("VOLUME /a /b", "VOLUME [/a /b]"),
        ('SHELL ["/bin/bash", "-c"]', "SHELL [/bin/bash -c]"),
        ("STOPSIGNAL SIGINT", "STOPSIGNAL SIGINT"),
        (
            "HEALTHCHECK --interval=5m --retries=3 CMD x",
            'HEALTHCHECK &{["CMD-SHELL" "x"] "5m0s" "0s" "0s" "0s" \'\\x03\'}',
        ),
        ("HEALTHCHECK NONE", 'HEALTHCHECK &{["NONE"] "0s" "0s" "0s" "0s" \'\\x00\'}'),
        ("MAINTAINER me", "MAINTAINER me"),
        ("ONBUILD RUN x", "ONBUILD RUN x"),
        ("RUN a  b", "RUN /bin/sh -c a  b # buildkit"),
        ('RUN ["a", "b"]', "RUN a b # buildkit"),
        ("COPY a b", "COPY a b # buildkit"),
        ("copy --chown=1 --chmod=755 --link a b/", "COPY --chown=1 --chmod=755 --link a b/ # buildkit"),
        ("COPY --from=image /a b", "COPY /a b # buildkit"),
        ("ADD a.tar /", "ADD a.tar / # buildkit"),
    ],
)
def test_history(build: Builder, text: str, created_by: str) -> None:
    built = build(f"FROM base\n{text}\n")
    assert built.history == [created_by]
    layer = text.split()[0].upper() in ("RUN", "COPY", "ADD", "WORKDIR")
    assert built.document["history"][-1].get("empty_layer", False) is not layer


def test_history_of_args(build: Builder) -> None:
    built = build("FROM base\nARG A=1\nARG B\nARG C=x\nENV C=y\nRUN make\n", build_args={"B": "2"})
    assert built.history[-1] == "RUN |3 A=1 B=2 C=y /bin/sh -c make # buildkit"


def test_workdir_root_makes_no_layer(build: Builder) -> None:
    built = build("FROM base\nWORKDIR /\n")
    assert built.document["history"][-1]["empty_layer"] is True
    assert built.config["WorkingDir"] == "/"


def test_labels_of_the_command_line_come_last(build: Builder) -> None:
    built = build("FROM base\nLABEL a=1 b=2\n", labels={"a": "x"})
    assert built.config["Labels"] == {"a": "x", "b": "2"}


@pytest.mark.parametrize(
    ("options", "created"),
    [
        ({}, "1970-01-01T00:00:00Z"),
        ({"source_date_epoch": 1700000000}, "2023-11-14T22:13:20Z"),
        ({"build_args": {"SOURCE_DATE_EPOCH": "1"}}, "1970-01-01T00:00:01Z"),
        ({"build_args": {"SOURCE_DATE_EPOCH": ""}}, "1970-01-01T00:00:00Z"),
    ],
)
def test_created(build: Builder, options: dict[str, Any], created: str) -> None:
    built = build("FROM base\nENV a=b\n", **options)
    assert built.document["created"] == created
    assert built.document["history"][-1]["created"] == created


@pytest.mark.parametrize("epoch", ["x", "-1", "1.5", "9" * 30])
def test_bad_epoch(build: Builder, epoch: str) -> None:
    with pytest.raises(UsageError):
        build("FROM scratch\n", build_args={"SOURCE_DATE_EPOCH": epoch})


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("EXPOSE 70000", "70000"),
        ("EXPOSE x", "'x'"),
        ("EXPOSE 80/foo", "'foo'"),
        ("EXPOSE 82-80", "range"),
        ("EXPOSE 80/tcq", "tcp, udp, sctp"),
        ("STOPSIGNAL SIGNOPE", "SIGNOPE"),
        ("STOPSIGNAL 0", "'0'"),
        ("STOPSIGNAL 65", "'65'"),
        ("STOPSIGNAL $NOTHING", "''"),
        ("HEALTHCHECK --interval=10 CMD x", "duration"),
        ("HEALTHCHECK --interval=500us CMD x", "1ms"),
        ("HEALTHCHECK --retries=x CMD x", "retries"),
        ("VOLUME $NOTHING", "empty"),
        ("WORKDIR $NOTHING", "empty"),
        ("ENV $NOTHING=x", "empty"),
        ("LABEL $NOTHING=x", "empty"),
        ("ENV a='x'\"${b:?must be set}\"", "must be set"),
        ("ENV a=${b", "b"),
        ("SHELL /bin/sh", "JSON"),
        ("SHELL []", "SHELL"),
        ("RUN", "RUN"),
    ],
)
def test_error_with_place(build: Builder, text: str, word: str) -> None:
    error = build.error(f"FROM base\n\n{text}\n")
    assert (error.start, error.end) == (3, 3)
    assert error.lines[2] == text
    assert word in error.message
