"""What fetches from elsewhere in one build: files by HTTP, git repositories."""

from __future__ import annotations

from buildkit_py.tuples import NamedTuple
from buildkit_py.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from buildkit_py.source.git import Repositories
    from buildkit_py.source.http import HttpFiles


class Remote(NamedTuple):
    http: HttpFiles
    git: Repositories
