"""Run by test_identities.py as each kind of user, with buildkit_py on its path and nothing else.

Unpacks a layer that holds everything, stacks a second one, mounts both, changes the mounted tree, and prints
what came out as JSON: digests, which must be the same for every user, and the tree.
"""

from __future__ import annotations

import io
import json
import os
import stat
import sys

from buildkit_py.archive import member as kinds
from buildkit_py.archive.member import Member
from buildkit_py.archive.tar import TarWriter
from buildkit_py.database import Database
from buildkit_py.digest import SnapshotID
from buildkit_py.layer.apply import apply_layer
from buildkit_py.layer.diff import diff_id
from buildkit_py.linux import overlay, userns
from buildkit_py.linux.identity import Identity
from buildkit_py.snapshot.layertree import LayerTree
from buildkit_py.snapshot.merge import capture, materialise
from buildkit_py.snapshot.store import SnapshotStore

CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")
T = 1_700_000_000_123_456_789


def tar(*entries: tuple[Member, bytes]) -> bytes:
    out = io.BytesIO()
    writer = TarWriter(out.write)
    for member, data in entries:
        member = member._replace(mtime=member.mtime or T)
        if member.kind == kinds.REGULAR and data:
            writer.add_bytes(member, data)
        else:
            writer.add(member)
    writer.close()
    return out.getvalue()


def folder(path: str, uid: int = 0, gid: int = 0, mode: int = 0o755) -> tuple[Member, bytes]:
    return Member(path, kinds.DIRECTORY, mode, uid, gid), b""


def base() -> bytes:
    link = Member("home/l", kinds.SYMLINK, 0o777, 1000, 1000, target="f")
    return tar(
        folder("dev"),
        (Member("dev/null", kinds.CHARACTER, 0o666, rdev=os.makedev(1, 3)), b""),
        (Member("dev/pipe", kinds.FIFO, 0o620, 5, 6), b""),
        folder("home", 1000, 1000, 0o2750),
        (Member("home/f", mode=0o4755, uid=1000, gid=1000, xattrs={"user.note": b"\0"}), b"data"),
        (link, b""),
        (Member("home/same", kinds.HARD_LINK, 0o4755, 1000, 1000, target="home/f"), b""),
        (Member("home/wide", uid=3_000_000, gid=3_000_000), b"x"),
        (Member("ping", mode=0o755, xattrs={"security.capability": CAPABILITY}), b"ping"),
        folder("old"),
        (Member("old/a"), b"a"),
        (Member("removed"), b"r"),
        folder("whole"),
        (Member("whole/hidden"), b"h"),
        (Member("écrit\udcff"), b"name"),
    )


def upper() -> bytes:
    return tar(
        (Member(".wh.removed"), b""),
        folder("old"),
        (Member("old/.wh.a"), b""),
        (Member("old/b", uid=7), b"b"),
        folder("whole"),
        (Member("whole/.wh..wh..opq"), b""),
        (Member("whole/new"), b"n"),
    )


def put(store: SnapshotStore, identity: Identity, data: bytes, parent: SnapshotID | None) -> SnapshotID:
    with store.prepare() as staged:
        found = apply_layer(io.BytesIO(data), staged.fs, identity, staged.owners, lower=store.tree(parent))
        return store.commit(staged, parent, diff_id=found)


def shown(tree: LayerTree) -> list[list[object]]:
    found: list[list[object]] = []
    for entry in tree.walk(""):
        xattrs = {} if stat.S_ISLNK(entry.mode) else tree.xattrs(entry)
        size = entry.stat.st_size if stat.S_ISREG(entry.mode) else 0
        found.append(
            [
                ascii(entry.path), oct(entry.mode), entry.uid, entry.gid, entry.rdev, size,
                entry.stat.st_mtime_ns, {name: value.hex() for name, value in xattrs.items()},
            ]
        )  # fmt: skip
    return found


def change(root: str) -> None:
    """What a step might do. The times are set, so that the layer is the same each time."""
    os.unlink(root + "/ping")
    os.chmod(root + "/old/b", 0o600)
    os.mkdir(root + "/made")
    with open(root + "/made/f", "w") as file:
        file.write("made")
    os.link(root + "/made/f", root + "/made/g")
    os.rename(root + "/whole/new", root + "/whole/renamed")
    for path in ("made/f", "made", "whole/renamed", "whole", "old"):
        os.utime(f"{root}/{path}", ns=(T, T))


def names_on_a_mount(layers: tuple[str, ...]) -> list[str]:
    """What the kernel shows of a stack."""
    fd = overlay.mount(layers)
    found: list[str] = []
    try:
        todo = [""]
        while todo:
            directory = todo.pop()
            below = os.open(directory or ".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
            try:
                with os.scandir(below) as listing:
                    for item in listing:
                        path = f"{directory}/{item.name}" if directory else item.name
                        found.append(ascii(path))
                        if item.is_dir(follow_symlinks=False):
                            todo.append(path)
            finally:
                os.close(below)
    finally:
        os.close(fd)
    return sorted(found)


def step_on_overlay(store: SnapshotStore, parent: SnapshotID) -> SnapshotID:
    with store.prepare() as staged:
        fd = overlay.mount(store.layers(parent), staged.fs, staged.work)
        try:
            change(f"/proc/self/fd/{fd}")
        finally:
            os.close(fd)
        return store.commit(staged, parent)


def step_on_copy(store: SnapshotStore, parent: SnapshotID, dest: str) -> SnapshotID:
    os.mkdir(dest)
    recorded = materialise(store.tree(parent), dest)
    change(dest)
    with store.prepare() as staged:
        capture(dest, recorded, staged)
        return store.commit(staged, parent)


def main(root: str) -> None:
    identity = userns.enter()
    db = Database(root + "/index.db")
    store = SnapshotStore(root, db)
    store.use(identity)
    lowest = put(store, identity, base(), None)
    top = put(store, identity, upper(), lowest)
    kernel = names_on_a_mount(store.layers(top))
    ours = sorted(ascii(entry.path) for entry in store.tree(top).walk(""))
    mounted = step_on_overlay(store, top)
    copied = step_on_copy(store, top, root + "/copy")
    digests = [
        diff_id(store.layers(id)[0], lower=store.tree(store.parent(id)))
        for id in (lowest, top, mounted, copied)
    ]
    result: dict[str, object] = {
        "mode": identity.mode,
        "agrees with the kernel": kernel == ours,
        "digests": digests,
        "tree": shown(store.tree(mounted)),
        "after the copy": shown(store.tree(copied)) == shown(store.tree(mounted)),
    }
    for id in (mounted, copied, top, lowest):
        store.remove(id)
    store.collect_trash()
    result["left"] = os.listdir(f"{root}/snapshots/{store.mode}") + os.listdir(root + "/snapshots/.trash")
    store.close()
    db.close()
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1])
