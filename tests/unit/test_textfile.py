"""Files that a person names: regular ones, and what the shell hands over open."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from buildkit_py import textfile


def test_a_file_and_a_link_to_one(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x" * 3_000_000)
    (tmp_path / "l").symlink_to("f")
    assert textfile.read(str(tmp_path / "f")) == textfile.read(str(tmp_path / "l")) == b"x" * 3_000_000


def test_what_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("fifo")
    for path, kind in (
        (tmp_path / "fifo", "a FIFO"),
        (tmp_path / "link", "a FIFO"),
        (tmp_path, "a directory"),
        (Path("/dev/zero"), "a device"),
    ):
        with pytest.raises(textfile.IrregularError) as raised:
            textfile.read(str(path))
        assert raised.value.strerror == f"it is {kind}, not a regular file"


def test_a_socket_is_refused(tmp_path: Path) -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        with pytest.raises(textfile.IrregularError, match="a socket"):
            textfile.read(str(tmp_path / "s"))


def test_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        textfile.read(str(tmp_path / "none"))


def test_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(textfile, "MAX_SIZE", 1 << 20)
    (tmp_path / "f").write_bytes(bytes(1 << 20))
    assert len(textfile.read(str(tmp_path / "f"))) == 1 << 20
    (tmp_path / "f").write_bytes(bytes((1 << 20) + 1))
    with pytest.raises(OSError, match="larger than 1 MiB") as raised:
        textfile.read(str(tmp_path / "f"))
    assert raised.value.errno == errno.EFBIG


@pytest.mark.parametrize("folder", ["/dev/fd", "/proc/self/fd"])
def test_an_open_pipe_is_read_to_its_end(folder: str) -> None:
    reader, writer = os.pipe()
    try:
        os.write(writer, b"FROM x\n")
        os.close(writer)
        assert textfile.read(f"{folder}/{reader}") == b"FROM x\n"
    finally:
        os.close(reader)


def test_a_descriptor_that_is_not_open() -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        textfile.read("/dev/fd/999999")
    with pytest.raises(FileNotFoundError):
        textfile.read("/dev/fd/x")


def test_a_file_is_replaced_and_keeps_its_mode_and_links_to_it(tmp_path: Path) -> None:
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_text("old")
    file.chmod(0o640)
    link.symlink_to("file")
    textfile.write(str(link), b"new")
    assert (link.is_symlink(), file.read_bytes(), file.stat().st_mode & 0o777) == (True, b"new", 0o640)
    textfile.write(str(tmp_path / "more"), b"1")
    assert (tmp_path / "more").read_bytes() == b"1"
    with pytest.raises(IsADirectoryError):
        textfile.write(str(tmp_path), b"")
    with pytest.raises(FileNotFoundError):
        textfile.write(str(tmp_path / "no" / "such"), b"")
    assert sorted(os.listdir(tmp_path)) == ["file", "link", "more"]


def test_what_is_no_file_is_written_to_and_stays(tmp_path: Path) -> None:
    textfile.write("/dev/null", b"1")
    assert not os.path.isfile("/dev/null")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    textfile.write(str(pipe), b"2")
    assert os.read(reader, 10) == b"2"
    os.close(reader)
    assert pipe.is_fifo()
    ours, theirs = os.pipe()
    textfile.write(f"/dev/fd/{theirs}", b"3")
    assert os.read(ours, 10) == b"3"
    os.close(ours)
    os.close(theirs)
