"""What must hit and what must miss: every row of the key table, both ways.

A row builds once, changes one thing, builds again, and looks at one step. All rows share a store; the first
line of a row's files and stages names the row, so that none hits what another made.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.integration.cache.steps import HIT, MISS, verdict
from tests.support.people import available
from tests.support.runner import Pybuild

Change = Callable[[Path], object]
FILES = {"f": "one\n", "d/g": "two\n", "d/h": "three\n", "e/": "", "l": "-> f", "n.txt": "n\n"}
CONTEXT = "FROM scratch\nWORKDIR /{row}\nCOPY {what} /x/\n"
STEP = "FROM busybox\nWORKDIR /{row}\n{before}RUN echo step{after}\n"


class Row(NamedTuple):
    name: str
    expected: str
    """HIT or MISS, of the step at which the row looks."""
    dockerfile: str
    step: str
    """How its name begins."""
    change: Change | None = None
    """Of the context."""
    then: str = ""
    """The second build's Dockerfile, where it is another one."""
    options: tuple[str, ...] = ()
    then_options: tuple[str, ...] = ()
    """Of the second build."""


def context(name: str, expected: str, change: Change, what: str = ".", then: str = "") -> Row:
    """A COPY out of the build context."""
    return Row(
        name,
        expected,
        CONTEXT.replace("{what}", what),
        "COPY ",
        change,
        CONTEXT.replace("{what}", then) if then else "",
    )


def step(name: str, expected: str, before: str = "", then: str = "", after: str = "", **more: object) -> Row:
    """A RUN behind the lines ``before`` and, the second time, behind ``then``."""
    first = STEP.replace("{before}", before).replace("{after}", "")
    second = STEP.replace("{before}", then).replace("{after}", after)
    return Row(name, expected, first, "RUN echo step", then=second, **more)  # type: ignore[arg-type]


def stages(name: str, expected: str, build: str, then: str, copy: str = "COPY --from=build /o/f /x/") -> Row:
    """A COPY out of a stage whose RUN is another one the second time."""
    text = "FROM busybox AS build\nWORKDIR /{row}\nRUN mkdir /o; %s\nFROM busybox\nWORKDIR /{row}\n%s\n"
    return Row(name, expected, text % (build, copy), copy.splitlines()[-1], then=text % (then, copy))


def write(path: str, text: str) -> Change:
    def change(place: Path) -> None:
        (place / path).parent.mkdir(exist_ok=True)
        (place / path).write_text(text)

    return change


def rewrite(place: Path) -> None:
    """The same content in a new file."""
    (place / "new").write_text((place / "f").read_text())
    os.rename(place / "new", place / "f")


def in_the_same_second(place: Path) -> None:
    """Other data of the same size, and every time set back that can be."""
    before = os.stat(place / "f")
    (place / "f").write_text("ONE\n")
    os.utime(place / "f", ns=(before.st_atime_ns, before.st_mtime_ns))


def to_directory(place: Path) -> None:
    (place / "f").unlink()
    (place / "f").mkdir()


def to_file(place: Path) -> None:
    (place / "e").rmdir()
    (place / "e").write_text("")


def relink(target: str) -> Change:
    def change(place: Path) -> None:
        (place / "l").unlink()
        (place / "l").symlink_to(target)

    return change


def unlink_link(place: Path) -> None:
    """A file with the content that the link led to."""
    (place / "l").unlink()
    (place / "l").write_text("one\n")


def nothing(place: Path) -> None:
    pass


def ignoring(lines: str) -> Change:
    return write(".dockerignore", lines)


