"""Fixtures for all tests: users, registry, base images, the program; and the leak check."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from buildkit_py.linux import syscalls as sc
from tests.support import leaks
from tests.support.people import KINDS, Person, available, person
from tests.support.program import REPOSITORY, remove_copies
from tests.support.registry import Registry
from tests.support.runner import Pybuild

DESELECTED = pytest.StashKey[int]()

# A capability is a program on the path, or one of these checks.
CAPABILITIES: dict[str, Callable[[], bool]] = {
    "root": lambda: os.geteuid() == 0,
    "overlay": lambda: "\toverlay\n" in Path("/proc/filesystems").read_text(),
    "tun": lambda: os.path.exists("/dev/net/tun"),
    "seccomp": lambda: "user_notif" in Path("/proc/sys/kernel/seccomp/actions_avail").read_text(),
    "user-namespaces": lambda: int(Path("/proc/sys/user/max_user_namespaces").read_text()) > 0,
}


def pytest_configure(config: pytest.Config) -> None:
    leaks.become_reaper()
    os.umask(0o022)
    # A shell's background jobs ignore it, and so would the programs that we start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if "PYTEST_XDIST_WORKER" in os.environ and os.geteuid() == 0:
        # What another worker's test mounts meanwhile is no leak of ours.
        sc.unshare(sc.CLONE_NEWNS)
        sc.mount("", "/", "", sc.MS_REC | sc.MS_PRIVATE)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Drop the tests of users that this run can't be. They are counted in the summary, not silently gone."""
    kept: list[pytest.Item] = []
    dropped: list[pytest.Item] = []
    for item in items:
        kinds = {_kind_of(name) for name in getattr(item, "fixturenames", ())} - {""}
        callspec = getattr(item, "callspec", None)
        if callspec and "each_identity" in callspec.params:
            kinds.add(callspec.params["each_identity"])
        if any("root" in mark.args for mark in item.iter_markers("needs")):
            kinds.add("root")
        (kept if kinds <= set(available()) else dropped).append(item)
    if dropped:
        items[:] = kept
        config.stash[DESELECTED] = len(dropped)
        config.hook.pytest_deselected(items=dropped)


def _kind_of(fixture: str) -> str:
    """The kind of user that a fixture stands for, by its name: ``ids``, ``single_sandbox``."""
    first = fixture.partition("_")[0]
    return first if fixture in KINDS or first in ("ids", "single") else ""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    count = config.stash.get(DESELECTED, 0)
    if count:
        others = ", ".join(kind for kind in KINDS if kind not in available())
        terminalreporter.write_line(
            f"{count} tests of other users ({others}) were not run: only root can be them (sudo make test)"
        )


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("needs"):
        for capability in mark.args:
            check = CAPABILITIES.get(capability)
            if not (check() if check else shutil.which(capability, path=_PATH)):
                pytest.fail(f"this machine has no {capability}: run scripts/setup.sh test")


_PATH = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin"


@pytest.fixture(autouse=True)
def _leaves_nothing_behind() -> Iterator[None]:
    before = leaks.held()
    yield
    left = leaks.leaked(before)
    if left:
        pytest.fail(left)


@pytest.fixture(scope="session")
def workshop() -> Iterator[Path]:
    """A folder for the whole run that every user can pass through. Not /tmp: that may be a tmpfs."""
    base = os.environ.get("PYBUILD_TEST_TMP", "/var/tmp")
    place = Path(tempfile.mkdtemp(prefix="pybuild-tests-", dir=base))
    place.chmod(0o711)
    yield place
    remove_copies()
    shutil.rmtree(place, ignore_errors=True)


@pytest.fixture(scope="session")
def registry(workshop: Path) -> Iterator[Registry]:
    """A registry that mirrors docker.io, for reading only by convention: a test pushes under its own name."""
    registry = Registry(workshop / "registry")
    registry.start()
    yield registry
    registry.stop()


@pytest.fixture(scope="session")
def base_folder() -> Path:
    """Base images as files, made once a month and kept between runs (scripts/base-images.sh)."""
    script = REPOSITORY / "scripts" / "base-images.sh"
    done = subprocess.run([script], check=True, stdout=subprocess.PIPE, text=True)
    return Path(done.stdout.strip())


@pytest.fixture(scope="session")
def bases(registry: Registry, base_folder: Path) -> Registry:
    """The registry, holding debian:12-slim and busybox."""
    registry.push_base(base_folder / "debian", "library/debian:12-slim")
    registry.push_base(base_folder / "busybox", "library/busybox:latest")
    return registry


@pytest.fixture(scope="session")
def host_flags(workshop: Path) -> Callable[[Person], list[str]]:
    """Flags for `pybuild build` by which a RUN reaches the package indexes of this machine."""

    def flags(someone: Person) -> list[str]:
        place = workshop / f"host-{someone.kind}"
        script = REPOSITORY / "scripts" / "host-config.sh"
        done = subprocess.run([script, place], check=True, stdout=subprocess.PIPE, text=True)
        someone.own(place)
        return done.stdout.split("\n")[:-1]

    return flags


@pytest.fixture
def people_at_work(workshop: Path) -> Iterator[Callable[[str], Pybuild]]:
    """Makes runners of the given kind of user; their folders go when the test ends."""
    made: list[Pybuild] = []

    def make(kind: str, settings: Path | None = None) -> Pybuild:
        folder = Path(tempfile.mkdtemp(prefix=f"{kind}-", dir=workshop))
        pybuild = Pybuild(person(kind), folder, settings)
        made.append(pybuild)
        return pybuild

    yield make
    for pybuild in made:
        pybuild.remove()


@pytest.fixture(scope="session")
def kept(workshop: Path, bases: Registry) -> Iterator[Callable[[str], Pybuild]]:
    """One store a kind of user for the whole run, for tests of the examples: steps they share run once."""
    made: dict[str, Pybuild] = {}

    def get(kind: str) -> Pybuild:
        if kind not in made:
            folder = Path(tempfile.mkdtemp(prefix=f"kept-{kind}-", dir=workshop))
            made[kind] = Pybuild(person(kind), folder, bases.settings)
        return made[kind]

    yield get
    for pybuild in made.values():
        pybuild.remove()


@pytest.fixture(params=KINDS)
def each_identity(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def pybuild(each_identity: str, bases: Registry, people_at_work: Callable[[str, Path], Pybuild]) -> Pybuild:
    """The program as every kind of user in turn, with an empty store and the base images' registry."""
    return people_at_work(each_identity, bases.settings)


@pytest.fixture
def root(bases: Registry, people_at_work: Callable[[str, Path], Pybuild]) -> Pybuild:
    return people_at_work("root", bases.settings)


@pytest.fixture
def ids(bases: Registry, people_at_work: Callable[[str, Path], Pybuild]) -> Pybuild:
    return people_at_work("ids", bases.settings)


@pytest.fixture
def single(bases: Registry, people_at_work: Callable[[str, Path], Pybuild]) -> Pybuild:
    return people_at_work("single", bases.settings)


@pytest.fixture
def me(bases: Registry, people_at_work: Callable[[str, Path], Pybuild]) -> Pybuild:
    """The program as one kind of user, for what does not depend on it."""
    return people_at_work("ids" if "ids" in available() else "single", bases.settings)
