"""The inputs of cache keys, for explaining: what ``why`` compares and ``cache inspect`` shows.

Written where a step begins to run, never for a hit, so a build where nothing changed pays nothing:

    inputs    one row a key: its record (see keys.py), the step's name and stage, and for each content digest
              in it where the files lay
    contents  one row a content digest: the selected files, as zstd of the very bytes that were hashed

So ``KeyInputs.get(key)`` tells every field that went into a key, and ``KeyInputs.files(digest)`` every file
behind a content digest that stands in a record's ``actions`` or ``mounts`` (``contents_of``). A key that was
found in a cache from elsewhere has no row; then the index's own record is all that is known.

Values of variables that look like secrets are replaced when a row is written, by ``hidden:`` and a digest
that is keyed with a random number of this store: whether one changed can be told, what it was can't.
The rows outlive the results (a pruned result is a reason too) and are swept with the build history.
"""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Iterable, Mapping, Sequence

from buildkit_py.cache.hashing import FIELDS, VERSION, Preimage
from buildkit_py.database import Database
from buildkit_py.digest import Digest
from buildkit_py.errors import PybuildError
from buildkit_py.llb.secrecy import shown_value
from buildkit_py.solver.types import Key
from buildkit_py.tuples import NamedTuple
from buildkit_py.typed import Any

_DDL = """
CREATE TABLE IF NOT EXISTS inputs (
    key TEXT PRIMARY KEY, name TEXT NOT NULL, stage TEXT NOT NULL, record TEXT NOT NULL,
    contents TEXT NOT NULL, created REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS contents (
    digest TEXT PRIMARY KEY, files BLOB NOT NULL, created REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS inputs_salt (salt BLOB NOT NULL)
"""
_COLUMNS = "key, name, stage, record, contents, created"
HIDDEN = "hidden:"
"""How a value begins that was not written down."""


class Inputs(NamedTuple):
    """One key's inputs. ``record`` is as hashed, but for hidden values; {} where it isn't known."""

    key: Digest
    name: str
    """Of the step that ran: ``[build 2/4] RUN make``."""
    stage: str
    record: dict[str, Any]
    created: float
    """Seconds since the epoch."""
    roots: dict[str, list[tuple[int, str]]]
    """By content digest, see KeyInputs.files()."""


class FileState(NamedTuple):
    """One file of a content digest."""

    mode: int
    """With its type."""
    uid: int
    gid: int
    size: int
    """Bytes; 0 for all but regular files."""
    rdev: int
    content: str
    """``sha256:…`` of a regular file's data, the target of a link, else ""."""
    xattrs: bytes = b""


