"""Things go wrong: the error is clear, the status right, nothing is left behind, and the next build is right.

That no process and no mount is left is checked after every test (tests/conftest.py).
"""

from __future__ import annotations

import os
import random
import re
import shlex
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.registry import Registry, free_port
from tests.support.runner import Pybuild
from tests.support.trees import Image, differences, read_archive

# To be interrupted anywhere: a pull, a copy of many files, RUN steps in parallel, copies between stages.
BUSY = """\
FROM busybox AS one
COPY files /files
RUN for n in 1 2 3; do cp -r /files /copy$n; done && sleep 0.2
FROM busybox AS two
RUN sleep 0.3 && mkdir /two && echo two > /two/file
FROM busybox
COPY --from=one /copy2 /copy
COPY --from=two /two /two
RUN find / -xdev -name 'f*' | grep -v -E '^/(proc|sys|dev)' | sort | sha256sum > /sum
"""
BUSY_FILES: dict[str, str | bytes] = {f"files/f{n}": f"{n}\n" * n for n in range(300)}


def busy(pybuild: Pybuild) -> Path:
    return pybuild.context({"Dockerfile": BUSY, **BUSY_FILES})


def saved(pybuild: Pybuild, tag: str) -> Image:
    path = pybuild.out / "saved.tar"
    pybuild("save", "-o", path, tag)
    return read_archive(path)


def wait_for_line(process: subprocess.Popen[str], text: str) -> str:
    """Read stderr until a line holds ``text``; gives all that was read."""
    assert process.stderr
    read = ""
    for line in process.stderr:
        read += line
        if text in line:
            return read
    raise AssertionError(f"'{text}' never came:\n{read}")


def test_a_run_that_fails(pybuild: Pybuild) -> None:
    dockerfile = "FROM busybox\nRUN echo before\nRUN echo some last words; \\\n    exit 7\nRUN echo never\n"
    context = pybuild.context({"Dockerfile": dockerfile})
    done = pybuild("build", "--progress=plain", "-t", "x", context, status=1)
    assert "some last words" in done.stderr and "never" not in done.stderr.replace("RUN echo never", "")
    assert re.search(r"exit (status|code):? 7", done.stderr), done.stderr
    assert re.search(r"Dockerfile:3", done.stderr), done.stderr
    assert "Traceback" not in done.text
    assert "x" not in pybuild("images", "--format={{.Repository}}").stdout.split()
    pybuild.context({"Dockerfile": dockerfile.replace("exit 7", "exit 0")})
    again = pybuild("build", "--progress=plain", "-t", "x", context)
    assert "CACHED" in again.stderr
    pybuild.check_store()


def test_a_command_that_is_not_there(pybuild: Pybuild) -> None:
    done = pybuild("build", pybuild.context({"Dockerfile": 'FROM busybox\nRUN ["/no/such"]\n'}), status=1)
    assert "127" in done.stderr and "/no/such" in done.stderr


def test_no_such_base(pybuild: Pybuild, bases: Registry) -> None:
    name = f"{bases.address}/no/such-image:1"
    done = pybuild("build", pybuild.context({"Dockerfile": f"FROM {name}\nRUN true\n"}), status=1)
    assert name in done.stderr and "Traceback" not in done.stderr
    assert "not found" in done.stderr.lower() or "unknown" in done.stderr.lower()


def test_a_registry_that_is_down(pybuild: Pybuild, tmp_path: Path) -> None:
    port = free_port()
    settings = pybuild.out / "registries.toml"
    settings.write_text(f'[registry."127.0.0.1:{port}"]\nhttp = true\n')
    context = pybuild.context({"Dockerfile": f"FROM 127.0.0.1:{port}/some/base:1\nRUN true\n"})
    done = pybuild("build", context, status=1, env={"PYBUILD_REGISTRY_CONFIG": str(settings)}, timeout=60)
    assert f"127.0.0.1:{port}" in done.stderr and "Traceback" not in done.stderr
    pybuild("build", pybuild.context({"Dockerfile": "FROM busybox\nRUN true\n"}))


def test_a_registry_that_dies_midway(me: Pybuild, base_folder: Path, workshop: Path) -> None:
    """The registry goes while the base is fetched: an error, and the next build pulls the rest."""
    other = Registry(workshop / "dying")
    other.start()
    try:
        other.push_base(base_folder / "debian", "library/debian:12-slim")
        context = me.context({"Dockerfile": "FROM debian:12-slim\nRUN true\n"})
        environment = {"PYBUILD_REGISTRY_CONFIG": str(other.settings)}
        process = me.start("build", "--progress=plain", context, env=environment)
        wait_for_line(process, "FROM")
        other.stop()
        with process:
            _, rest = process.communicate(timeout=60)
        # Either all had come before it went, or the build says what is missing.
        assert process.returncode in (0, 1) and "Traceback" not in rest
        other.start()
        me("build", context, env=environment)
    finally:
        other.stop()
    me.check_store()


