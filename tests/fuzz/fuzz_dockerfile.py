"""Fuzz target over lexer, parser, checker, printer and expansion.

    python tests/fuzz/fuzz_dockerfile.py -max_total_time=60 [CORPUS_DIRECTORY]

Any exception other than the project's own error for Dockerfiles is a finding. Needs atheris (not among the
test dependencies: it has no wheel for every Python); the arguments are libFuzzer's. Without a corpus it
starts from the parser's golden files.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]


def one_input(data: bytes) -> None:
    """Run everything that reads a Dockerfile's text."""
    from buildkit_py.errors import DockerfileError
    from buildkit_py.frontends.dockerfile import dag, dump, expand, parser, printer, semantics

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


def main() -> None:
    import atheris  # type: ignore[import-not-found, import-untyped, unused-ignore]

    with atheris.instrument_imports(include=["buildkit_py.frontends"]):
        for name in ("dag", "dump", "expand", "parser", "patterns", "printer", "semantics"):
            importlib.import_module(f"buildkit_py.frontends.dockerfile.{name}")
    arguments = sys.argv
    with tempfile.TemporaryDirectory() as corpus:
        if all(argument.startswith("-") for argument in arguments[1:]):
            for number, file in enumerate(sorted((ROOT / "tests/fixtures/parser").glob("*/Dockerfile"))):
                Path(corpus, str(number)).write_bytes(file.read_bytes())
            arguments = [*arguments, corpus]
        atheris.Setup(arguments, one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
