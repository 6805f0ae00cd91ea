"""Attacks from a container on what enters it, or looks into it, while it runs."""

from __future__ import annotations

import io
import os
import re
import stat
import subprocess
import tarfile
from pathlib import Path

import pexpect
import pytest

from tests.support.containers import ready
from tests.support.runner import Pybuild
from tests.support.terminal import on_terminal

IMAGE = "debian:12-slim"

# Looks for processes that come, and for any that it may trace before they have become a program of the image.
TRACER = r"""
    $| = 1; print "ready\n";
    my %known;
    while (!-e '/stop') {
        for my $pid (grep { /^\d+$/ and $_ > 1 and $_ != $$ } do { opendir(my $d, '/proc'); readdir $d }) {
            next if $known{$pid} and $known{$pid} > 200000;
            $known{$pid}++;
            my $exe = readlink "/proc/$pid/exe";
            print "exe $exe\n" if defined $exe and $exe =~ /python/;
            for my $fd (3 .. 40) {
                my $file = readlink "/proc/$pid/fd/$fd";
                print "fd $file\n" if defined $file and $file !~ m{^/(usr|lib|etc)/};
            }
            open(my $f, '<', "/proc/$pid/environ") or next;
            print "environ\n" if join('', <$f>) =~ /PYBUILD_ROOT/;
        }
    }
"""


def test_a_command_that_enters_is_not_seen_before_it_is_the_images(pybuild: Pybuild) -> None:
    pybuild("run", "-d", "--name", "box", IMAGE, "perl", "-e", TRACER)
    ready(pybuild, "box")
    for words in ((), ("-t",), ("-u", "1000")) * 5:
        pybuild("exec", *words, "box", "true")
    # It may end before the command does.
    pybuild("exec", "box", "touch", "/stop", status=None)
    pybuild("wait", "box")
    assert set(pybuild("logs", "box").stdout.splitlines()) == {"ready"}
    pybuild("rm", "box")


def test_a_process_that_comes_to_a_containers_processes_is_not_seen_either(pybuild: Pybuild) -> None:
    pybuild("run", "-d", "--name", "box", IMAGE, "perl", "-e", TRACER)
    ready(pybuild, "box")
    others = ((), ("-u", "1000"), ("--userns", "keep-id"), ("--pids-limit", "50"), ("--oom-score-adj", "500"))
    for words in others * 2:
        pybuild("run", "--rm", "--pid", "container:box", *words, "busybox", "true")
    pybuild("exec", "box", "touch", "/stop", status=None)
    pybuild("wait", "box")
    assert set(pybuild("logs", "box").stdout.splitlines()) == {"ready"}
    pybuild("rm", "box")


# Two names change places all the time: a directory with a file, and a link to where the secret is.
SWAPPER = r"""
    $| = 1;
    my ($target, @places) = @ARGV;
    my @pairs;
    for my $place (@places) {
        mkdir $place; mkdir "$place/sub"; symlink $target, "$place/trap";
        open(my $f, '>', "$place/sub/file"); print $f "own\n"; close $f;
        push @pairs, ["$place/sub", "$place/trap"];
    }
    print "ready\n";
    while (1) { syscall(316, -100, $_->[0], -100, $_->[1], 2) for @pairs }
"""
SECRET = "the host's secret\n"


@pytest.fixture
def swapping(pybuild: Pybuild) -> Pybuild:
    """With a container ``box`` that swaps in /d, and in /v, which is ``out/shared``; ``out/secret`` is what
    it is after."""
    secret, shared = pybuild.out / "secret", pybuild.out / "shared"
    secret.mkdir()
    (secret / "file").write_text(SECRET)
    shared.mkdir()
    pybuild.person.own(pybuild.out)
    command = (IMAGE, "perl", "-e", SWAPPER, secret, "/d", "/v")
    pybuild("run", "-d", "--name", "box", "-v", f"{shared}:/v", *command)
    ready(pybuild, "box")
    return pybuild


def untouched(pybuild: Pybuild) -> None:
    assert [path.name for path in (pybuild.out / "secret").iterdir()] == ["file"]
    assert (pybuild.out / "secret" / "file").read_text() == SECRET


def holds_the_secret(place: Path) -> list[Path]:
    files = [path for path in place.rglob("*") if path.is_file() and not path.is_symlink()]
    return [path for path in files if SECRET.encode() in path.read_bytes()]


def test_links_that_are_swapped_while_files_are_copied(swapping: Pybuild) -> None:
    """In neither direction does a copy leave the place that was named."""
    pybuild = swapping
    tree = pybuild.context({"sub/file": "mine\n", "sub/new": "mine\n"}, "tree")
    for number in range(8):
        got = pybuild.out / f"got{number}"
        # Something may be gone when it is looked at: that is said, and no harm.
        pybuild("cp", "box:/d", got, status=None)
        pybuild("cp", f"{tree}/.", "box:/v", status=None)
        pybuild("cp", f"{tree}/.", "box:/d", status=None)
        pybuild("cp", pybuild.out / "shared", f"box:/taken{number}", status=None)
        pybuild("cp", f"{tree}/.", pybuild.out / "shared", status=2)
    untouched(pybuild)
    pybuild("kill", "box")
    pybuild("wait", "box")
    pybuild("export", "-o", pybuild.out / "all.tar", "box")
    assert SECRET.encode() not in (pybuild.out / "all.tar").read_bytes()
    assert [path for path in holds_the_secret(pybuild.out) if path.parent.name != "secret"] == []
    pybuild("rm", "-v", "box")


