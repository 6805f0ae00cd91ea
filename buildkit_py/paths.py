"""Where pybuild keeps things (XDG base directory specification).

Ten lines of our own instead of platformdirs: they stand on the path of every command, and this
project runs on Linux alone.
"""

from __future__ import annotations

import os


def _xdg(variable: str, default: str) -> str:
    """ "" where there is neither it nor a home: ``~`` stays as it is then, and would be a directory here."""
    value = os.environ.get(variable, "")
    found = value if value.startswith("/") else os.path.expanduser(default)
    return found if found.startswith("/") else ""


def data_root() -> str:
    """The store: ``$PYBUILD_ROOT``, else ``$XDG_DATA_HOME/pybuild``. Raises UsageError where nobody says."""
    given = os.environ.get("PYBUILD_ROOT")
    if given:
        return given
    home = _xdg("XDG_DATA_HOME", "~/.local/share")
    if not home:
        from buildkit_py.errors import UsageError

        raise UsageError(
            "there is no place for the store: HOME is no absolute path, and the user has no home directory",
            hint="set PYBUILD_ROOT to a directory of yours",
        )
    return os.path.join(home, "pybuild")


def config_dirs() -> tuple[str, ...]:
    """Where settings are looked for, first wins: the user's directory, then the system's."""
    own = _xdg("XDG_CONFIG_HOME", "~/.config")
    return (*((os.path.join(own, "pybuild"),) if own else ()), "/etc/pybuild")
