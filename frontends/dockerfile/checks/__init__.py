"""Build checks: findings about a Dockerfile that builds all the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from buildkit_py.llb.result import Warning

if TYPE_CHECKING:
    from buildkit_py.frontends.dockerfile.convert import Conversion


def run(conversion: Conversion) -> tuple[Warning, ...]:
    return ()