def test_links_that_are_swapped_while_a_container_is_looked_at(swapping: Pybuild) -> None:
    pybuild = swapping
    for _ in range(4):
        pybuild("export", "-o", pybuild.out / "all.tar", "box", status=None)
        assert SECRET.encode() not in (pybuild.out / "all.tar").read_bytes()
        for words in ((), ("--pause=false",)):
            pybuild("commit", *words, "box", "copy", status=None)
            done = pybuild("run", "--rm", "copy", "sh", "-c", "cat /d/*/file", status=None)
            assert SECRET not in done.stdout
        assert "secret" not in pybuild("diff", "box").stdout
    assert pybuild("ps", "--format", "{{.State}}").stdout == "running\n"
    untouched(pybuild)
    pybuild("rm", "-f", "box")


def test_links_that_are_swapped_in_a_volume_that_is_filled_or_given_away(pybuild: Pybuild) -> None:
    """A second container has an image with files there, and ``:U``."""
    secret = pybuild.out / "secret"
    secret.mkdir()
    (secret / "file").write_text(SECRET)
    pybuild.person.own(pybuild.out)
    image = f"FROM {IMAGE}\nRUN mkdir -p /v/sub && for n in $(seq 300); do echo $n >/v/sub/$n; done\n"
    pybuild("build", "-q", "-t", "full", pybuild.context({"Dockerfile": image}))
    waits = (
        "$| = 1; print qq(ready\\n); my ($v, $t) = @ARGV; "
        "while (1) { rename qq($v/sub), qq($v/old) and symlink $t, qq($v/sub) }"
    )
    pybuild("run", "-d", "--name", "box", "-v", "vol:/v", IMAGE, "perl", "-e", waits, "/v", secret)
    ready(pybuild, "box")
    pybuild("run", "--rm", "-v", "vol:/v", "full", "true", status=None)
    untouched(pybuild)
    owner = secret.stat().st_uid, (secret / "file").stat().st_uid
    for _ in range(4):
        pybuild("run", "--rm", "-u", "7", "-v", "vol:/x:U", "full", "true", status=None)
    assert (secret.stat().st_uid, (secret / "file").stat().st_uid) == owner
    untouched(pybuild)
    pybuild("rm", "-f", "box")
    pybuild("volume", "rm", "vol")


@pytest.mark.parametrize("running", [True, False])
def test_files_that_are_none_are_copied_out(pybuild: Pybuild, running: bool) -> None:
    """Nobody waits for a fifo, and no device is made on the machine."""
    script = (
        "mkdir /d; cd /d; mkfifo fifo; mknod disk b 8 0; mknod mem c 1 1; ln -s /dev/zero zero; "
        "dd if=/dev/zero of=sparse bs=1 count=0 seek=1M 2>/dev/null; chmod 4755 sparse; "
        "ln sparse twin; echo ready" + ("; sleep 1000" if running else "")
    )
    pybuild("run", "-d", "--name", "box", "busybox", "sh", "-c", script)
    ready(pybuild, "box")
    if not running:
        pybuild("wait", "box")
    for words in ((), ("-a",)):
        got = pybuild.out / f"got{len(words)}"
        pybuild("cp", *words, "box:/d", got)
        kinds = {path.name: stat.S_IFMT(path.lstat().st_mode) for path in got.iterdir()}
        assert kinds.pop("fifo") == stat.S_IFIFO
        assert stat.S_IFBLK not in kinds.values()
        assert stat.S_IFCHR not in kinds.values()
        assert os.readlink(got / "zero") == "/dev/zero"
        assert (got / "sparse").stat().st_ino == (got / "twin").stat().st_ino
    assert (pybuild.out / "got0" / "sparse").stat().st_mode & 0o7000 == 0
    pybuild("rm", "-f", "box")


