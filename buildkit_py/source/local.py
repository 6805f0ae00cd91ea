"""A local directory as a build context: read in place, never copied."""

from __future__ import annotations

import os
import stat

from buildkit_py.errors import PybuildError
from buildkit_py.snapshot.dirtree import DirTree, Exclude, MayDescend


def open_context(
    directory: str, *, exclude: Exclude | None = None, may_descend: MayDescend | None = None
) -> DirTree:
    """The tree of a context directory; ``exclude`` and ``may_descend`` come from its .dockerignore.

    Its stat cache is buildkit_py.cache.statcache.StatCache.of_directory(). Raises PybuildError where
    there is no directory that can be read.
    """
    try:
        st = os.stat(directory)
        if not stat.S_ISDIR(st.st_mode):
            raise PybuildError(
                f"the build context {directory} is not a directory",
                hint="give the directory that COPY takes files from, and the Dockerfile with -f",
            )
        os.close(os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    except FileNotFoundError:
        raise PybuildError(f"there is no build context {directory}") from None
    except OSError as e:
        raise PybuildError(f"cannot read the build context {directory}: {e.strerror}") from e
    return DirTree(os.path.realpath(directory), exclude=exclude, may_descend=may_descend)