def test_interrupted_while_running(pybuild: Pybuild) -> None:
    dockerfile = "FROM busybox\nRUN echo first > /first\nRUN echo started; sleep 100 & sleep 100\n"
    context = pybuild.context({"Dockerfile": dockerfile})
    with pybuild.start("build", "--progress=plain", context) as process:
        wait_for_line(process, " started")
        began = time.monotonic()
        os.killpg(process.pid, signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert time.monotonic() - began < 10
    pybuild.context({"Dockerfile": dockerfile.replace("sleep 100", "true")})
    done = pybuild("build", "--progress=plain", context)
    assert "CACHED" in done.stderr
    pybuild.check_store()


def test_terminated_while_running(me: Pybuild) -> None:
    context = me.context({"Dockerfile": "FROM busybox\nRUN echo started; sleep 100\n"})
    with me.start("build", "--progress=plain", context) as process:
        wait_for_line(process, " started")
        process.terminate()
        _, stderr = process.communicate(timeout=30)
    assert process.returncode in (143, -signal.SIGTERM), stderr


def test_a_process_left_in_the_background_ends_with_its_step(pybuild: Pybuild) -> None:
    dockerfile = "FROM busybox\nRUN (trap '' HUP TERM INT; sleep 1000) >/dev/null 2>&1 & echo done\n"
    pybuild("build", pybuild.context({"Dockerfile": dockerfile}), timeout=60)


@pytest.mark.slow
@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGINT], ids=["kill", "interrupt"])
def test_ended_at_any_moment(pybuild: Pybuild, me: Pybuild, sign: signal.Signals) -> None:
    """Again and again at another moment, in one store, and then the build is as if nothing had happened."""
    me("build", "-t", "busy", busy(me))
    right = saved(me, "busy").tree
    context = busy(pybuild)
    dice = random.Random(f"{sign} {pybuild.person.kind}")
    for attempt in range(8):
        with pybuild.start("build", "--progress=plain", "-t", "busy", context) as process:
            # Before its first word the interpreter itself may still be starting, and answers as it likes.
            wait_for_line(process, "#1")
            time.sleep(dice.uniform(0, 1.2))
            if process.poll() is None:
                process.send_signal(sign)
            _, stderr = process.communicate(timeout=30)
        expected = {signal.SIGKILL: -signal.SIGKILL, signal.SIGINT: 130}[sign]
        assert process.returncode in (0, expected), f"attempt {attempt}: {process.returncode}\n{stderr}"
        if process.returncode == 0:
            pybuild("rmi", "busy")
            pybuild("prune", "-af")
    pybuild("build", "-t", "busy", context)
    assert differences(saved(pybuild, "busy").tree, right) == {}
    pybuild.check_store()
    pybuild("rmi", "busy")
    pybuild("prune", "-af")
    pybuild("build", "-t", "busy", context)
    assert differences(saved(pybuild, "busy").tree, right) == {}


def test_many_at_once(pybuild: Pybuild) -> None:
    context = busy(pybuild)
    processes = [pybuild.start("build", "-q", "-t", f"busy:{n}", context) for n in range(4)]
    ended = [(process.communicate(timeout=120), process.returncode) for process in processes]
    assert all(status == 0 for _, status in ended), ended
    first = saved(pybuild, "busy:0").tree
    assert all(differences(saved(pybuild, f"busy:{n}").tree, first) == {} for n in (1, 2, 3))
    pybuild.check_store()


@pytest.mark.needs("root")
def test_a_full_disk(pybuild: Pybuild) -> None:
    """The store lies on a small tmpfs: the build says so and fails; with more room the next one is right."""
    dockerfile = "FROM busybox\nRUN echo small > /small\nRUN dd if=/dev/zero of=/large bs=1000000 count=60\n"
    context = pybuild.context({"Dockerfile": dockerfile})
    done = _in_small_store(
        pybuild,
        "24m",
        f"pybuild build --progress=plain -t x {context}; echo status $?",
        # Nothing of the failed step is left to fill it.
        "pybuild cache verify; echo status $?",
        f"mount -o remount,size=400m {pybuild.store}",
        f"pybuild build --progress=plain -t x {context}; echo status $?",
        "pybuild run --rm x sh -c 'wc -c < /large'; echo status $?",
    )
    assert re.findall(r"^status (\d+)", done, re.MULTILINE) == ["1", "0", "0", "0"], done
    assert "No space left" in done and "Traceback" not in done and "left-over" not in done
    assert "\n60000000\n" in done


