"""Fuzz target over lexer, parser, checker, printer, expansion, conversion, and the ignore rules.

    python tests/fuzz/fuzz_dockerfile.py -max_total_time=60 [CORPUS_DIRECTORY]

Any exception other than the project's own errors is a finding. Needs atheris (not among the
test dependencies: it has no wheel for every Python); the arguments are libFuzzer's. Without a corpus it
starts from the golden files.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from buildkit_py.llb.result import ResolvedImage

ROOT = Path(__file__).parents[2]
MODULES = ("convert", "dag", "dockerignore", "dump", "expand", "parser", "patterns", "printer", "semantics")


def one_input(data: bytes) -> None:
    """Run everything that reads a Dockerfile's text."""
    from buildkit_py.errors import DockerfileError
    from buildkit_py.frontends.dockerfile import dag, dump, expand, parser, printer, semantics

    ignore_rules(data[:2000])
    try:
        dockerfile = parser.parse(data)
    except DockerfileError:
        return
    semantics.check(dockerfile)
    dump.dump(dockerfile)
    dag.problems(dockerfile)
    again = parser.parse(printer.print_dockerfile(dockerfile).encode())
    if [i.name for i in again.instructions] != [i.name for i in dockerfile.instructions]:
        raise AssertionError("what the printer prints does not parse to the same tree")
    environment = {"a": "b", "PATH": "/bin:/usr/bin", "x": ""}
    for instruction in dockerfile.instructions:
        for word in instruction.args:
            for how in (expand.expand, expand.split_expand, expand.expand_heredoc):
                try:
                    how(word, environment, dockerfile.escape)
                except DockerfileError:
                    pass
    conversion(data)


def ignore_rules(data: bytes) -> None:
    from buildkit_py.errors import DockerfileError
    from buildkit_py.frontends.dockerfile.dockerignore import Matcher, parse_ignore

    try:
        matcher = Matcher(parse_ignore(data))
    except DockerfileError:
        return
    for path in ("a", "a/b", "Dockerfile", "x.y/z", data[:40].decode("utf-8", "replace").strip("/") or "a"):
        matcher.excluded(path)
        matcher.may_descend(path)


def conversion(data: bytes) -> None:
    from buildkit_py.errors import DockerfileError, UsageError
    from buildkit_py.frontends.dockerfile import convert, options

    asked = options.ConvertOptions(build_args={"a": "b", "X": ""}, allow=("network.host", "device"))
    try:
        dockerfile = convert.read(data, "Dockerfile", {})
        convert.examine(dockerfile, asked, Images())
        convert.convert(dockerfile, asked, Images())
        convert.outline(dockerfile, asked, Images())
    except (DockerfileError, UsageError):
        pass


class Images:
    """Every image is there, and has a trigger."""

    def resolve(self, ref: str, platform: str) -> ResolvedImage:
        from buildkit_py.digest import of_bytes
        from buildkit_py.llb.result import ResolvedImage

        config = {"Env": ["PATH=/bin"], "OnBuild": ["RUN x", "COPY --from=a b c"], "Cmd": ["x"]}
        return ResolvedImage(ref, of_bytes(ref.encode()), {"os": "linux", "config": config})


def main() -> None:
    import atheris  # type: ignore[import-not-found, import-untyped, unused-ignore]

    with atheris.instrument_imports(include=["buildkit_py.frontends"]):
        for name in MODULES:
            importlib.import_module(f"buildkit_py.frontends.dockerfile.{name}")
    arguments = sys.argv
    with tempfile.TemporaryDirectory() as corpus:
        if all(argument.startswith("-") for argument in arguments[1:]):
            for number, file in enumerate(sorted((ROOT / "tests/fixtures").glob("*/*/Dockerfile"))):
                Path(corpus, str(number)).write_bytes(file.read_bytes())
            arguments = [*arguments, corpus]
        atheris.Setup(arguments, one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
