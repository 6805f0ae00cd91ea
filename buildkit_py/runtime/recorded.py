"""Owners that a container's processes could only record: kept beside its files (see snapshot.owners)."""

from __future__ import annotations

from buildkit_py.sandbox.launcher import Running


def keep(directory: str, running: Running) -> None:
    """Of a sandbox, or what joined it, that has ended. Raises nothing: a full disk loses owners of links."""
    if not (running.owners or running.marked):
        return
    from buildkit_py.snapshot import owners

    fs = f"{directory}/fs"
    known = owners.load(fs) or owners.Owners()
    known.update(running.owners)
    known.marked = True
    try:
        known.save(owners.owners_path(fs))
    except OSError:
        pass
