"""Blobs on their way: what is left of those that nobody waits for any longer."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from buildkit_py.content.store import ContentStore
from buildkit_py.digest import of_bytes
from buildkit_py.errors import StoreError
from buildkit_py.image.assemble import LayerBlob
from buildkit_py.oci import media
from buildkit_py.progress.events import ignore
from buildkit_py.source import download
from buildkit_py.source.download import Downloads

DATA = b"x" * 1000
BLOB = LayerBlob(media.OCI_LAYER, of_bytes(DATA), len(DATA))


def test_a_download_that_hangs_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_FAREWELL_SECONDS", 0.01)
    content = ContentStore(str(tmp_path))
    silent, over = threading.Event(), threading.Event()

    def fetch(blob: LayerBlob) -> Iterator[bytes]:
        yield DATA[:10]
        silent.set()
        over.wait(30)
        yield DATA[10:]

    downloads = Downloads(content, [BLOB], fetch, 1, ignore, "")
    (thread,) = downloads._threads
    with pytest.raises(KeyboardInterrupt), downloads:
        arrival = downloads.arrival(BLOB.digest)
        assert arrival is not None and arrival.read() == DATA[:10] and silent.wait(30)
        raise KeyboardInterrupt
    assert os.listdir(tmp_path / "staging") == []
    over.set()
    thread.join(30)
    assert list(content.digests()) == [] and os.listdir(tmp_path / "staging") == []


def test_an_abandoned_blob_is_not_stored(tmp_path: Path) -> None:
    content = ContentStore(str(tmp_path))
    with content.writer() as writer:
        writer.write(DATA)
        writer.abandon()
        with pytest.raises(StoreError):
            writer.commit()
    assert list(content.digests()) == [] and os.listdir(tmp_path / "staging") == []
