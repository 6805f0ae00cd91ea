"""What a build's options say about its outputs, in the exporters' terms."""

from __future__ import annotations

from buildkit_py.errors import UsageError
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
    if any(a.place.startswith("index") for a in given) and not wants_index(request):
        raise UsageError(
            "--annotation: an image of one platform has no index",
            hint="annotate its manifest, or give several platforms or --build-arg BUILDKIT_MULTI_PLATFORM=1",
        )


def wants_index(request: BuildRequest) -> bool:
    """Whether the result is an index: of several platforms, or because it is asked for."""
    forced = dict(request.build_args).get("BUILDKIT_MULTI_PLATFORM", "").lower()
    return len(dict.fromkeys(request.platforms)) > 1 or forced in ("1", "t", "true")


def spec_for(request: BuildRequest, output: Output, *, index: bool) -> OutputSpec:
    """``index``: whether the result is one."""
    if output.kind == "docker" and not output.get("dest"):
        output = output._replace(kind="image")
    args = dict(request.build_args)
    created = timestamp(epoch(ConvertOptions(args))) if args.get("SOURCE_DATE_EPOCH") else ""
    given = of_options(request.annotations)
    return spec_of(output, given, created, index=index)
