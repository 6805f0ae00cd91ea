"""``--chmod`` against chmod(1) itself, and its validation."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from buildkit_py.errors import PybuildError
from buildkit_py.worker.chmod import octal, parse

_clause = st.builds(
    lambda who, changes: who + "".join(changes),
    st.text("ugoa", max_size=3),
    st.lists(
        st.builds(
            lambda operator, what: operator + what,
            st.sampled_from("+-="),
            st.one_of(st.text("rwxXst", max_size=4), st.sampled_from("ugo")),
        ),
        min_size=1,
        max_size=2,
    ),
)
symbolic = st.lists(_clause, min_size=1, max_size=3).map(",".join)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=symbolic, mode=st.integers(0, 0o7777), directory=st.booleans())
def test_as_the_program_does(text: str, mode: int, directory: bool, tmp_path: Path) -> None:
    path = tmp_path / ("d" if directory else "f")
    if directory:
        path.mkdir(exist_ok=True)
    else:
        path.touch()
    path.chmod(mode)
    before = path.stat().st_mode
    changed = parse(text)(before)
    done = subprocess.run(["chmod", "--", text, path], umask=0, capture_output=True)
    assert not done.returncode, done.stderr
    after = path.stat().st_mode
    path.chmod(0o700)
    assert oct(changed) == oct(after)


@given(st.integers(0, 0o7777))
def test_octal(mode: int) -> None:
    for text in (f"{mode:o}", f"{mode:04o}"):
        assert octal(text) == mode
        assert parse(text)(stat.S_IFREG | 0o4711) == stat.S_IFREG | mode
        assert parse(text)(stat.S_IFDIR) == stat.S_IFDIR | mode


@pytest.mark.parametrize(
    "text",
    [
        "",
        "8",
        "10000",
        "77777",
        "0x7",
        "-7",
        "+7",
        "rwx",
        "u",
        "u+q",
        "z+x",
        "u+x,",
        ",u+x",
        "u +x",
        "u+x g+x",
    ]
    + ["7 5 5", "u+gx", "a+ug", "755u", "\u0667\u0665\u0665", "u+r,9"],
)
def test_invalid(text: str) -> None:
    with pytest.raises(PybuildError) as raised:
        parse(text)
    assert repr(text) in raised.value.message


@given(st.text(max_size=8))
def test_any_text_is_a_mode_or_an_error(text: str) -> None:
    try:
        change = parse(text)
    except PybuildError:
        return
    for mode in (stat.S_IFREG | 0o644, stat.S_IFDIR | 0o2755):
        assert stat.S_IFMT(change(mode)) == stat.S_IFMT(mode)
        assert 0 <= stat.S_IMODE(change(mode)) <= 0o7777


def test_the_umask_does_not_count() -> None:
    old = os.umask(0o077)
    try:
        assert parse("+rwx")(0) == 0o777
    finally:
        os.umask(old)
