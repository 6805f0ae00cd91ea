"""Rules about what only the conversion sees: expanded words, base images, the ignore file."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from buildkit_py.frontends.dockerfile.checks.finding import Finding, near
from buildkit_py.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from buildkit_py.frontends.dockerfile.conversion import Conversion


def undefined_var(conversion: Conversion) -> Iterator[Finding]:
    froms = {stage.instructions[0].range for stage in conversion.stages}
    for note in conversion.notes:
        if note.kind == "unset" or (note.kind == "unset-global" and note.range not in froms):
            name, *known = note.data
            yield Finding(note.range, f"Usage of undefined variable '${name}'{near(name, known, '$')}")


def workdir_relative_path(conversion: Conversion) -> Iterator[Finding]:
    for note in conversion.notes:
        if note.kind == "relative-workdir":
            message = (
                f"Relative workdir '{note.data[0]}' can have unexpected results if the base image changes"
            )
            yield Finding(note.range, message)


def invalid_base_image_platform(conversion: Conversion) -> Iterator[Finding]:
    for note in conversion.notes:
        if note.kind == "base-platform":
            ref, wanted, actual = note.data
            message = (
                f'Base image {ref} was pulled with platform "{actual}", expected "{wanted}" for current build'
            )
            yield Finding(note.range, message)


def copy_ignored_file(conversion: Conversion) -> Iterator[Finding]:
    if not conversion.options.ignore:
        return
    notes = [note for note in conversion.notes if note.kind == "context-sources"]
    if not notes:
        return
    from buildkit_py.frontends.dockerfile.dockerignore import Matcher

    matcher = Matcher(conversion.options.ignore)
    words = {i.range: i.name for i in conversion.dockerfile.instructions}
    for note in notes:
        for source in note.data:
            path = posixpath.normpath("/" + source).lstrip("/")
            if not path or set("*?[\\").intersection(source):
                continue
            if matcher.excluded(path, True) and not matcher.may_descend(path):
                verb = "Add" if words.get(note.range) == "add" else "Copy"
                message = f'Attempting to {verb} file "{source}" that is excluded by .dockerignore'
                yield Finding(note.range, message)


def expose_proto_casing(conversion: Conversion) -> Iterator[Finding]:
    for note in conversion.notes:
        if note.kind == "expose":
            for word in note.data:
                if word != word.lower():
                    message = f"Defined protocol '{word}' in EXPOSE instruction should be lowercase"
                    yield Finding(note.range, message)


def expose_invalid_format(conversion: Conversion) -> Iterator[Finding]:
    for note in conversion.notes:
        if note.kind == "expose":
            for word in note.data:
                if ":" in word:
                    message = (
                        "EXPOSE instruction should not define an IP address or host-port mapping, "
                        f"found '{word}'"
                    )
                    yield Finding(note.range, message)