CONTEXTS = [
    context("nothing", HIT, nothing),
    context("mtime", HIT, lambda c: os.utime(c / "f", (1, 1))),
    context("mtime-beyond-2262", HIT, lambda c: os.utime(c / "f", (10_000_000_000, 10_000_000_000))),
    context("directory-mtime", HIT, lambda c: os.utime(c / "d", (1, 1))),
    context("inode", HIT, rewrite),
    context("owner", HIT, lambda c: os.chown(c / "f", os.stat(c).st_uid, os.stat(c).st_gid + 1)),
    context("mode", MISS, lambda c: (c / "f").chmod(0o600)),
    context("executable", MISS, lambda c: (c / "f").chmod(0o755)),
    context("directory-mode", MISS, lambda c: (c / "d").chmod(0o700)),
    context("setuid", MISS, lambda c: (c / "f").chmod(0o4644)),
    context("content", MISS, write("f", "changed\n")),
    context("same-second", MISS, in_the_same_second),
    context("longer", MISS, write("f", "one\n\n")),
    context("deep-content", MISS, write("d/g", "changed\n")),
    context("xattr", MISS, lambda c: os.setxattr(c / "f", "user.k", b"v")),
    context("directory-xattr", MISS, lambda c: os.setxattr(c / "d", "user.k", b"v")),
    context("rename", MISS, lambda c: (c / "f").rename(c / "renamed")),
    context(
        "swap",
        MISS,
        lambda c: [(c / "d/g").rename(c / "t"), (c / "d/h").rename(c / "d/g"), (c / "t").rename(c / "d/h")],
    ),
    context("new-file", MISS, write("d/new", "")),
    context("new-directory", MISS, lambda c: (c / "d/new").mkdir()),
    context("deleted-file", MISS, lambda c: (c / "d/h").unlink()),
    context("deleted-directory", MISS, lambda c: (c / "e").rmdir()),
    context("file-to-directory", MISS, to_directory),
    context("directory-to-file", MISS, to_file),
    context("link-target", MISS, relink("d/g")),
    context("link-spelled-otherwise", MISS, relink("./f")),
    context("link-to-file", MISS, unlink_link),
    # Only what is selected counts.
    context("beside-the-file", HIT, write("d/g", "changed\n"), "f"),
    context("the-file", MISS, write("f", "changed\n"), "f"),
    context("beside-the-directory", HIT, write("f", "changed\n"), "d"),
    context("a-file-among-several", MISS, write("n.txt", "changed\n"), "f n.txt"),
    context("through-a-link", MISS, write("f", "changed\n"), "l"),
    context("glob-other", HIT, write("other", "x"), "*.txt"),
    context("glob-new", MISS, write("o.txt", "x"), "*.txt"),
    context("glob-gone", MISS, lambda c: (c / "n.txt").unlink(), "*.txt f"),
    context("excluded", HIT, write("d/g", "changed\n"), "--exclude=g d"),
    context("not-excluded", MISS, write("d/h", "changed\n"), "--exclude=g d"),
    context(
        "place-of-the-source", HIT, lambda c: (c / "d").rename(c / "moved"), "d/g d/h", "moved/g moved/h"
    ),
    context(
        "kept-place-of-the-source",
        MISS,
        lambda c: (c / "d").rename(c / "v"),
        "--parents d/g",
        "--parents v/g",
    ),
    context("order-of-equal-selections", HIT, nothing, "f n.txt", "./f ./n.txt"),
    context("chown", MISS, nothing, "--chown=1:1 f", "--chown=1:2 f"),
    context("chmod", MISS, nothing, "--chmod=600 f", "--chmod=644 f"),
    context("chmod-spelled-otherwise", HIT, nothing, "--chmod=0640 f", "--chmod=640 f"),
    context("mode-under-chmod", HIT, lambda c: (c / "f").chmod(0o600), "--chmod=640 f"),
    context("mode-under-symbolic-chmod", MISS, lambda c: (c / "f").chmod(0o711), "--chmod=g+w f"),
    # .dockerignore
    context("dockerignore-same-effect", HIT, ignoring("# nothing\nnosuch\n.dockerignore\n")),
    context("dockerignore-less", MISS, ignoring("d/h\n.dockerignore\n")),
]
IGNORES = [
    ("ignored-content", HIT, "d\n.dockerignore\n", write("d/g", "changed\n")),
    ("ignored-new", HIT, "d\n.dockerignore\n", write("d/new", "")),
    ("taken-back", MISS, "d\n!d/g\n.dockerignore\n", write("d/g", "changed\n")),
    ("beside-taken-back", HIT, "d\n!d/g\n.dockerignore\n", write("d/h", "changed\n")),
    ("no-more-ignored", MISS, "d\n.dockerignore\n", ignoring(".dockerignore\n")),
    ("ignores-itself-not", MISS, "d\n", ignoring("d\ne\n")),
    ("newly-ignored-elsewhere", HIT, "d\n.dockerignore\n", ignoring("d\nd/g\n.dockerignore\n")),
]