@pytest.mark.parametrize("running", [True, False])
def test_an_archive_that_wants_to_be_elsewhere(pybuild: Pybuild, running: bool) -> None:
    victim = pybuild.out / "victim"
    victim.mkdir()
    (victim / "file").write_text(SECRET)
    pybuild.person.own(victim)
    pybuild("run", "-d", "--name", "box", "busybox", *(("sleep", "1000") if running else ("true",)))
    if not running:
        pybuild("wait", "box")
    up = "../" * 12
    for name, kind, target, status in (
        (f"{victim}/new", tarfile.REGTYPE, "", 0),
        (f"{up}{victim}/new", tarfile.REGTYPE, "", 1),
        (f"x/{up}{victim}/new", tarfile.REGTYPE, "", 1),
        ("link", tarfile.SYMTYPE, str(victim), 0),
        ("link/new", tarfile.REGTYPE, "", 0),
        ("hard", tarfile.LNKTYPE, f"{victim}/file", 1),
        ("hard", tarfile.LNKTYPE, f"{up}{victim}/file", 1),
        ("proc", tarfile.SYMTYPE, "/proc/self/root", 0),
        (f"proc{victim}/new", tarfile.REGTYPE, "", 0),
    ):
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as tar:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = kind, target, 2 * (kind == tarfile.REGTYPE)
            tar.addfile(info, io.BytesIO(b"x\n"))
        with pybuild.start("cp", "-", "box:/tmp", stdin=subprocess.PIPE, text=False, errors=None) as process:
            process.communicate(stream.getvalue())  # type: ignore[arg-type]
        assert process.returncode == status, name
    assert [path.name for path in victim.iterdir()] == ["file"]
    assert (victim / "file").stat().st_nlink == 1
    pybuild("rm", "-f", "box")


def test_names_of_users_that_are_a_trap(pybuild: Pybuild) -> None:
    """/etc/passwd of a container that runs is a fifo, endless, or a link to the machine's."""
    pybuild("run", "-d", "--name", "box", "busybox", "sh", "-c", "mkdir -p /etc; echo ready; sleep 1000")
    ready(pybuild, "box")
    for made in ("mkfifo", "ln -s /dev/zero", "ln -s /proc/1/root/etc/passwd", "ln -s none", "mkdir"):
        pybuild("exec", "box", "sh", "-c", f"rm -rf /etc/passwd; {made} /etc/passwd")
        done = pybuild("exec", "-u", "daemon", "box", "true", status=None, timeout=60)
        assert done.status != 0
        assert pybuild("exec", "-u", "5", "box", "echo", "in").stdout == "in\n"
    pybuild("rm", "-f", "box")


def test_what_commands_of_health_checks_and_exec_are_handed(pybuild: Pybuild) -> None:
    look = "ls -l /proc/$$/fd; tr '\\0' '\\n' </proc/$$/environ"
    check = ("--health-cmd", f"({look}) > /found; test -s /found", "--health-interval", "1s")
    pybuild("run", "-d", "--name", "box", *check, "busybox", "sleep", "1000")
    with pybuild.start("events", "-f", "event=health_status: healthy", "--since", "10m") as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        process.kill()
    texts = [pybuild("exec", *words, "box", "sh", "-c", look).stdout for words in ((), ("-i",), ("-t",))]
    for text in (pybuild("exec", "box", "cat", "/found").stdout, *texts):
        # With -t the shell has its terminal once more.
        assert set(re.findall(r" (\d+) -> ", text)) <= {"0", "1", "2", "10"}, text
        assert "socket:" not in text and "PYBUILD" not in text and str(pybuild.folder) not in text
    pybuild("rm", "-f", "box")


def test_working_directories_that_are_descriptors(pybuild: Pybuild) -> None:
    """Of a process on its way in (CVE-2024-21626), directly and by a link of the container's."""
    script = "for n in $(seq 3 15); do ln -s /proc/self/fd/$n /w$n; done; echo ready; sleep 1000"
    pybuild("run", "-d", "--name", "box", "busybox", "sh", "-c", script)
    ready(pybuild, "box")
    for number in range(3, 16, 2):
        for place in (f"/proc/self/fd/{number}", f"/w{number}"):
            done = pybuild("exec", "-w", place, "box", "ls", "-A", ".", status=None)
            assert (done.status, done.stdout) == (126, ""), done
            assert "cannot be entered" in done.stderr
    pybuild("rm", "-f", "box")


def test_a_program_that_is_the_one_that_runs_it(pybuild: Pybuild) -> None:
    """What a command that enters is told to execute is never our own interpreter (CVE-2019-5736)."""
    script = "ln -s /proc/self/exe /evil; echo ready; sleep 1000"
    pybuild("run", "-d", "--name", "box", "busybox", "sh", "-c", script)
    ready(pybuild, "box")
    done = pybuild("exec", "box", "/evil", "-c", "print('python')", status=None)
    assert done.status != 0
    assert "python" not in done.stdout
    pybuild("rm", "-f", "box")


def test_names_of_files_and_processes_do_not_drive_the_terminal(me: Pybuild) -> None:
    named = r"""touch "$(printf '/x\033]0;title\007\033[2J')"; echo ready; """
    script = named + r"""sh -c ': "$(printf "\033]0;t\007")"; sleep 1000'"""
    me("run", "-d", "--name", "box", "busybox", "sh", "-c", script)
    ready(me, "box")
    for words in (("diff", "box"), ("top", "box"), ("cp", "box:/x", str(me.out / "none" / "there"))):
        child = on_terminal(me, *words)
        child.expect(pexpect.EOF)
        child.close()
        assert "\x07" not in child.before and "\x1b]" not in child.before and "\x1b[2J" not in child.before
    me("rm", "-f", "box")
