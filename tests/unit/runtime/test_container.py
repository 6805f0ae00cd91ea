"""Containers as directories, rows and locks."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from buildkit_py.database import Database
from buildkit_py.errors import NotFoundError, PybuildError
from buildkit_py.runtime import config as configs
from buildkit_py.runtime import state as states
from buildkit_py.runtime.container import Container, ContainerStore, lock
from buildkit_py.runtime.state import State
from tests.support.containers import config


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    database = Database(str(tmp_path / "index.db"))
    yield database
    database.close()


@pytest.fixture
def store(tmp_path: Path, db: Database) -> ContainerStore:
    return ContainerStore(str(tmp_path), db)


def create(store: ContainerStore, name: str = "") -> Container:
    return store.create(config(store.new_id(), name))


def test_a_new_one_has_its_directories_and_doesnt_run(store: ContainerStore) -> None:
    container = create(store)
    assert not container.alive()
    assert container.state() == State()
    assert sorted(os.listdir(container.path)) == ["config.json", "fs", "lock", "work"]
    assert os.stat(container.path).st_mode & 0o777 == 0o700
    assert store.list() == [container]
    assert container.config().name == container.name


def test_names_are_made_up_and_differ(store: ContainerStore) -> None:
    assert len({create(store).name for _ in range(20)}) == 20


def test_a_taken_name_is_refused(store: ContainerStore) -> None:
    create(store, "web")
    with pytest.raises(PybuildError, match="'web' is in use"):
        create(store, "web")
    assert len(store.list()) == 1
    assert [n for n in os.listdir(os.path.dirname(store.list()[0].path)) if n.startswith(".new")] == []


@pytest.mark.parametrize("name", ["-x", "a b", "a/b", "../x", ".hidden", "ä1"])
def test_what_is_no_name_is_refused(store: ContainerStore, name: str) -> None:
    with pytest.raises(PybuildError, match="is no name"):
        create(store, name)


def test_renaming_frees_the_old_name(store: ContainerStore) -> None:
    container = create(store, "web")
    other = create(store, "other")
    with pytest.raises(PybuildError, match="in use"):
        store.rename(container, "other")
    store.rename(container, "site")
    assert store.get("site").config().name == "site"
    assert create(store, "web").id not in (container.id, other.id)


def test_one_whose_lock_is_held_runs_and_cant_be_removed(store: ContainerStore) -> None:
    from buildkit_py.runtime import control

    container = create(store, "web")
    listener = control.listen(container.path)
    fd = lock(container.path)
    assert container.alive()
    with pytest.raises(PybuildError, match="is running"):
        store.remove(container)
    os.close(fd)
    listener.close()
    assert not container.alive()
    store.remove(container)
    assert store.list() == []
    assert not os.path.exists(container.path)
    with pytest.raises(NotFoundError):
        store.remove(container)


def test_one_that_says_it_runs_but_isnt_locked_has_died(store: ContainerStore) -> None:
    container = create(store)
    states.write(container.path, State(status="running", pid=1, started=time.time()))
    state = container.state()
    assert (state.status, state.exit_code, state.pid) == ("exited", 137, 0)
    assert "was killed" in state.error


def test_rows_are_mended_by_what_the_directories_say(store: ContainerStore, db: Database) -> None:
    gone, kept = create(store, "gone"), create(store, "kept")
    os.rename(gone.path, str(Path(gone.path).parent / ".elsewhere"))
    db.run("DELETE FROM container_names WHERE id = ?", (kept.id,))
    assert store.list() == [kept]
    assert create(store, "gone").name == "gone"


def test_a_directory_without_a_config_is_thrown_away(store: ContainerStore) -> None:
    container = create(store)
    os.unlink(container.part(configs.FILE))
    db_row_less = Path(container.path).parent / ("f" * 64)
    db_row_less.mkdir()
    assert store.list() == [container]
    assert not db_row_less.exists()
    assert store.collect_trash() == 0
    assert os.listdir(Path(container.path).parent / ".trash") == []


@pytest.mark.parametrize("name", ["nobody", "", "zz"])
def test_an_unknown_name_is_an_error(store: ContainerStore, name: str) -> None:
    create(store)
    with pytest.raises(NotFoundError):
        store.get(name)


def test_ids_can_be_cut_short_while_they_are_clear(store: ContainerStore) -> None:
    one = store.create(config("ab" + "0" * 62, "one"))
    two = store.create(config("ac" + "0" * 62, "two"))
    assert store.get("ab") == one
    assert store.get(two.id) == two
    with pytest.raises(NotFoundError, match="several"):
        store.get("a")
