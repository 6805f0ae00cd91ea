"""The command line from outside: real builds of a busybox image, on pipes and on a terminal."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pexpect
import pytest

from tests.support.people import available
from tests.support.runner import Pybuild
from tests.unit.progress.screen import Screen

pytestmark = pytest.mark.needs("busybox")

BASE = 'FROM scratch\nCOPY busybox /bin/busybox\nRUN ["/bin/busybox", "--install", "-s", "/bin"]\n'
FILES = {"busybox": Path("/bin/busybox").read_bytes() if os.path.exists("/bin/busybox") else b""}


@pytest.fixture
def shop(people_at_work: Callable[[str], Pybuild]) -> Pybuild:
    return people_at_work("ids" if "ids" in available() else "single")


def context(shop: Pybuild, rest: str) -> Path:
    place = shop.context({"Dockerfile": BASE + rest, **FILES})
    (place / "busybox").chmod(0o755)
    return place


def test_streams_of_a_build(shop: Pybuild) -> None:
    here = context(shop, 'RUN echo "to stdout"; echo "to stderr" >&2\n')
    first = shop("build", "-t", "app", "--iidfile", "id", "--metadata-file", "meta.json", here)
    assert first.stdout == ""
    assert re.search(
        r"^#\d+ \[3/3\] RUN echo .*\n(#\d+ [\d.]+ to std(out|err)\n){2}#\d+ DONE [\d.]+s$", first.stderr, re.M
    )
    again = shop("build", here)
    assert len(re.findall(r"^#\d+ CACHED$", again.stderr, re.M)) == 3
    assert not re.search(r"^#\d+ [\d.]+ to std", again.stderr, re.M)
    image_id = (shop.folder / "id").read_text()
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", image_id)
    assert json.loads((shop.folder / "meta.json").read_text())["containerimage.config.digest"] == image_id
    quiet = shop("build", "-q", here)
    assert (quiet.stdout, quiet.stderr) == (image_id + "\n", "")
    assert shop("images", "-q", "--no-trunc").stdout == image_id + "\n"
    assert shop("inspect", "-f", "{{.Id}}", "app").stdout == image_id + "\n"


def test_progress_that_nobody_reads(shop: Pybuild) -> None:
    here = context(shop, "RUN echo 1\n")
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = shop("build", "-q", "--iidfile", "id", here, stderr=writer, env={"PYTHONUNBUFFERED": ""})
        shop("build", "--progress", "plain", here, stderr=writer, env={"PYTHONUNBUFFERED": ""})
    finally:
        os.close(writer)
    assert done.stdout.strip() == (shop.folder / "id").read_text()


def test_rawjson(shop: Pybuild) -> None:
    here = context(shop, "RUN echo hello\n")
    result = shop("build", "--progress=rawjson", here)
    logs, names = b"", set()
    for line in result.stderr.splitlines():
        status = json.loads(line)
        assert set(status) <= {"vertexes", "statuses", "logs", "warnings"}
        names |= {vertex["name"] for vertex in status.get("vertexes", ())}
        told = [v["digest"] for v in status.get("vertexes", ())]
        told += [each["vertex"] for kind in ("statuses", "logs") for each in status.get(kind, ())]
        assert all(re.fullmatch("sha256:[0-9a-f]{64}", digest) for digest in told)
        logs += b"".join(base64.b64decode(log["data"]) for log in status.get("logs", ()))
    assert logs == b"hello\n"
    assert "[3/3] RUN echo hello" in names


def test_a_failing_step_tells_all(shop: Pybuild) -> None:
    here = context(shop, "RUN echo before; \\\n    echo reason >&2; \\\n    exit 7\nRUN never\n")
    result = shop("build", here, status=1)
    tail = result.stderr[result.stderr.index("------\n") :]
    assert " > [3/4] RUN echo before;" in tail
    assert "reason\n------\nDockerfile:4\n" in tail
    assert (
        "   4 | >>> RUN echo before; \\\n   5 | >>>     echo reason >&2; \\\n   6 | >>>     exit 7\n" in tail
    )
    assert "exit code: 7\nhint: " in tail
    quiet = shop("build", "-q", here, status=1)
    assert quiet.stdout == "" and "reason" in quiet.stderr


def test_mistakes_in_a_dockerfile(shop: Pybuild) -> None:
    result = shop("build", shop.context({"Dockerfile": "FROM scratch\nRUNN x\n"}), status=1)
    assert "Dockerfile:2\n" in result.stderr and "   2 | >>> RUNN x" in result.stderr
    assert "ERROR: " in result.stderr and "Traceback" not in result.stderr
    missing = shop("build", shop.folder / "nowhere", status=2)
    assert "nowhere" in missing.stderr


def on_terminal(shop: Pybuild, *words: str | Path, size: tuple[int, int] = (24, 80)) -> pexpect.spawn:
    environment = {**shop.environment, "TERM": "xterm"}
    argv = [*shop.program.argv, *map(str, words)]
    if shop.person.uid != os.geteuid():
        argv = ["/usr/sbin/runuser", "-u", shop.person.user, "--", *argv]
    return pexpect.spawn(
        argv[0],
        argv[1:],
        env=environment,
        cwd=str(shop.folder),
        encoding="utf-8",
        timeout=60,
        dimensions=size,
    )


def text_of(child: pexpect.spawn, size: tuple[int, int] = (24, 80)) -> str:
    child.expect(pexpect.EOF)
    child.close()
    screen = Screen(size[1], size[0])
    screen.feed(child.before)
    assert screen.cursor_shown and not screen.wrapped
    return screen.text


def test_the_live_display(shop: Pybuild) -> None:
    here = context(shop, "RUN for n in 1 2 3 4 5 6 7 8; do echo line $n; sleep 0.1; done\n")
    child = on_terminal(shop, "build", "-t", "app", here)
    child.expect(r"=> => # line \d")
    text = text_of(child)
    assert child.exitstatus == 0
    assert re.search(r"^\[\+\] Building \d+\.\ds \((\d+)/\1\) FINISHED$", text, re.M)
    assert re.search(r"^ => \[3/3\] RUN for n in 1 2 3 .*[…]?  \d+\.\ds$", text, re.M)
    assert "line 8" not in text
    again = on_terminal(shop, "build", "-t", "app", here)
    text = text_of(again)
    assert again.exitstatus == 0
    assert "=> CACHED [3/3] RUN for n" in text and "FINISHED" in text


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_live_display_in_order(shop: Pybuild, signum: int, status: int) -> None:
    here = context(shop, "RUN echo waiting; sleep 60\n")
    child = on_terminal(shop, "build", here)
    child.expect("=> => # waiting")
    if signum == signal.SIGINT:
        child.sendintr()
    else:
        pids = subprocess.run(
            ["pgrep", "-s", str(child.pid)], stdout=subprocess.PIPE, text=True, check=True
        ).stdout.split()
        # runuser, where it stands between, passes the signal on.
        os.kill(int(pids[0]), signum)
    child.expect(r"\x1b\[\?25h")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == status or (child.signalstatus or 0) + 128 == status


def test_output_to_stdout_is_clean(shop: Pybuild) -> None:
    here = shop.context({"Dockerfile": "FROM scratch\nCOPY a /a\n", "a": "content"})
    path = shop.out / "a.tar"
    with open(path, "wb") as file, shop.start("build", "-o", "-", here, stdout=file) as process:
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    listing = subprocess.run(["tar", "-tf", str(path)], stdout=subprocess.PIPE, text=True, check=True)
    assert "a" in listing.stdout.split()
    refused = on_terminal(shop, "build", "-o", "-", here)
    refused.expect("an archive is not written to a terminal")
    refused.expect(pexpect.EOF)
    refused.close()


def test_statuses_of_run(shop: Pybuild) -> None:
    shop("build", "-t", "app", context(shop, 'CMD ["/bin/sh", "-c", "exit 3"]\n'))
    shop("run", "--rm", "app", status=3)
    assert shop("run", "--rm", "app", "/bin/echo", "-n", "--rm").stdout == "--rm"
    shop("run", "--rm", "app", "/no/such", status=127)
    shop("run", "--rm", "app", "/bin", status=126)
    shop("run", "--rm", "-w", "relative", "no-such-image:x", "--pull", status=125)
    shop("run", "--no-such", "app", status=125)
    terminal = on_terminal(shop, "run", "--rm", "-it", "app", "/bin/sh", "-c", "tty; exit 4")
    terminal.expect("/dev/")
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 4


def test_the_rest_works_on_the_same_store(shop: Pybuild) -> None:
    here = context(shop, 'CMD ["true"]\n')
    shop("build", "-t", "app:1", here)
    assert "app" in shop("images").stdout
    shop("tag", "app:1", "app:2")
    assert "RUN" in shop("cache", "ls").stdout
    assert "Total:" in shop("cache", "du", "-v").stdout
    assert shop("prune", "-af", "--dry-run").stdout.startswith("Would remove images:")
    shop("save", "-o", "app.tar", "app:1")
    shop("rmi", "app:1", "app:2")
    assert "Total reclaimed space:" in shop("prune", "-af").stdout
    assert len(shop("images").stdout.splitlines()) == 1
    assert "app:1" in shop("load", "-i", "app.tar").stdout
    shop("rmi", "app:1")
    with (shop.folder / "app.tar").open("rb") as file:
        assert shop("load", stdin=file).stdout == "Loaded image: app:1\n"
    with subprocess.Popen(["cat", shop.folder / "app.tar"], stdout=subprocess.PIPE) as pipe:
        assert shop("load", stdin=pipe.stdout).stdout == "Loaded image: app:1\n"
    assert "the archive is empty" in shop("load", status=1).stderr
    nowhere = "app@sha256:" + "0" * 64
    assert "a digest is not for choosing" in shop("tag", "app:1", nowhere, status=2).stderr
    shop("run", "--rm", "app:1", "/bin/true")
    shop("prune", status=2)
