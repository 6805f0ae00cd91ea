"""pybuild: a Dockerfile build toolkit that needs no daemon and no root.

A reader follows the data: Dockerfile text -> AST -> build graph -> solver -> snapshots -> layers ->
image -> registry, archive or store -> container. docs/architecture.md has the reading order.
"""

__version__ = "0.1.0"
