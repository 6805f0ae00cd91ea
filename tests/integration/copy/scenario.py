"""Run by test_identities.py as each kind of user, with buildkit_py on its path and nothing else.

Takes content digests before and after the process enters its identity, copies out of a context and out of a
stage, adds an archive, makes a working directory; prints digests (the same for every user) and the tree.
"""

from __future__ import annotations

import io
import json
import os
import stat
import sys
import tarfile

from buildkit_py.archive import member as kinds
from buildkit_py.archive.member import Member
from buildkit_py.archive.tar import TarWriter
from buildkit_py.cache.statcache import StatCache
from buildkit_py.database import Database
from buildkit_py.digest import SnapshotID
from buildkit_py.layer.apply import apply_layer
from buildkit_py.layer.diff import diff_id
from buildkit_py.linux import overlay, userns
from buildkit_py.linux.identity import Identity
from buildkit_py.llb.ops import Copy, File, Mkdir
from buildkit_py.snapshot.layertree import LayerTree
from buildkit_py.snapshot.store import SnapshotStore
from buildkit_py.snapshot.tree import Tree
from buildkit_py.source.local import open_context
from buildkit_py.worker import copy
from buildkit_py.worker.file import copy_content_key, run_file_op

CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")
T = 1_700_000_000_123_456_789
PASSWD = b"root:x:0:0::/root:/bin/sh\napp:x:1000:50::/home/app:/bin/sh\n"

OP = File(
    (
        Copy(1, (".",), "/app/"),
        Copy(1, ("src",), "/srv/", chown="app", chmod="u=rwX,go=rX"),
        Copy(2, ("out",), "/out", keep_owner=True),
        Copy(2, ("out/tool",), "/usr/bin/", keep_owner=True, chown="3:4"),
        Copy(1, ("some.tar",), "/unpacked/", unpack="auto"),
        Mkdir("/srv/dir", user="app"),
    )
)


def layer(*entries: tuple[Member, bytes]) -> bytes:
    out = io.BytesIO()
    writer = TarWriter(out.write)
    for member, data in entries:
        member = member._replace(mtime=T)
        if member.kind == kinds.REGULAR and data:
            writer.add_bytes(member, data)
        else:
            writer.add(member)
    writer.close()
    return out.getvalue()


def base() -> bytes:
    return layer(
        (Member("etc", kinds.DIRECTORY, 0o755), b""),
        (Member("etc/passwd"), PASSWD),
        (Member("srv", kinds.DIRECTORY, 0o2770, 7, 8, xattrs={"user.note": b"n"}), b""),
        (Member("srv/lib", kinds.DIRECTORY, 0o700, 9, 9), b""),
    )


def stage() -> bytes:
    return layer(
        (Member("out", kinds.DIRECTORY, 0o750, 5, 6), b""),
        (Member("out/sub", kinds.DIRECTORY, 0o2750, 5, 6), b""),
        (Member("out/sub/own", mode=0o4755, uid=1000, gid=50), b"own"),
        (Member("out/tool", mode=0o755, xattrs={"security.capability": CAPABILITY}), b"tool"),
        (Member("out/same", kinds.HARD_LINK, 0o755, target="out/tool"), b""),
        (Member("out/link", kinds.SYMLINK, 0o777, 1000, 50, target="tool"), b""),
        (Member("out/null", kinds.CHARACTER, 0o666, rdev=os.makedev(1, 3)), b""),
        (Member("out/pipe", kinds.FIFO, 0o620, 5, 6), b""),
        (Member("out/wide", uid=3_000_000, gid=3_000_000), b"x"),
    )


def archive() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, kind, uid in (
            ("a", tarfile.REGTYPE, 77),
            ("l", tarfile.SYMTYPE, 78),
            ("c", tarfile.CHRTYPE, 0),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.uid, info.gid, info.mode, info.mtime = kind, uid, uid, 0o4755, 1_234_567_890
            info.linkname, info.devmajor, info.devminor = "a", 1, 5
            tar.addfile(info)
    return out.getvalue()


def context(root: str) -> str:
    for path in ("src/lib", "many"):
        os.makedirs(f"{root}/{path}")
    files = {"src/a": b"A", "src/lib/b": b"B", "some.tar": archive(), "setuid": b"S"}
    files |= {f"many/{n:03}": b"%d" % n for n in range(200)}
    for path, data in files.items():
        with open(f"{root}/{path}", "wb") as file:
            file.write(data)
    os.symlink("../src/a", root + "/many/link")
    os.link(root + "/src/a", root + "/src/lib/hard")
    os.chmod(root + "/setuid", 0o4711)
    for folder, folders, names in os.walk(root, topdown=False):
        for name in folders + names:
            os.utime(f"{folder}/{name}", ns=(T, T), follow_symlinks=False)
    return root


def shown(tree: LayerTree) -> list[list[object]]:
    found: list[list[object]] = []
    for entry in tree.walk(""):
        if entry.path.startswith("app/many/"):
            continue
        xattrs = {} if stat.S_ISLNK(entry.mode) else tree.xattrs(entry)
        found.append(
            [
                entry.path, oct(entry.mode), entry.uid, entry.gid, entry.rdev, entry.stat.st_mtime_ns,
                {name: value.hex() for name, value in xattrs.items()},
            ]
        )  # fmt: skip
    return found


def put(store: SnapshotStore, identity: Identity, data: bytes) -> SnapshotID:
    with store.prepare() as staged:
        found = apply_layer(io.BytesIO(data), staged.fs, identity, staged.owners)
        return store.commit(staged, None, diff_id=found)


def kernel_agrees(store: SnapshotStore, id: SnapshotID) -> bool:
    """What the kernel shows of the stack when it is mounted, against what we read of it."""
    fd = overlay.mount(store.layers(id))
    try:
        for entry in store.tree(id).walk(""):
            st = os.stat(entry.path, dir_fd=fd, follow_symlinks=False)
            if stat.S_IFMT(st.st_mode) != stat.S_IFMT(entry.stat.st_mode):
                return False
        return True
    finally:
        os.close(fd)


def main(root: str) -> None:
    tree = open_context(context(root + "/context"))
    cache = StatCache.of_directory(root, tree.root)
    copies = [a for a in OP.actions if isinstance(a, Copy) and a.input == 1]
    before = [copy_content_key(a, tree, cache)[0] for a in copies]
    identity = userns.enter()
    db = Database(root + "/index.db")
    store = SnapshotStore(root, db)
    store.use(identity)
    below, source = put(store, identity, base()), put(store, identity, stage())
    inputs: list[Tree] = [store.tree(below), tree, store.tree(source)]
    after = [copy_content_key(a, tree, StatCache.of_directory(root, tree.root))[0] for a in copies]
    keys = [
        copy_content_key(a, inputs[2], None)[0] for a in OP.actions if isinstance(a, Copy) and a.input == 2
    ]
    copy._MANY, copy._RUN = 50, 20  # so that a child has its share
    with store.prepare() as staged:
        run_file_op(OP, store.tree(below), inputs, {}, staged, identity)
        top = store.commit(staged, below)
    result: dict[str, object] = {
        "mode": identity.mode,
        "keys": after + keys,
        "before as after": before == after,
        "digest": diff_id(store.layers(top)[0], lower=store.tree(below)),
        "tree": shown(store.tree(top)),
        "kernel agrees": kernel_agrees(store, top),
    }
    store.close()
    db.close()
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1])
