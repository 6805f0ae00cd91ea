"""``type=docker``: what ``docker load`` and ``podman load`` read: an OCI layout with Docker's manifest.json,
as ``docker save`` writes it since version 25."""

from __future__ import annotations

from buildkit_py.errors import UsageError
from buildkit_py.exporter import Product, Stores, oci
from buildkit_py.exporter.spec import OutputSpec
from buildkit_py.progress.events import Emit
from buildkit_py.typed import Any


def export(
    spec: OutputSpec, products: tuple[Product, ...], stores: Stores, emit: Emit, vertex: str
) -> dict[str, Any]:
    if len(products) > 1:
        raise UsageError("type=docker holds one platform", hint="use type=oci for several")
    spec = spec._replace(as_index=False, attested=None)
    return oci.write(spec, products, stores, docker=True)
