"""The file op: COPY, ADD and WORKDIR.

``copy_content_key`` reads the sources before anything runs; ``run_file_op`` carries the actions out in a
staged layer directory, without any mount.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from buildkit_py.cache.hashing import Preimage, content_bytes, content_digest
from buildkit_py.digest import Digest
from buildkit_py.llb.ops import Copy, File, Mkdir
from buildkit_py.typed import TYPE_CHECKING
from buildkit_py.worker.chmod import parse
from buildkit_py.worker.selection import Selection, select

if TYPE_CHECKING:
    from buildkit_py.cache.statcache import StatCache
    from buildkit_py.linux.identity import Identity
    from buildkit_py.snapshot.tree import Tree
    from buildkit_py.worker.owner import Layer


def copy_content_key(action: Copy, tree: Tree, statcache: StatCache | None) -> tuple[Digest, Selection]:
    """The digest of what a copy takes from its tree, and what that is.

    Raises NotFoundError for a source that isn't there, PybuildError for one that can't be read, a
    malformed wildcard or mode.
    """
    selection = select(action, tree)
    what = (selection.parts, selection.listing, tree, statcache)
    owners = action.keep_owner and not action.chown
    chmod = parse(action.chmod) if action.chmod else None
    hashed: list[bytes] = []
    digest = content_digest(*what, owners=owners, chmod=chmod, variant=action.chmod, hashed=hashed)
    selection.hashed = Preimage(
        lambda: b"".join(hashed) or content_bytes(*what, owners=owners, chmod=chmod),
        selection.parts,
        selection.listing,
    )
    return digest, selection


def run_file_op(
    op: File,
    base: Tree | None,
    inputs: Sequence[Tree],
    selections: Mapping[int, Selection],
    staged: Layer,
    identity: Identity,
) -> None:
    """Carry out the actions of op in the layer directory ``staged.fs``.

    ``inputs`` are the node's, by index (an action's ``input``; that of the base is not looked at);
    ``selections`` holds what copy_content_key found, by the action's index; a missing one is found anew.
    Raises PybuildError.
    """
    from buildkit_py.worker.copy import run_copy
    from buildkit_py.worker.destination import Destination
    from buildkit_py.worker.mkdir import run_mkdir

    destination = Destination(staged, base, identity)
    for n, action in enumerate(op.actions):
        if isinstance(action, Mkdir):
            run_mkdir(action, destination)
        else:
            selection = selections.get(n) or select(action, inputs[action.input])
            run_copy(action, selection, destination, staged)
    destination.finish()
