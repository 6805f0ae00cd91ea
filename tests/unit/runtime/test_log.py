"""Logs: what is written is read again, line by line, stream by stream."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from buildkit_py.runtime.log import FILE, LONGEST, Log, Reader, stamp


def read(folder: Path) -> list[tuple[str, str]]:
    reader = Reader(str(folder))
    try:
        return [(e.stream, e.text) for e in reader.read()]
    finally:
        reader.close()


def test_lines_are_whole_however_they_come(tmp_path: Path) -> None:
    log = Log(str(tmp_path))
    assert not log.write("stdout", b"on")
    assert log.write("stderr", b"other\n")
    assert log.write("stdout", b"e\ntwo\nthr")
    log.close()
    assert read(tmp_path) == [
        ("stderr", "other\n"),
        ("stdout", "one\n"),
        ("stdout", "two\n"),
        ("stdout", "thr"),
    ]


def test_carriage_returns_quotes_and_bytes_that_are_no_text(tmp_path: Path) -> None:
    log = Log(str(tmp_path))
    log.write("stdout", b'a\rb"\\\n\xff\x00\x1b[0m\n')
    log.close()
    assert read(tmp_path) == [("stdout", 'a\rb"\\\n'), ("stdout", "\ufffd\0\x1b[0m\n")]


def test_long_lines_are_split(tmp_path: Path) -> None:
    log = Log(str(tmp_path))
    text = b"x" * (2 * LONGEST + 5)
    log.write("stdout", text + b"\n")
    log.write("stdout", text)
    log.close()
    parts = [text for _, text in read(tmp_path)]
    assert all(len(part) <= LONGEST + 1 for part in parts)
    assert "".join(parts) == (text + b"\n" + text).decode()


@pytest.mark.parametrize("files", [1, 2, 4])
def test_so_many_files_are_kept_and_read_in_their_order(tmp_path: Path, files: int) -> None:
    lines = [f"line {number:02}\n" for number in range(12)]
    log = Log(str(tmp_path), 200, files)
    reader = Reader(str(tmp_path))
    followed: list[str] = []
    for number, line in enumerate(lines):
        log.write("stdout", line.encode())
        # Two turns may lie between two looks.
        followed += [e.text for e in reader.read()] if number % 4 == 0 else []
    followed += [e.text for e in reader.read()]
    reader.close()
    log.close()
    assert len(os.listdir(tmp_path)) == files
    kept = [text for _, text in read(tmp_path)]
    assert kept == lines[len(lines) - len(kept) :]
    if files == 4:
        assert followed == lines


def test_the_form_is_dockers(tmp_path: Path) -> None:
    log = Log(str(tmp_path))
    log.write("stdout", b"hello\n")
    log.close()
    record = json.loads((tmp_path / FILE).read_text())
    assert list(record) == ["log", "stream", "time"]
    assert stamp(1714564800123456789) == "2024-05-01T12:00:00.123456789Z"


def test_a_reader_goes_on_where_it_was(tmp_path: Path) -> None:
    log, reader = Log(str(tmp_path)), Reader(str(tmp_path))
    assert list(reader.read()) == []
    log.write("stdout", b"one\n")
    assert [e.text for e in reader.read()] == ["one\n"]
    log.write("stdout", b"two\n")
    assert [e.text for e in reader.read()] == ["two\n"]
    log.close()
    reader.close()


def test_a_largest_size_keeps_one_older_file(tmp_path: Path) -> None:
    log, reader = Log(str(tmp_path), 1000), Reader(str(tmp_path))
    seen = []
    for number in range(40):
        log.write("stdout", f"line {number}\n".encode())
        seen += [e.text for e in reader.read()]
    log.close()
    assert seen == [f"line {number}\n" for number in range(40)], "who follows misses nothing"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["log", "log.1"]
    assert all(p.stat().st_size < 1100 for p in tmp_path.iterdir())
    kept = [text for _, text in read(tmp_path)]
    assert kept == seen[-len(kept) :] and len(kept) >= 10
    reader.close()


def test_a_line_that_was_cut_off_is_passed_over(tmp_path: Path) -> None:
    log = Log(str(tmp_path))
    log.write("stdout", b"one\n")
    os.write(log._fd, b'{"log":"tw\n')
    log.write("stdout", b"three\n")
    log.close()
    assert [text for _, text in read(tmp_path)] == ["one\n", "three\n"]
