"""Shells in the state of a step: of one that fails, and of one of the past."""

from __future__ import annotations

import pexpect
import pytest

from tests.support.runner import Pybuild
from tests.support.terminal import on_terminal

pytestmark = pytest.mark.needs("overlay", "user-namespaces", "seccomp")

DOCKERFILE = """
FROM busybox AS source
RUN mkdir /data && echo from the stage >/data/file
FROM busybox
ENV A=b
WORKDIR /w
RUN echo first >one
USER 5:6
RUN --mount=from=source,source=/data,target=/data --mount=type=secret,id=s,uid=5 \\
    --mount=type=cache,target=/c,uid=5 echo second >/tmp/two; cat /data/file; exit 9
RUN echo never
"""


def context(pybuild: Pybuild) -> str:
    (pybuild.out / "secret").write_text("hush\n")
    pybuild.person.own(pybuild.out / "secret")
    return str(pybuild.context({"Dockerfile": DOCKERFILE}))


def asked(child: pexpect.spawn, line: str) -> list[str]:
    """What a command typed at the prompt shows."""
    child.sendline(f"{line}; echo en''d")
    child.expect(r"end\r\n")
    lines: list[str] = child.before.splitlines()
    return lines[1:]


def test_a_step_that_fails(pybuild: Pybuild) -> None:
    secret = f"id=s,src={pybuild.out}/secret"
    child = on_terminal(
        pybuild, "build", "--on-failure=shell", "--secret", secret, context(pybuild), size=(30, 99)
    )
    child.expect("exit code: 9")
    child.expect("A shell in the state of this step")
    child.expect(r"[$#] ")
    look = "id -u; id -g; pwd; echo $A; cat one /tmp/two /data/file /run/secrets/s; stty size"
    seen = asked(child, look)
    assert seen == ["5", "6", "/w", "b", "first", "second", "from the stage", "hush", "30 99"]
    child.setwinsize(20, 50)
    asked(child, "while [ \"$(stty size)\" != '20 50' ]; do sleep 0.05; done; touch /c/kept")
    child.sendline("cat")
    child.sendline("ready")
    child.expect("ready\r\nready\r\n")
    child.sendintr()
    child.expect(r"[$#] ")
    child.sendline("exit 3")
    child.expect("Dockerfile:9")
    child.expect(pexpect.EOF)
    child.close()
    # The build's own, not the shell's.
    assert child.exitstatus == 1
    assert not list(pybuild.store.glob("snapshots/*/.new-*"))


def test_the_shell_of_a_root_that_is_a_copy(me: Pybuild) -> None:
    me.environment["PYBUILD_SNAPSHOTTER"] = "copy"
    place = me.context({"Dockerfile": "FROM busybox\nRUN echo x >/f; false\n"})
    child = on_terminal(me, "build", "--on-failure=shell", place)
    child.expect(r"[$#] ")
    assert asked(child, "cat /f") == ["x"]
    child.sendline("exit")
    child.expect(pexpect.EOF)
    child.close()
    assert not list(me.store.glob("snapshots/*/.new-*"))


def test_a_shell_needs_a_terminal(me: Pybuild) -> None:
    done = me("build", "--on-failure=shell", context(me), status=2)
    assert "a shell needs a terminal" in done.stderr
    me("build", "--on-failure=nothing", context(me), status=2)


def test_other_steps_end_and_a_success_asks_nothing(me: Pybuild) -> None:
    text = "FROM busybox AS a\nRUN sleep 600\nFROM busybox\nRUN sleep 0.3; false\nCOPY --from=a / /a\n"
    child = on_terminal(me, "build", "--on-failure=shell", me.context({"Dockerfile": text}))
    child.expect("A shell in the state of this step")
    child.expect(r"[$#] ")
    child.sendline("exit")
    child.expect(pexpect.EOF)
    child.close()
    child = on_terminal(
        me, "build", "--on-failure=shell", me.context({"Dockerfile": "FROM busybox\nRUN true\n"})
    )
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


def test_steps_of_the_past(pybuild: Pybuild) -> None:
    pybuild("build", "--secret", f"id=s,src={pybuild.out}/secret", context(pybuild), status=1)
    child = on_terminal(pybuild, "debug", "shell", "^0", "exit 9")
    child.expect("its mounts are not there: /data, /run/secrets/s, /c")
    child.expect(r"[$#] ")
    assert asked(child, "id -u; pwd; echo $A; cat one; ls /tmp; ls -d /data") == [
        *("5", "/w", "b", "first"),
        "ls: /data: No such file or directory",
    ]
    child.sendline("exit 4")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 4
    # The step before: what it ran in, and what it made; both again as they were.
    for words, found in (((), []), (("--after",), ["one"]), (("--after",), ["one"])):
        child = on_terminal(pybuild, "debug", "shell", *words, "^0", "echo first")
        child.expect(r"[$#] ")
        assert asked(child, "ls /w; rm -rf /w/*; touch /new") == found
        child.sendline("exit")
        child.expect(pexpect.EOF)
        child.close()
    assert not list(pybuild.store.glob("snapshots/*/.new-*"))


def test_steps_that_have_no_state(me: Pybuild) -> None:
    me("build", context(me), status=1)
    for words, message in (
        (("--after", "^0", "exit 9"), "there is no result of"),
        (("^0", "WORKDIR"), "is no RUN"),
        (("^0", "nonsense"), "has no step"),
    ):
        child = on_terminal(me, "debug", "shell", *words, size=(24, 200))
        child.expect(message)
        child.expect(pexpect.EOF)
        child.close()
        assert child.exitstatus
    me("prune", "-af")
    child = on_terminal(me, "debug", "shell", "^0", "exit 9", size=(24, 200))
    child.expect("are gone")
    child.expect(pexpect.EOF)
    child.close()