BIND = "RUN --mount=type=bind,source=d,target=/m echo step"
TWO = "RUN --mount=type=bind,source=f,target=/m --mount=type=bind,source=d,target=/n echo step"
RUNS = [
    step("command", MISS, after=" other"),
    step("arg-used", MISS, "ARG A=1\n", "ARG A=2\n"),
    step("arg-given", MISS, "ARG A\n", "ARG A\n", then_options=("--build-arg=A=2",)),
    step("arg-same-value", HIT, "ARG A=1\n", "ARG A\n", then_options=("--build-arg=A=1",)),
    step("arg-not-declared", HIT, then_options=("--build-arg=A=2",)),
    step("arg-without-value", HIT, "", "ARG A\n"),
    step("arg-later", HIT, after="\nARG A=2\nRUN true"),
    step("arg-in-another-stage", HIT, then="", after="\nFROM scratch\nARG A=2\nCOPY --from=0 /etc /"),
    step("env", MISS, "ENV A=1\n", "ENV A=2\n"),
    step("env-new", MISS, "", "ENV A=\n"),
    step("env-later", HIT, after="\nENV A=2\nRUN true"),
    step("workdir", MISS, "WORKDIR /etc\n", "WORKDIR /bin\n"),
    step("workdir-same", HIT, "WORKDIR /etc\n", "WORKDIR ../etc\n"),
    step("user", MISS, "USER 1\n", "USER 2\n"),
    step("shell", MISS, "", 'SHELL ["/bin/sh", "-ec"]\n'),
    step("exec-form", HIT, 'RUN ["/bin/sh", "-c", "echo step"]\n#', "RUN echo step\n#"),
    step("label", HIT, "LABEL a=1\n", "LABEL a=2\n"),
    step("label-option", HIT, then_options=("--label=a=1",)),
    step(
        "metadata",
        HIT,
        "",
        'CMD ["a"]\nENTRYPOINT ["b"]\nEXPOSE 1\nVOLUME /v\nSTOPSIGNAL 9\nHEALTHCHECK NONE\n',
    ),
    step("comment", HIT, "", "# a comment\n\n"),
    step("proxy", HIT, then_options=("--build-arg=HTTP_PROXY=http://p",)),
    step(
        "proxy-declared",
        MISS,
        "ARG HTTP_PROXY\n",
        "ARG HTTP_PROXY\n",
        then_options=("--build-arg=HTTP_PROXY=http://p",),
    ),
    step("epoch", HIT, then_options=("--build-arg=SOURCE_DATE_EPOCH=1",)),
    step("network", MISS, then_options=("--network=none",)),
    step("hosts", MISS, then_options=("--add-host=a:1.2.3.4",)),
    step("ulimit", MISS, then_options=("--ulimit=nofile=100:200",)),
    step("shm-size", MISS, then_options=("--shm-size=32m",)),
    step("memory", HIT, then_options=("--memory=64m", "--memory-swap=64m")),
    step("cpu-and-tasks", HIT, then_options=("--cpus=1", "--cpu-shares=100", "--pids-limit=1000")),
    step("cgroup-parent", HIT, then_options=("--cgroup-parent=/steps",)),
    step("tag", HIT, then_options=("-t", "other:1")),
    step("parent", MISS, "RUN true\n", "RUN false || true\n"),
    step("copy-before", MISS, "COPY f /\n", "COPY n.txt /\n"),
    step("no-cache", MISS, then_options=("--no-cache",)),
    step("no-cache-filter", MISS, "", "", then_options=("--no-cache-filter=0",)),
    step("no-cache-filter-other", HIT, then_options=("--no-cache-filter=nosuch",)),
]


def mounted(
    name: str, expected: str, flags: str, change: Change | None = None, then: str = "", **more: object
) -> Row:
    text = "FROM busybox\nWORKDIR /{row}\nRUN %s echo step\n"
    return Row(name, expected, text % flags, "RUN ", change, text % then if then else "", **more)  # type: ignore[arg-type]


