"""Where pybuild keeps things (XDG base directory specification).

Ten lines of our own instead of platformdirs: they stand on the path of every command, and this
project runs on Linux alone.
"""

from __future__ import annotations

import os


def _xdg(variable: str, default: str) -> str:
    value = os.environ.get(variable, "")
    return value if value.startswith("/") else os.path.expanduser(default)


def data_root() -> str:
    """The store: ``$PYBUILD_ROOT``, else ``$XDG_DATA_HOME/pybuild``."""
    return os.environ.get("PYBUILD_ROOT") or os.path.join(_xdg("XDG_DATA_HOME", "~/.local/share"), "pybuild")


def config_dirs() -> tuple[str, ...]:
    """Where settings are looked for, first wins: the user's directory, then the system's."""
    return (os.path.join(_xdg("XDG_CONFIG_HOME", "~/.config"), "pybuild"), "/etc/pybuild")