@pytest.mark.needs("root")
def test_a_full_disk_is_pruned(pybuild: Pybuild) -> None:
    """What a killed build left has filled the last block: the index can't grow until that is gone."""
    context = pybuild.context({"Dockerfile": "FROM busybox\nRUN echo ok > /ok\n"})
    trash = f"{pybuild.store}/snapshots/.trash"
    done = _in_small_store(
        pybuild,
        "24m",
        f"pybuild build -q {context} >/dev/null; echo status $?",
        f"mkdir {trash}/x && chown {pybuild.person.uid} {trash}/x && cat /dev/zero > {trash}/x/f",
        f"pybuild build -q --no-cache {context}; echo status $?",
        "pybuild prune -af; echo status $?",
        f"pybuild build -q {context} >/dev/null; echo status $?",
    )
    assert re.findall(r"^status (\d+)", done, re.MULTILINE) == ["0", "1", "0", "0"], done
    assert "unexpected" not in done and "hint: " in done


@pytest.mark.needs("root")
def test_a_full_disk_while_pulling(pybuild: Pybuild) -> None:
    context = pybuild.context({"Dockerfile": "FROM debian:12-slim\nRUN echo ok\n"})
    done = _in_small_store(
        pybuild,
        "50m",
        f"pybuild build --progress=plain {context}; echo status $?",
        f"mount -o remount,size=800m {pybuild.store}",
        f"pybuild build --progress=plain {context}; echo status $?",
    )
    assert re.findall(r"^status (\d+)", done, re.MULTILINE) == ["1", "0"], done
    assert "No space left" in done and "Traceback" not in done


def _in_small_store(pybuild: Pybuild, size: str, *lines: str) -> str:
    """Run shell lines in a mount namespace of their own where the store is a tmpfs of ``size``."""
    variables = [f"{name}={value}" for name, value in pybuild.environment.items()]
    person = pybuild.person
    become = ["setpriv", f"--reuid={person.uid}", f"--regid={person.gid}", "--init-groups"]
    if person.uid == 0:
        become = []
    command = shlex.join([*become, "env", "-i", *variables, *pybuild.program.argv])
    script = [
        f'pybuild() {{ {command} "$@"; }}',
        f"mkdir -p {pybuild.store}",
        f"mount -t tmpfs -o size={size},mode=700,uid={person.uid},gid={person.gid} small {pybuild.store}",
        *lines,
    ]
    unshare = ["unshare", "--mount", "--propagation=private", "sh", "-c", "\n".join(script)]
    done = subprocess.run(
        unshare, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300, cwd=pybuild.folder
    )
    return done.stdout


@pytest.mark.needs("root")  # files of subordinate ids: nobody else can damage them from outside
@pytest.mark.parametrize(
    "damage",
    ["truncate -s 1 {store}/index.db", "rm -rf {store}/blobs"],
    ids=["index cut off", "blobs gone"],
)
def test_a_damaged_store_is_named_or_mended(me: Pybuild, damage: str) -> None:
    context = me.context({"Dockerfile": "FROM busybox\nRUN echo 1 > /one\nRUN echo 2 > /two\n"})
    me("build", "-t", "x", context)
    subprocess.run(damage.format(store=me.store), shell=True, check=True)
    done = me("build", "-t", "x", context, status=None)
    assert done.status in (0, 1) and "Traceback" not in done.text, done.text
    if done.status:
        assert "store" in done.stderr and str(me.store) in done.stderr, done.stderr
    else:
        assert me("run", "--rm", "x", "cat", "/one", "/two").stdout == "1\n2\n"


def test_a_store_whose_path_is_no_text(pybuild: Pybuild) -> None:
    odd = {"PYBUILD_ROOT": f"{pybuild.folder}/a, b:c\\d\n\udcff"}
    pybuild(
        "build", "-t", "one", pybuild.context({"Dockerfile": "FROM busybox\nRUN echo 1 > /one\n"}), env=odd
    )
    pybuild("run", "-d", "--name", "box", "one", "sleep", "1000", env=odd)
    assert pybuild("exec", "box", "cat", "/one", env=odd).stdout == "1\n"
    pybuild("rm", "-f", "box", env=odd)


def test_a_umask_that_closes_files_to_their_owner(pybuild: Pybuild) -> None:
    place = pybuild.context(
        {"Dockerfile": "FROM busybox\nCOPY file /one\nRUN cat /one > /two\n", "file": "1\n"}
    )
    pybuild("build", "-t", "one", place, umask=0o777)
    assert pybuild("run", "--rm", "one", "cat", "/two", umask=0o777).stdout == "1\n"
    assert "one" in pybuild("images").stdout
    pybuild("save", "-o", "out/one.tar", "one", umask=0o777)
    pybuild("load", "-i", "out/one.tar")