MOUNTS = [
    mounted("bind-content", MISS, "--mount=source=d,target=/m", write("d/g", "changed\n")),
    mounted("bind-beside", HIT, "--mount=source=d,target=/m", write("f", "changed\n")),
    mounted("bind-mtime", HIT, "--mount=source=d,target=/m", lambda c: os.utime(c / "d/g", (1, 1))),
    mounted("bind-mode", MISS, "--mount=source=d,target=/m", lambda c: (c / "d/g").chmod(0o755)),
    mounted(
        "bind-first-of-two", MISS, "--mount=source=f,target=/m --mount=source=d,target=/n", write("f", "x")
    ),
    mounted(
        "bind-second-of-two", MISS, "--mount=source=f,target=/m --mount=source=d,target=/n", write("d/g", "x")
    ),
    mounted(
        "bind-beside-two", HIT, "--mount=source=f,target=/m --mount=source=d,target=/n", write("n.txt", "x")
    ),
    mounted("bind-target", MISS, "--mount=source=d,target=/m", None, "--mount=source=d,target=/n"),
    mounted("bind-writable", MISS, "--mount=source=d,target=/m", None, "--mount=source=d,target=/m,rw"),
    mounted("cache-id", MISS, "--mount=type=cache,target=/m,id=a", None, "--mount=type=cache,target=/m,id=b"),
    mounted(
        "cache-sharing",
        HIT,
        "--mount=type=cache,target=/m",
        None,
        "--mount=type=cache,target=/m,sharing=locked",
    ),
    mounted("tmpfs", MISS, "--mount=type=tmpfs,target=/m", None, "--mount=type=tmpfs,target=/n"),
    mounted("tmpfs-size", MISS, "--mount=type=tmpfs,target=/m", None, "--mount=type=tmpfs,target=/m,size=1m"),
    mounted(
        "secret-id", MISS, "--mount=type=secret,id=a,target=/m", None, "--mount=type=secret,id=b,target=/m"
    ),
    mounted("secret-env", MISS, "--mount=type=secret,id=a,env=A", None, "--mount=type=secret,id=a,env=B"),
    mounted("secret-given", HIT, "--mount=type=secret,id=a", then_options=("--secret=id=a,env=HOME",)),
    mounted(
        "secret-value",
        HIT,
        "--mount=type=secret,id=a",
        options=("--secret=id=a,env=HOME",),
        then_options=("--secret=id=a,env=PATH",),
    ),
    mounted("network-none", MISS, "--network=default", None, "--network=none"),
    Row(
        "script",
        MISS,
        "FROM busybox\nWORKDIR /{row}\nRUN <<E\n#!/bin/sh\ntrue 1\nE\n",
        "RUN <<E",
        then="FROM busybox\nWORKDIR /{row}\nRUN <<E\n#!/bin/sh\ntrue 2\nE\n",
    ),
]

