"""What is remembered of a build context, so that unchanged files are not read again.

Two files for each directory, under ``contexts/`` of the store:

``<name>.memo``   signature of a whole selection -> content digest; a few KiB, read on every build
``<name>.bin``    path -> what stat said, and the SHA-256 and xattrs found then; read only where the memo
                  doesn't know the selection

Both are a magic string with a version, then one marshal'ed dict (never pickle: marshal makes plain values
only). What doesn't load is ignored. Written beside and renamed; two processes at once lose nothing but
what one of them had learnt. marshal's own format may change with the interpreter, so its version and the
interpreter's are part of the magic.
"""

from __future__ import annotations

import marshal
import os
import sys
from _thread import allocate_lock  # what threading.Lock is, without importing threading

import xxhash

from buildkit_py.digest import Digest, is_valid
from buildkit_py.typed import Any

_MAGIC = b"pybuild context 1 %d.%d.%d\n" % (*sys.version_info[:2], marshal.version)
_MAX_MEMO = 64
"""Selections remembered: enough for every COPY of a few Dockerfiles that share a context."""


class StatCache:
    """Of one context directory. Threads may share it."""

    writes = True
    """False: what is learnt is forgotten again with the process."""

    def __init__(self, path: str) -> None:
        """``path`` without suffix; nothing is read until asked."""
        self._path = path
        self._lock = allocate_lock()
        self._memo: dict[bytes, str] | None = None
        self._table: dict[str, bytes] | None = None

    @classmethod
    def of_directory(cls, store_root: str, directory: str) -> StatCache:
        name = xxhash.xxh3_128_hexdigest(os.fsencode(os.path.realpath(directory)))
        return cls(os.path.join(store_root, "contexts", name))

    def recall(self, signature: bytes) -> Digest | None:
        """The content digest of a selection seen before with this very signature."""
        with self._lock:
            found = self._load_memo().get(signature)
        return Digest(found) if isinstance(found, str) and is_valid(found) else None

    def remember(self, signature: bytes, digest: Digest) -> None:
        with self._lock:
            self._memo = None  # what other processes learnt meanwhile is kept
            memo = self._load_memo()
            memo.pop(signature, None)
            memo[signature] = digest
            for old in list(memo)[:-_MAX_MEMO]:
                del memo[old]
            self._write(".memo", memo)

    def table(self) -> dict[str, bytes]:
        """path -> stat bytes and what was found then. Read only; grow it with learn()."""
        with self._lock:
            if self._table is None:
                self._table = self._read(".bin")
            return self._table

    def learn(self, fresh: dict[str, bytes], seen: set[str] | None = None) -> None:
        """Add rows and write the table. ``seen``: every path of a selection; where the table has grown to
        several times that, rows of paths that weren't seen are dropped (renamed and deleted files)."""
        table = self.table()
        with self._lock:
            merged = table | fresh
            if seen is not None and len(merged) > 4 * len(seen) + 4096:
                merged = {path: row for path, row in merged.items() if path in seen}
            self._table = merged
            self._write(".bin", merged)

    def _load_memo(self) -> dict[bytes, str]:
        if self._memo is None:
            self._memo = self._read(".memo")
        return self._memo

    def _read(self, suffix: str) -> dict[Any, Any]:
        try:
            with open(self._path + suffix, "rb") as f:
                data = f.read()
        except OSError:
            return {}
        if not data.startswith(_MAGIC):
            return {}
        try:
            found = marshal.loads(memoryview(data)[len(_MAGIC) :])
        except (ValueError, EOFError, TypeError):
            return {}
        kind = str if suffix == ".memo" else bytes
        if not isinstance(found, dict) or not set(map(type, found.values())) <= {kind}:
            return {}
        return found

    def _write(self, suffix: str, values: dict[Any, Any]) -> None:
        """A cache that can't be written (disk full, read-only) costs time, not the build."""
        if not self.writes:
            return
        staged = f"{self._path}{suffix}.{os.getpid()}.{id(self):x}"
        try:
            os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
            with open(staged, "wb") as f:
                f.write(_MAGIC)
                marshal.dump(values, f)
            os.rename(staged, self._path + suffix)
        except OSError:
            try:
                os.unlink(staged)
            except OSError:
                pass
