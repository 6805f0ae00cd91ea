"""The rows and directories of containers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from buildkit_py.database import Database
from buildkit_py.digest import of_bytes
from buildkit_py.errors import NotFoundError, PybuildError
from buildkit_py.runtime.container import Container, ContainerStore, start_time

IMAGE = of_bytes(b"image")


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    database = Database(str(tmp_path / "index.db"))
    yield database
    database.close()


@pytest.fixture
def store(tmp_path: Path, db: Database) -> ContainerStore:
    return ContainerStore(str(tmp_path), db)


def create(store: ContainerStore, name: str = "") -> Container:
    return store.create(name=name, image=IMAGE, ref="app", snapshot=None, command="sh", remove=False)


def test_a_new_one_is_alive_and_has_its_directories(store: ContainerStore) -> None:
    container = create(store)
    assert container.alive()
    assert sorted(os.listdir(store.path(container))) == ["fs", "work"]
    assert os.stat(store.path(container)).st_mode & 0o777 == 0o700
    assert store.list() == [container]


def test_names_are_made_up_and_differ(store: ContainerStore) -> None:
    assert len({create(store).name for _ in range(20)}) == 20


def test_a_taken_name_is_refused(store: ContainerStore) -> None:
    create(store, "web")
    with pytest.raises(PybuildError, match="'web' is in use"):
        create(store, "web")


def test_an_ended_one_keeps_its_status(store: ContainerStore) -> None:
    container = create(store)
    store.ended(container, 3)
    found = store.get(container.id[:12])
    assert found.status == 3
    assert not found.alive()


def test_a_row_whose_process_is_gone_is_not_alive(store: ContainerStore, db: Database) -> None:
    create(store, "web")
    db.run("UPDATE containers SET started = '1'")
    assert not store.get("web").alive()


def test_removal_takes_row_and_directory(store: ContainerStore) -> None:
    container = create(store)
    store.remove(container)
    assert store.list() == []
    assert not os.path.exists(store.path(container))


@pytest.mark.parametrize("name", ["nobody", "", "ab"])
def test_an_unknown_name_is_an_error(store: ContainerStore, name: str) -> None:
    create(store)
    with pytest.raises(NotFoundError):
        store.get(name)


def test_start_times_identify_a_process() -> None:
    assert start_time(os.getpid()).isdigit()
    assert start_time(2**22 + 1) == ""
