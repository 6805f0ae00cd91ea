"""What is stated of a build's results: ``--attest``, ``--provenance``, ``--sbom``."""

from __future__ import annotations

from collections.abc import Mapping

from buildkit_py.engine.outputs import leaves
from buildkit_py.exporter import Product
from buildkit_py.exporter.attestations import Predicate
from buildkit_py.frontends.dockerfile.options import ConvertOptions, epoch
from buildkit_py.request import Output
from buildkit_py.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from buildkit_py.engine.build import Build
    from buildkit_py.llb.result import BuildTarget


def attested(build: Build, output: Output, products: tuple[Product, ...]) -> tuple[Product, ...]:
    """The products of an output with what goes along with it. Raises UsageError, PybuildError."""
    if not leaves(output):
        return products
    for target, product in zip(build.frontend.targets, products, strict=True):
        if product.platform not in build.stated:
            build.stated[product.platform] = _predicates(build, target, product)
    return tuple(product._replace(predicates=build.stated[product.platform]) for product in products)


def _predicates(build: Build, target: BuildTarget, product: Product) -> tuple[Predicate, ...]:
    made = []
    for spec in build.request.attests:
        if spec.kind == "provenance":
            from buildkit_py.engine.provenance import provenance

            made.append(provenance(build, target, spec))
        else:
            from buildkit_py.engine.sbom import sbom

            created = epoch(ConvertOptions(dict(build.request.build_args))) or build.record.started
            made.append(sbom(build.engine.snapshots.tree(product.snapshot), build.request.tags, created))
    return tuple(made)


def provenances(build: Build) -> dict[str, Mapping[str, object]]:
    """By platform, for ``--metadata-file``."""
    return {
        platform: predicate.document
        for platform, predicates in build.stated.items()
        for predicate in predicates
        if predicate.file == "provenance.json"
    }
