"""``type=registry``: ``type=image,push=true`` by another name."""

from __future__ import annotations

from buildkit_py.exporter.image import export

__all__ = ["export"]
