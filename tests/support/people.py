"""The kinds of user that pybuild serves, and which of them this run can be.

root     real root
ids      an ordinary user with subordinate ids: a full user namespace
single   an ordinary user without them: one id is mapped and root is emulated

As root all three are tested, the last two as users that scripts/setup.sh makes. As an ordinary user only that
user is, and the tests of the others are reported as deselected.
"""

from __future__ import annotations

import os
import pwd
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

KINDS = ("root", "ids", "single")
USERS = {
    "ids": os.environ.get("PYBUILD_TEST_IDS_USER", "pybuild-ids"),
    "single": os.environ.get("PYBUILD_TEST_SINGLE_USER", "pybuild-single"),
}


class Person(NamedTuple):
    """One user. ``kind`` is one of KINDS."""

    kind: str
    user: str
    uid: int
    gid: int

    def popen(self) -> dict[str, Any]:
        """The arguments of subprocess.Popen that make the child run as this user."""
        if self.uid == os.geteuid():
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": os.getgrouplist(self.user, self.gid)}

    def own(self, path: Path) -> Path:
        """Give a file or a whole tree to this user."""
        if self.uid != os.geteuid():
            os.lchown(path, self.uid, self.gid)
            for folder, folders, files in os.walk(path):
                for name in folders + files:
                    os.lchown(os.path.join(folder, name), self.uid, self.gid)
        return path


def available() -> tuple[str, ...]:
    if os.geteuid() == 0:
        return KINDS
    return ("ids",) if _has_subordinate_ids(pwd.getpwuid(os.geteuid()).pw_name) else ("single",)


@cache
def person(kind: str) -> Person:
    """Raises LookupError where the machine has no such user; the message tells the mend."""
    if kind not in available():
        raise LookupError(f"this run can't be the user '{kind}': run pytest as root")
    if kind == "root" or os.geteuid() != 0:
        entry = pwd.getpwuid(os.geteuid())
    else:
        try:
            entry = pwd.getpwnam(USERS[kind])
        except KeyError:
            raise LookupError(f"no user {USERS[kind]}: run scripts/setup.sh test") from None
        if _has_subordinate_ids(entry.pw_name) != (kind == "ids"):
            raise LookupError(f"/etc/subuid is wrong for {entry.pw_name}: run scripts/setup.sh test")
    return Person(kind, entry.pw_name, entry.pw_uid, entry.pw_gid)


def _has_subordinate_ids(user: str) -> bool:
    uid = str(pwd.getpwnam(user).pw_uid)

    def listed(path: str) -> bool:
        try:
            lines = Path(path).read_text().splitlines()
        except OSError:
            return False
        return any(line.split(":")[0] in (user, uid) for line in lines)

    return listed("/etc/subuid") and listed("/etc/subgid")
