from __future__ import annotations

import pytest

from buildkit_py.llb.ops import Exec
from buildkit_py.worker.exec import _hint


@pytest.mark.parametrize(
    ("tail", "hint"),
    [
        (('exec: "/bin/sh": argument list too long',), "begin a longer script in a heredoc with #!"),
        (('exec: "/x": permission denied',), "check its mode and its first line"),
    ],
)
def test_hint_of_what_cannot_be_executed(tail: tuple[str, ...], hint: str) -> None:
    assert hint in _hint(Exec(("/bin/sh", "-c", "x"), (), "/"), 126, tail)