class KeyInputs:
    def __init__(self, db: Database) -> None:
        self._db = db
        self._salt = b""
        db.ensure(_DDL)

    # Writing

    def note(self, key: Key, *, name: str, stage: str, hashed: Mapping[Digest, Preimage]) -> None:
        """A step with this key begins to run. ``hashed``: of content digests.

        May be called from any thread. Raises StoreError.
        """
        if not key.record:
            return  # known by an alias alone; what there is of it stays
        kept = {
            digest: hashed[digest].roots()
            for _, digest in contents_of(key.record)
            if digest in hashed and self._note_content(digest, hashed[digest])
        }
        self._db.run(
            "INSERT OR REPLACE INTO inputs VALUES (?, ?, ?, ?, ?, ?)",
            (key.digest, name, stage, json.dumps(self._masked(key.record)), json.dumps(kept), time.time()),
        )

    def _note_content(self, digest: Digest, hashed: Preimage) -> bool:
        """Whether the list is kept."""
        if self._db.one("SELECT 1 FROM contents WHERE digest = ?", (digest,)) is not None:
            return True
        try:
            data = hashed.data()
        except PybuildError:
            return False
        # A file that changed since it was hashed makes another list than the key's.
        if not _is_of(digest, data):
            return False
        import zstandard

        packed = zstandard.ZstdCompressor(level=1).compress(data)
        self._db.run("INSERT OR REPLACE INTO contents VALUES (?, ?, ?)", (digest, packed, time.time()))
        return True

    def _masked(self, record: dict[str, Any]) -> dict[str, Any]:
        if not any(HIDDEN not in item for item in record.get("env") or ()):
            return record
        return {**record, "env": [self._masked_variable(item) for item in record["env"]]}

    def _masked_variable(self, item: str) -> str:
        name, _, value = item.partition("=")
        if HIDDEN in value:
            return item
        shown = shown_value(name, value)
        if shown == value:
            return item
        mark = f"{HIDDEN}{self._keyed(value)}"
        return f"{name}={mark}" if shown is None else f"{name}={shown} ({mark})"

    def _keyed(self, value: str) -> str:
        from hashlib import blake2b

        if not self._salt:
            with self._db.transaction():
                row = self._db.one("SELECT salt FROM inputs_salt")
                if row is None:
                    row = (os.urandom(16),)
                    self._db.run("INSERT INTO inputs_salt VALUES (?)", row)
            self._salt = row[0]
        return blake2b(value.encode("utf-8", "surrogateescape"), key=self._salt, digest_size=6).hexdigest()

    # Reading

    def get(self, key: str) -> Inputs | None:
        row = self._db.one(f"SELECT {_COLUMNS} FROM inputs WHERE key = ?", (key,))
        if row is None:
            row = self._db.one(
                "SELECT key, name, '', record, '{}', created FROM results WHERE key = ?", (key,)
            )
        if row is None:
            return None
        found = _inputs(row)
        return found._replace(record=self._masked(found.record))

    def keys(self, digits: str) -> list[str]:
        """Those that begin with some hex digits."""
        rows = self._db.all("SELECT key FROM inputs WHERE substr(key, 8, ?) = ?", (len(digits), digits))
        return [key for (key,) in rows]

    def of_step(self, name: str, stage: str) -> list[Inputs]:
        """The keys of a step by its whole name, in whatever build, the latest first."""
        rows = self._db.all(
            f"SELECT {_COLUMNS} FROM inputs WHERE name = ? AND stage = ? ORDER BY created DESC", (name, stage)
        )
        return [_inputs(row) for row in rows]

    def files(self, digest: str, roots: Sequence[tuple[int, str]] = ()) -> dict[str, FileState] | None:
        """The files behind a content digest; None where the list is not kept.

        By their path in the source where ``roots`` (of the key's Inputs) is given, else by their place below
        the destination.
        """
        row = self._db.one("SELECT files FROM contents WHERE digest = ?", (digest,))
        if row is None:
            return None
        import zstandard

        return parse(zstandard.ZstdDecompressor().decompress(row[0]), roots)

    # Sweeping

    def sweep(self, before: float, keep: Iterable[str] = ()) -> int:
        """Forget the keys that were noted before a time, whose results are gone and that are not in
        ``keep``, and file lists that no key refers to then; the number of keys forgotten."""
        kept = json.dumps(sorted(keep))
        with self._db.transaction():
            gone = self._db.run(
                "DELETE FROM inputs WHERE created < ? AND key NOT IN (SELECT value FROM json_each(?))"
                " AND key NOT IN (SELECT key FROM results)",
                (before, kept),
            )
            self._db.run(
                "DELETE FROM contents WHERE created < ? AND digest NOT IN"
                " (SELECT j.key FROM inputs i, json_each(i.contents) j)",
                (before,),
            )
        return gone


def _inputs(row: tuple[Any, ...]) -> Inputs:
    key, name, stage, record, contents, created = row
    return Inputs(key, name, stage, json.loads(record), created, json.loads(contents))


def _is_of(digest: Digest, data: bytes) -> bool:
    from hashlib import sha256

    return digest == "sha256:" + sha256(data).hexdigest()


def contents_of(record: Mapping[str, Any]) -> list[tuple[Sequence[Any], Digest]]:
    """(what it is for, content digest) of each content in a key's record: a file action's fields without
    its sources, or a bind mount's."""
    actions = record.get("actions") or ()
    mounts = record.get("mounts") or ()
    return [(a[0], a[1]) for a in actions] + [(m[:-1], m[-1]) for m in mounts if m[-1]]


def parse(data: bytes, roots: Sequence[tuple[int, str]] = ()) -> dict[str, FileState]:
    """The bytes behind a content digest (hashing.py) as files, see KeyInputs.files(). Raises ValueError for
    anything else."""
    if not data.startswith(VERSION):
        raise ValueError("no content list of this version")
    files: dict[str, FileState] = {}
    at = len(VERSION)
    part = 0
    while at < len(data):
        drop, root = roots[part] if part < len(roots) else (0, "")
        _, at = _until_nul(data, at)
        while at < len(data) and data[at] != 0:
            name, at = _until_nul(data, at)
            mode, uid, gid, size, rdev, length = FIELDS.unpack_from(data, at)
            at += FIELDS.size
            found = data[at : at + length]
            at += length
            path = root + name.decode("utf-8", "surrogateescape")[drop:]
            files[path] = _state(mode, uid, gid, size, rdev, found)
        at += 1
        part += 1
    return files


def _until_nul(data: bytes, at: int) -> tuple[bytes, int]:
    end = data.index(b"\0", at)
    return data[at:end], end + 1


def _state(mode: int, uid: int, gid: int, size: int, rdev: int, found: bytes) -> FileState:
    if stat.S_ISREG(mode):
        return FileState(mode, uid, gid, size, rdev, "sha256:" + found[:32].hex(), found[32:])
    target, _, xattrs = found.partition(b"\0")
    content = target.decode("utf-8", "surrogateescape") if stat.S_ISLNK(mode) else ""
    return FileState(mode, uid, gid, size, rdev, content, xattrs)
