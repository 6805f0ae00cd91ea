"""What a build's options say about its outputs, in the exporters' terms."""

from __future__ import annotations

from buildkit_py.errors import UsageError
from buildkit_py.exporter import Product
from buildkit_py.exporter.annotations import of_options
from buildkit_py.exporter.spec import OutputSpec, spec_of
from buildkit_py.frontends.dockerfile.options import ConvertOptions, epoch, timestamp
from buildkit_py.request import BuildRequest, Output

_IMAGES = ("image", "oci", "docker")


def check(request: BuildRequest) -> None:
    """Raises UsageError for annotations that nothing could hold, before anything is built."""
    if not request.annotations:
        return
    given = of_options(request.annotations)
    if request.outputs and not any(output.kind in _IMAGES for output in request.outputs):
        raise UsageError("--annotation is for images, and no output is one", hint="-o type=image or type=oci")
    indexed = request.attests or wants_index(request)
    if any(a.place.startswith("index") for a in given) and not indexed:
        raise UsageError(
            "--annotation: an image of one platform has no index",
            hint="annotate its manifest, or give several platforms or --build-arg BUILDKIT_MULTI_PLATFORM=1",
        )


def leaves(output: Output) -> bool:
    """Whether it can take attestations along."""
    return output.kind in ("oci", "local", "tar") or output.get("push") in ("true", "1")


def check_attests(request: BuildRequest) -> None:
    """Raises UsageError where nothing could hold the attestations, before anything is built."""
    if any(output.kind == "docker" and output.get("dest") for output in request.outputs):
        raise UsageError("an archive of docker's holds no attestations", hint="use type=oci")
    if not any(map(leaves, request.outputs)):
        raise UsageError(
            "attestations go with what leaves the store, and nothing does",
            hint="--push, -o type=oci,dest=FILE or -o DIR",
        )


def wants_index(request: BuildRequest) -> bool:
    """Whether the result is an index: of several platforms, or because it is asked for."""
    forced = dict(request.build_args).get("BUILDKIT_MULTI_PLATFORM", "").lower()
    return len(dict.fromkeys(request.platforms)) > 1 or forced in ("1", "t", "true")


def spec_for(
    request: BuildRequest, output: Output, products: tuple[Product, ...], *, index: bool
) -> OutputSpec:
    """``index``: whether the result is one."""
    if output.kind == "docker" and not output.get("dest"):
        output = output._replace(kind="image")
    args = dict(request.build_args)
    created = timestamp(epoch(ConvertOptions(args))) if args.get("SOURCE_DATE_EPOCH") else ""
    given = of_options(request.annotations)
    spec = spec_of(output, given, created, index=index)
    predicates = {product.platform: product.predicates for product in products if product.predicates}
    if not predicates:
        return spec
    from buildkit_py.exporter.attestations import Attested

    artifact = spec.flag("oci-artifact", False)
    return spec._replace(attested=Attested(spec.names or request.tags, predicates, artifact))
