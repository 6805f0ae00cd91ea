from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import sys

import pytest

from buildkit_py.linux import trampoline
from buildkit_py.linux.trampoline import Failure

FAILURES = [Failure(2, b"missing\n", 127), Failure(8, b"format\n", 126), Failure(0, b"other\n", 125)]

# In a process of its own: what follows replaces it.
SCRIPT = """
import sys
from buildkit_py.linux.trampoline import Failure, execute
failures = [Failure(2, b"missing\\n", 127), Failure(8, b"format\\n", 126), Failure(0, b"other\\n", 125)]
execute(sys.argv[1], tuple(sys.argv[2:]), {"A": "b", "PATH": "/bin:/usr/bin"}, failures)
"""

x86_64_only = pytest.mark.skipif(os.uname().machine != "x86_64", reason="the trampoline is x86_64 code")


def run(*args: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-c", SCRIPT, *args], capture_output=True)


def test_the_elf_image_is_whole() -> None:
    image = trampoline.program(FAILURES)
    assert image[:4] == b"\x7fELF"
    offset, address, _, size, memory = struct.unpack_from("<QQQQQ", image, 64 + 8)
    assert (offset, address) == (0, 0x400000)
    assert size == memory == len(image)
    assert image.endswith(b"missing\nformat\nother\n")


@x86_64_only
def test_the_command_is_run_with_its_arguments_and_environment() -> None:
    done = run("/bin/sh", "name", "-c", 'echo "$0 $1 $A"; readlink /proc/$$/exe; exit 5', "zero", "one")
    assert done.returncode == 5
    assert done.stdout.splitlines()[0] == b"zero one b"


@x86_64_only
@pytest.mark.parametrize(
    ("content", "status", "message"),
    [(None, 127, b"missing\n"), (b"no program", 126, b"format\n"), (b"#!/no/such\n", 127, b"missing\n")],
)
def test_failures(tmp_path: os.PathLike[str], content: bytes | None, status: int, message: bytes) -> None:
    path = os.path.join(tmp_path, "file")
    if content is not None:
        with open(path, "wb") as f:
            f.write(content)
        os.chmod(path, 0o755)
    done = run(path, "x")
    assert (done.returncode, done.stderr) == (status, message)


@x86_64_only
def test_all_other_failures() -> None:
    done = run("/etc/passwd" if os.geteuid() else "/etc", "x")
    assert (done.returncode, done.stderr) == (125, b"other\n")


@x86_64_only
def test_the_image_gets_hold_of_sealed_memory_alone(tmp_path: os.PathLike[str]) -> None:
    """A script whose interpreter is /proc/self/exe: the kernel runs the trampoline, not Python."""
    path = os.path.join(tmp_path, "script")
    with open(path, "w") as f:
        f.write("#!/proc/self/exe\n")
    os.chmod(path, 0o755)
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, path, "x"], stderr=subprocess.PIPE)
    try:
        # It executes itself for ever.
        exe = ""
        while "memfd" not in exe:
            exe = os.readlink(f"/proc/{process.pid}/exe")
            assert process.poll() is None
        assert exe.startswith("/memfd:exec")
        with pytest.raises(OSError, match=r"busy|not permitted|denied|Text file"):
            os.close(os.open(f"/proc/{process.pid}/exe", os.O_RDWR))
    finally:
        process.kill()
        process.communicate()


def test_seals_hold() -> None:
    fd = os.memfd_create("x", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(fd, b"x")
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, trampoline._SEALS)
    with pytest.raises(PermissionError):
        os.write(fd, b"y")
    os.close(fd)
