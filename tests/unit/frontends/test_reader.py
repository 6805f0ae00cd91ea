"""The subclass of dockerfile-parse's parser: reading and editing, with heredocs, flags and operators."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from buildkit_py.errors import DockerfileError
from buildkit_py.frontends.dockerfile.reader import DockerfileReader

FILE = b"""\
# syntax=docker/dockerfile:1
ARG V=3
FROM --platform=linux/amd64 alpine:${V:-x} AS Base
ENV A=1 B="$A x" \\
  # inner
  C=${A:+yes}

RUN <<EOF
FROM nope
LABEL x=y
ENV A=2
# no comment
EOF
# about the last stage
FROM base
ARG D=d E
LABEL a=1 b="two words"
LABEL old form here
ENV Z=${A:-no} Y=${D%d}y
COPY <<-E <<F /x/
\tENV nope=1
\tE
CMD ["no"]
F
CMD ["sh", "-c", "true"]
"""


def reader(data: bytes = FILE, **options: Any) -> DockerfileReader:
    return DockerfileReader(fileobj=io.BytesIO(data), **options)


def test_images() -> None:
    assert reader().parent_images == ["alpine:3", "base"]
    assert reader().baseimage == "base"
    assert reader().is_multistage
    assert reader(build_args={"V": "edge"}).parent_images == ["alpine:edge", "base"]
    assert reader(b"FROM a\n").baseimage == "a"
    assert reader(b"# nothing\n").baseimage is None
    assert reader(b"").parent_images == []


def test_values() -> None:
    found = reader()
    assert found.labels == {"a": "1", "b": "two words", "old": "form here"}
    assert found.envs == {"Z": "1", "Y": "y"}
    assert found.args == {"D": "d", "E": ""}
    assert found.cmd == '["sh", "-c", "true"]'


def test_values_with_build_arguments_and_parent_environment() -> None:
    found = reader(b"FROM x\nARG D=d\nENV P=$Q$D\nLABEL $D=1\n", build_args={"D": "z"}, parent_env={"Q": "q"})
    assert found.args == {"D": "z"}
    assert found.envs == {"P": "qz"}
    assert found.labels == {"z": "1"}


def test_values_as_they_stand() -> None:
    found = reader(b"FROM x\nENV a=$b 'c'=\"$d e\"\nENV f g  $h\n", env_replace=False)
    assert found.envs == {"a": "$b", "c": "$d e", "f": "g  $h"}


def test_words_of_one_instruction_see_what_was_before_it() -> None:
    assert reader(b"FROM x\nENV a=hello\nENV a=bye b=$a\nENV c=$a\n").envs == {
        "a": "bye",
        "b": "hello",
        "c": "bye",
    }


def test_global_arguments() -> None:
    data = b"ARG A=1 B\nFROM x:$A\nARG A\nARG B=own\nLABEL a=$A b=$B\n"
    assert reader(data).labels == {"a": "1", "b": "own"}
    assert reader(data, build_args={"A": "2", "B": "3"}).labels == {"a": "2", "b": "3"}
    assert reader(b"ARG A=1\nFROM x\nLABEL a=$A\n").labels == {"a": ""}


def test_backtick() -> None:
    found = reader(b"# escape=`\nFROM x\nENV a=b`\n c=C:\\d` e\n")
    assert found.envs == {"a": "b", "c": "C:\\d e"}


def test_structure() -> None:
    found = [(s["instruction"], s["startline"], s["endline"]) for s in reader().structure]
    assert found == [
        ("COMMENT", 0, 0),
        ("ARG", 1, 1),
        ("FROM", 2, 2),
        ("COMMENT", 4, 4),
        ("ENV", 3, 5),
        ("RUN", 7, 12),
        ("COMMENT", 13, 13),
        ("FROM", 14, 14),
        ("ARG", 15, 15),
        ("LABEL", 16, 16),
        ("LABEL", 17, 17),
        ("ENV", 18, 18),
        ("COPY", 19, 23),
        ("CMD", 24, 24),
    ]
    run = reader().structure[5]
    assert run["content"] == "RUN <<EOF\nFROM nope\nLABEL x=y\nENV A=2\n# no comment\nEOF\n"
    assert run["value"] == "<<EOF\nFROM nope\nLABEL x=y\nENV A=2\n# no comment\nEOF"
    assert reader().structure[0]["value"] == "syntax=docker/dockerfile:1"


def test_structure_covers_the_file() -> None:
    found = [s for s in reader().structure if s["instruction"] != "COMMENT"]
    lines = reader().lines
    for entry in found:
        assert entry["content"] == "".join(lines[entry["startline"] : entry["endline"] + 1])


def test_json() -> None:
    found = json.loads(reader(b"FROM a\nCOPY <<E /x\n1\nE\nonbuild RUN <<E\n2\nE\n").json)
    assert found == [{"FROM": "a"}, {"COPY": "<<E /x\n1\nE"}, {"ONBUILD": "RUN <<E\n2\nE"}]


@pytest.mark.parametrize("cache_content", [False, True])
def test_editing(cache_content: bool) -> None:
    edited = reader(cache_content=cache_content)
    edited.labels["a"] = "it's $5"
    edited.labels["new"] = "x y"
    edited.labels["old"] = "newer"
    del edited.labels["b"]
    edited.envs["Z"] = "q"
    edited.envs["W"] = "$w"
    edited.parent_images = ["debian:12", "base"]
    edited.cmd = '["x"]'
    assert edited.labels == {"a": "it's $5", "new": "x y", "old": "newer"}
    assert edited.envs == {"Z": "q", "Y": "y", "W": "$w"}
    assert edited.parent_images == ["debian:12", "base"]
    assert edited.cmd == '["x"]'
    lines = edited.content.split("\n")
    assert lines[2] == "FROM --platform=linux/amd64 debian:12 AS Base"
    assert lines[3:13] == FILE.decode().split("\n")[3:13]
    assert "\tENV nope=1" in lines
    edited.baseimage = "busybox"
    assert edited.parent_images == ["debian:12", "busybox"]


def test_taking_a_label_away_takes_all_of_it() -> None:
    edited = reader(b"FROM x\nLABEL a=1 b=2\nLABEL a 3\nLABEL c=4 \\\n a=5\nRUN y\n")
    del edited.labels["a"]
    assert edited.labels == {"b": "2", "c": "4"}
    assert edited.content == "FROM x\nLABEL b=2\nLABEL c=4\nRUN y\n"


def test_editing_the_last_of_several() -> None:
    edited = reader(b"FROM x\nLABEL a=1\nLABEL a=2\n")
    edited.labels["a"] = "3"
    assert edited.labels == {"a": "3"}
    assert edited.content == "FROM x\nLABEL a=1\nLABEL a=3\n"


def test_setting_all_labels() -> None:
    edited = reader(b"FROM x\nLABEL a=1 b=2\n")
    edited.labels = {"b": "3", "c": "4"}
    assert edited.labels == {"b": "3", "c": "4"}
    edited.args = {"d": "5"}
    assert edited.args == {"d": "5"}
    with pytest.raises(KeyError):
        edited._modify_instruction_label("nope", "1")


def test_earlier_stages_are_left_alone() -> None:
    edited = reader(b"FROM x AS a\nLABEL l=1\nFROM a\nLABEL l=2\n")
    edited.labels["l"] = "3"
    assert edited.content == "FROM x AS a\nLABEL l=1\nFROM a\nLABEL l=3\n"


def test_adding_to_a_file_without_a_final_newline() -> None:
    edited = reader(b"FROM x\nRUN y")
    edited.labels["a"] = "1"
    assert edited.content == "FROM x\nRUN y\nLABEL a=1\n"


def test_adding_lines() -> None:
    edited = reader()
    edited.add_lines("USER 1", all_stages=True)
    assert [s["instruction"] for s in edited.structure].count("USER") == 2
    edited.add_lines("USER 2", at_start=True)
    assert edited.content.split("\n")[14:18] == ["USER 1", "FROM base", "USER 2", "ARG D=d E"]


def test_the_wrong_number_of_images() -> None:
    for images in ([], ["a"], ["a", "b", "c"]):
        with pytest.raises(RuntimeError):
            reader().parent_images = images
    with pytest.raises(RuntimeError):
        reader(b"#\n").baseimage = "a"


def test_context_structure() -> None:
    found = reader(b"FROM a\nENV b=c\nLABEL d=$b\nRUN e\n").context_structure
    assert [c.envs for c in found] == [{}, {"b": "c"}, {"b": "c"}, {"b": "c"}]
    assert [c.labels for c in found] == [{}, {}, {"d": "c"}, {"d": "c"}]
    assert found[2].get_line_value("LABEL") == {"d": "c"}


def test_a_file_on_disk(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_bytes(FILE)
    edited = DockerfileReader(str(tmp_path))
    edited.labels["q"] = "r"
    assert (tmp_path / "Dockerfile").read_bytes() == FILE + b"LABEL q=r\n"
    edited.content = "FROM z\n"
    assert DockerfileReader(str(tmp_path / "Dockerfile")).baseimage == "z"


def test_bytes_that_are_not_utf8_survive_editing() -> None:
    file = io.BytesIO(b"FROM x\nRUN \xff\x85\n")
    edited = DockerfileReader(fileobj=file)
    edited.labels["a"] = "1"
    assert file.getvalue() == b"FROM x\nRUN \xff\x85\nLABEL a=1\n"


def test_lines_end_at_line_feeds_only() -> None:
    data = "FROM x\nRUN a\u2028b\x0bc\nLABEL d=1\n".encode()
    for cache_content in (False, True):
        edited = reader(data, cache_content=cache_content)
        assert len(edited.lines) == 3
        del edited.labels["d"]
        assert edited.content == "FROM x\nRUN a\u2028b\x0bc\n"


def test_errors_are_ours() -> None:
    with pytest.raises(DockerfileError):
        _ = reader(b"FROM a\nRUN <<EOF\n").structure
    with pytest.raises(DockerfileError):
        _ = reader(b"FROM a\nENV a=${b!}\n").envs
