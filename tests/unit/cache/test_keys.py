"""What a cache key holds and what it must not (the table "What a cache key holds" of the language page)."""

from __future__ import annotations

from typing import Any

import pytest

from buildkit_py.cache import keys
from buildkit_py.digest import Digest, of_bytes
from buildkit_py.llb.ops import Copy, Exec, File, ImageSource, Mkdir, Mount

PARENT = of_bytes(b"parent")
CONTENT = of_bytes(b"content")
STEP = Exec(("/bin/sh", "-c", "make"), ("A=1",), "/src")


def exec_digest(op: Exec, parent: Digest = PARENT, contents: dict[int, Digest] | None = None) -> Digest:
    inputs = [parent, of_bytes(b"other")]
    taken = [(contents or {}).get(m.input, "") for m in op.mounts]
    return keys.key_of(keys.exec_record(op, inputs, taken)).digest


@pytest.mark.parametrize(
    "change",
    [
        {"args": ("/bin/sh", "-c", "make all")},
        {"args": ("/bin/sh -c make",)},
        {"env": ("A=2",)},
        {"env": ("A=1", "B=1")},
        {"cwd": "/other"},
        {"user": "app"},
        {"network": "none"},
        {"security": "insecure"},
        {"ulimits": (("nofile", 1, 2),)},
        {"platform": "linux/arm64"},
        {"extra_hosts": (("db", "10.0.0.1"),)},
        {"hostname": "builder"},
        {"mounts": (Mount("tmpfs", "/scratch"),)},
        {"mounts": (Mount("cache", "/root/.cache", id="c"),)},
        {"shm_size": 1 << 20},
        {"devices": ("vendor.com/class=name",)},
    ],
    ids=str,
)
def test_what_changes_an_exec_key(change: dict[str, Any]) -> None:
    assert exec_digest(STEP._replace(**change)) != exec_digest(STEP)


def test_another_parent_is_another_key() -> None:
    assert exec_digest(STEP, of_bytes(b"another")) != exec_digest(STEP)


def test_the_content_of_a_bind_mount_counts_and_that_of_others_does_not() -> None:
    bind = STEP._replace(mounts=(Mount("bind", "/in", input=1),))
    assert exec_digest(bind, contents={1: CONTENT}) != exec_digest(bind, contents={1: PARENT})
    secret = STEP._replace(mounts=(Mount("secret", "/run/secrets/s", id="s"),))
    assert exec_digest(secret, contents={1: CONTENT}) == exec_digest(secret, contents={1: PARENT})


def test_where_the_content_of_a_bind_mount_lay_is_not_in_the_key() -> None:
    one = STEP._replace(mounts=(Mount("bind", "/in", input=1, source="/a"),))
    two = STEP._replace(mounts=(Mount("bind", "/in", input=1, source="/b"),))
    assert exec_digest(one, contents={1: CONTENT}) == exec_digest(two, contents={1: CONTENT})
    assert exec_digest(one) != exec_digest(two)


def test_what_a_cache_mount_starts_from_counts() -> None:
    op = STEP._replace(mounts=(Mount("cache", "/c", input=1, id="c"),))
    record = keys.exec_record(op, [PARENT, CONTENT], [""])
    assert record != keys.exec_record(op, [PARENT, PARENT], [""])


def test_the_modes_of_a_cache_mount_do_not_count() -> None:
    one = STEP._replace(mounts=(Mount("cache", "/c", id="c", mode=0o700, sharing="shared"),))
    two = STEP._replace(mounts=(Mount("cache", "/c", id="c", mode=0o755, sharing="locked"),))
    assert exec_digest(one) == exec_digest(two)


def file_digest(action: Copy | Mkdir, content: Digest = CONTENT, parent: Digest | None = PARENT) -> Digest:
    return keys.key_of(keys.file_record(File((action,)), parent, [content])).digest


COPY = Copy(1, ("src",), "/dst/")


@pytest.mark.parametrize(
    "change",
    [
        {"dest": "/dst"},
        {"chown": "1:1"},
        {"chmod": "755"},
        {"keep_owner": True},
        {"parents": True},
        {"unpack": "auto"},
    ],
    ids=str,
)
def test_what_changes_a_copy_key(change: dict[str, Any]) -> None:
    assert file_digest(COPY._replace(**change)) != file_digest(COPY)


@pytest.mark.parametrize("change", [{"sources": ("other",)}, {"input": 2}, {"exclude": ("x",)}], ids=str)
def test_where_the_source_lay_is_not_in_a_copy_key(change: dict[str, Any]) -> None:
    assert file_digest(COPY._replace(**change)) == file_digest(COPY)


def test_content_and_parent_are_in_a_copy_key() -> None:
    assert file_digest(COPY, PARENT) != file_digest(COPY)
    assert file_digest(COPY, parent=None) != file_digest(COPY)


def test_the_definition_key_tells_sources_apart() -> None:
    inputs = [PARENT, CONTENT]
    one = keys.file_definition(File((COPY,)), inputs, [None])
    two = keys.file_definition(File((COPY._replace(sources=("other",)),)), inputs, [None])
    assert one != two


def test_the_definition_key_holds_what_is_known_of_the_content() -> None:
    op = File((COPY, COPY._replace(input=2)))
    inputs = [PARENT, CONTENT, CONTENT]
    one = keys.file_definition(op, inputs, [None, CONTENT])
    assert one != keys.file_definition(op, inputs, [None, PARENT])


def test_an_image_key_is_the_digest_and_not_the_tag() -> None:
    one = ImageSource("docker.io/library/a:1", CONTENT, "linux/amd64")
    assert keys.image_key(one).digest == keys.image_key(one._replace(ref="docker.io/library/a:2")).digest
    assert keys.image_key(one).digest != keys.image_key(one._replace(digest=PARENT)).digest


def test_a_record_has_named_fields_and_a_version() -> None:
    key = keys.key_of(keys.exec_record(STEP, [PARENT], []))
    assert key.record["v"] == keys.VERSION
    assert key.record["args"] == STEP.args
    assert key.record["parent"] == PARENT


def test_another_version_is_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = exec_digest(STEP), file_digest(COPY)
    monkeypatch.setattr(keys, "VERSION", keys.VERSION + 1)
    assert not {exec_digest(STEP), file_digest(COPY)} & {*before}


def test_file_names_that_are_not_utf8_have_keys() -> None:
    name = b"/\xff".decode("utf-8", "surrogateescape")
    assert file_digest(COPY._replace(dest=name)) != file_digest(COPY)
