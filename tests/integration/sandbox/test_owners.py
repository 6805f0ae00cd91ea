"""Root emulated on one mapped id: owners are recorded, wherever a file goes afterwards."""

from __future__ import annotations

import pytest

from buildkit_py.linux import caps
from tests.integration.sandbox.conftest import Sandboxes

pytestmark = pytest.mark.needs("overlay", "user-namespaces", "seccomp")


def recorded(upper: dict[str, list[object]], path: str) -> object:
    return upper[path][3]


def test_files_and_folders_carry_their_owner(single_sandbox: Sandboxes) -> None:
    done = single_sandbox.sh(
        """
        chown 5:6 /data/file && mkdir /d && chown 7:8 /d && touch /d/x && chown 9:9 /d/x && mv /d/x /y
        cd /d && touch ../rel && chown 2:3 ../rel && chown 4:4 /bin/sh
        """
    )
    assert done.status == 0, done.err
    assert recorded(done.upper, "data/file") == "5:6:0:0"
    assert recorded(done.upper, "d") == "7:8:0:0"
    assert recorded(done.upper, "y") == "9:9:0:0"
    assert recorded(done.upper, "rel") == "2:3:0:0"
    # Through the link /bin/sh, as chown without -h does.
    assert recorded(done.upper, "bin/busybox") == "4:4:0:0"
    assert done.marked


def test_roots_own_files_are_not_touched(single_sandbox: Sandboxes) -> None:
    done = single_sandbox.sh("chown 0:0 /data/file /bin && chown -h 0:0 /data")
    assert done.status == 0
    assert done.upper == {}
    assert not done.marked


def test_links_and_fifos_are_followed_through_renames(single_sandbox: Sandboxes) -> None:
    done = single_sandbox.sh(
        """
        chown -h 7:8 /data/link && ln -s x /new && chown -h 9:10 /new && mkdir /to && mv /new /to/moved
        mkfifo /fifo && chown 3:4 /fifo && ln -s y /gone && chown -h 1:1 /gone && rm /gone && ln -s z /plain
        """
    )
    assert done.status == 0, done.err
    assert done.owners == {"data/link": [7, 8, 0, 0], "to/moved": [9, 10, 0, 0], "fifo": [3, 4, 0, 0]}
    assert "plain" in done.upper


def test_devices_are_recorded(single_sandbox: Sandboxes) -> None:
    done = single_sandbox.sh(
        """
        mknod /null c 1 3 && chown 0:5 /null && umask 077 && mknod /disk b 8 1 && mknod /p p && [ -p /p ]
        mknod /null c 1 3; echo $?
        """
    )
    assert done.out == "1\n"
    assert recorded(done.upper, "null") == f"0:5:{0o20644:o}:{(1 << 8) | 3}"
    assert recorded(done.upper, "disk") == f"0:0:{0o60600:o}:{(8 << 8) | 1}"
    assert done.upper["null"][0] == "0o100644"


def test_set_id_bits(single_sandbox: Sandboxes) -> None:
    done = single_sandbox.sh("touch a b; chmod 4755 a b; chown 1:1 a; chown 1:1 b; chmod 2755 b")
    # A new owner has not asked for the bit.
    assert done.upper["a"][0] == "0o100755"
    assert done.upper["b"][0] == "0o102755"


def test_changes_of_ids_are_answered(single_sandbox: Sandboxes) -> None:
    done = single_sandbox.sh(
        """
        mkdir /etc 2>/dev/null; echo 'app:x:100:101::/:/bin/sh' >/etc/passwd; echo 'app:x:101:' >/etc/group
        su app -c 'echo ran'; chown app:app /data/file
        """
    )
    assert "ran" in done.out
    assert recorded(done.upper, "data/file") == "100:101:0:0"


def test_errors_are_the_kernels(single_sandbox: Sandboxes) -> None:
    done = single_sandbox.sh(
        """
        chown 1 /no/such; chown 1 /data/file/x; ln -s loop /loop; chown 1 /loop
        chown 1 /dev/stdout /dev/null /proc/version && echo ignored
        """
    )
    assert (
        done.err.splitlines()
        == [
            "chown: /no/such: No such file or directory",
            "chown: /data/file/x: Not a directory",
            "chown: /loop: Symbolic link loop",
        ]
        or "Too many levels" in done.err
    )
    assert done.out == "ignored\n"


def test_a_readonly_root_is_readonly(single_sandbox: Sandboxes) -> None:
    done = single_sandbox.sh("chown 5:5 /data/file", upper="")
    assert done.status == 1
    assert "Read-only file system" in done.err


def test_inside_a_chroot(single_sandbox: Sandboxes) -> None:
    done = single_sandbox.sh(
        """
        mkdir -p /r/bin /r/data && cp /bin/busybox /r/bin && touch /r/f /f
        ln -s /f /r/link
        chroot /r /bin/busybox sh -c 'busybox chown 20:21 /f; busybox chown 22:23 link'
        """
    )
    assert done.status == 0, done.err
    assert recorded(done.upper, "r/f") == "22:23:0:0"
    assert recorded(done.upper, "f") is None


def test_what_another_user_makes_is_that_users(single_sandbox: Sandboxes) -> None:
    done = single_sandbox.sh(
        "id; touch /tmp/x; ln -s a /tmp/l; mkdir /tmp/d; echo more >>/data/file; chown 0 /tmp/x; echo $?",
        uid=1000,
        gid=1001,
    )
    assert done.out.startswith("uid=1000 gid=1001")
    assert done.out.endswith("1\n")
    assert recorded(done.upper, "tmp/x") == "1000:1001:0:0"
    assert recorded(done.upper, "tmp/d") == "1000:1001:0:0"
    assert done.owners == {"tmp/l": [1000, 1001, 0, 0]}
    # They were there before, and are only changed.
    assert recorded(done.upper, "data/file") is None
    assert recorded(done.upper, "tmp") is None


def test_privileged_is_emulated_too(single_sandbox: Sandboxes) -> None:
    done = single_sandbox.sh(
        "chown 3:4 /data/file && mount -t tmpfs x /tmp && echo yes",
        privileged=True,
        capabilities=caps.ALL,
        seccomp="unconfined",
    )
    assert done.out == "yes\n"
    assert recorded(done.upper, "data/file") == "3:4:0:0"


def test_apt_is_told_to_stay_root(single_sandbox: Sandboxes) -> None:
    done = single_sandbox.sh("cat $APT_CONFIG; ls -a /dev")
    assert done.out.startswith('APT::Sandbox::User "root";\n')
    assert done.upper == {}


def test_many_callers_at_once(single_sandbox: Sandboxes) -> None:
    done = single_sandbox.sh(
        """
        for i in 1 2 3 4 5 6; do
            (for j in 1 2 3 4 5 6 7 8 9 10; do touch /f$i-$j; chown $i:$j /f$i-$j; done) &
        done
        wait
        """
    )
    assert {recorded(done.upper, f"f{i}-{j}") for i in range(1, 7) for j in range(1, 11)} == {
        f"{i}:{j}:0:0" for i in range(1, 7) for j in range(1, 11)
    }