FROM_STAGES = [
    stages("one-file-same", HIT, "echo 1 > /o/f; echo 2 > /o/g", "echo 1 > /o/f; echo 3 > /o/g"),
    stages("one-file-other", MISS, "echo 1 > /o/f", "echo 2 > /o/f"),
    stages("stage-mtime", HIT, "echo 1 > /o/f", "echo 1 > /o/f; touch -d 2001-01-01 /o/f"),
    stages("stage-mode", MISS, "echo 1 > /o/f", "echo 1 > /o/f; chmod 600 /o/f"),
    stages("stage-owner", MISS, "echo 1 > /o/f", "echo 1 > /o/f; chown 0:7 /o/f"),
    stages(
        "stage-owner-under-chown",
        HIT,
        "echo 1 > /o/f",
        "echo 1 > /o/f; chown 0:7 /o/f",
        "COPY --chown=1:1 --from=build /o/f /x/",
    ),
    stages("stage-glob", HIT, "touch /o/a.c /o/b", "touch /o/a.c /o/c", "COPY --from=build /o/*.c /x/"),
    stages(
        "stage-glob-new", MISS, "touch /o/a.c /o/b", "touch /o/a.c /o/c.c", "COPY --from=build /o/*.c /x/"
    ),
    stages(
        "stage-link",
        MISS,
        "ln -s a /o/f; touch /o/a /o/b",
        "ln -s b /o/f; touch /o/a /o/b",
        "COPY --from=build /o /x/",
    ),
    stages(
        "after-equal-copy", HIT, "echo 1 > /o/f", "echo 1  > /o/f", "COPY --from=build /o/f /x/\nRUN cat /x/f"
    ),
    stages("linked-from-stage", HIT, "echo 1 > /o/f", "echo 1  > /o/f", "COPY --link --from=build /o/f /x/"),
    stages(
        "bind-from-stage",
        HIT,
        "echo 1 > /o/f",
        "echo 1  > /o/f",
        "RUN --mount=from=build,source=/o,target=/m cat /m/f",
    ),
    stages(
        "bind-from-stage-beside",
        HIT,
        "echo 1 > /o/f",
        "echo 1 > /o/f; echo 2 > /p",
        "RUN --mount=from=build,source=/o,target=/m cat /m/f",
    ),
    stages(
        "bind-from-stage-other",
        MISS,
        "echo 1 > /o/f",
        "echo 2 > /o/f",
        "RUN --mount=from=build,source=/o,target=/m cat /m/f",
    ),
]
LINK = "FROM busybox\nWORKDIR /{row}\nRUN %s\nCOPY --link f /{row}/\nCOPY %s d /{row}/y\n"
BOTH = """\
FROM busybox AS a
WORKDIR /{row}
RUN echo a > /{row}/f
FROM busybox AS b
WORKDIR /{row}
COPY d /{row}/
RUN echo b > /{row}/g
FROM b
COPY --from=a /{row}/f /x/
RUN echo last
"""
OTHERS = [
    Row(
        "dest",
        MISS,
        "FROM scratch\nWORKDIR /{row}\nCOPY f /x/\n",
        "COPY",
        then="FROM scratch\nWORKDIR /{row}\nCOPY f /y/\n",
    ),
    Row(
        "link-survives-base",
        HIT,
        LINK % ("true", "--link"),
        "COPY --link f /{row}/",
        then=LINK % ("false||true", "--link"),
    ),
    Row(
        "merge-does-not",
        MISS,
        LINK % ("true", "--link"),
        "COPY --link d /{row}/y (link)",
        then=LINK % ("false||true", "--link"),
    ),
    Row("unlinked-does-not", MISS, LINK % ("true", ""), "COPY d", then=LINK % ("false||true", "")),
    Row("link-content", MISS, LINK % ("true", ""), "COPY --link f /{row}/", write("f", "x")),
    # Stages of one file have sources in common, which no filter touches.
    Row("filtered-stage", MISS, BOTH, "RUN echo a", then_options=("--no-cache-filter=a",)),
    Row("stage-beside", HIT, BOTH, "RUN echo b", then_options=("--no-cache-filter=a",)),
    Row("copy-in-stage-beside", HIT, BOTH, "COPY d", then_options=("--no-cache-filter=a",)),
    Row("equal-output-of-filtered", HIT, BOTH, "COPY --from=a", then_options=("--no-cache-filter=a",)),
    Row("after-equal-output", HIT, BOTH, "RUN echo last", then_options=("--no-cache-filter=a",)),
    Row("after-filtered-base", MISS, BOTH, "RUN echo last", then_options=("--no-cache-filter=b",)),
    Row("onto-filtered-base", MISS, BOTH, "COPY --from=a", then_options=("--no-cache-filter=b",)),
    Row(
        "heredoc",
        MISS,
        "FROM scratch\nWORKDIR /{row}\nCOPY <<E /x\n1\nE\n",
        "COPY",
        then="FROM scratch\nWORKDIR /{row}\nCOPY <<E /x\n2\nE\n",
    ),
    Row(
        "heredoc-same",
        HIT,
        "FROM scratch\nWORKDIR /{row}\nCOPY <<E /x\n1\nE\n",
        "COPY",
        then="FROM scratch\nWORKDIR /{row}\nCOPY <<-E /x\n\t1\nE\n",
    ),
]


@pytest.fixture(scope="module")
def store(kept: Callable[[str], Pybuild]) -> Iterator[Pybuild]:
    yield kept(available()[-1])


def rows() -> Iterator[Row]:
    for group in (CONTEXTS, RUNS, MOUNTS, FROM_STAGES, OTHERS):
        yield from group
    for name, expected, ignore, change in IGNORES:
        yield context(name, expected, change)._replace(options=("ignore", ignore))


def cases() -> Iterator[object]:
    for row in rows():
        # Nobody else may give a file away.
        marks = [pytest.mark.needs("root")] if row.name == "owner" else []
        yield pytest.param(row, id=f"{row.expected}-{row.name}", marks=marks)


@pytest.mark.parametrize("row", list(cases()))
def test_row(store: Pybuild, row: Row) -> None:
    options = row.options
    place = plant(store, row)
    if options[:1] == ("ignore",):
        (place / ".dockerignore").write_text(options[1])
        options = ()
    dockerfile = store.folder / "Dockerfile"
    dockerfile.write_text(row.dockerfile.replace("{row}", row.name))
    look = ("build", "--progress=rawjson", "-o", "type=cacheonly", "-f", dockerfile)
    store(*look, *options, place)
    if row.change is not None:
        row.change(place)
    dockerfile.write_text((row.then or row.dockerfile).replace("{row}", row.name))
    done = store(*look, *options, *row.then_options, place)
    assert verdict(done.stderr, row.step.replace("{row}", row.name)) == row.expected


def plant(store: Pybuild, row: Row) -> Path:
    files = {path: text for path, text in FILES.items() if not path.endswith("/") and text[:3] != "-> "}
    place = store.context(files, "table")
    (place / "e").mkdir()
    (place / "l").symlink_to("f")
    store.person.own(place)
    return place
