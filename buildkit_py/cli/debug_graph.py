"""``pybuild debug graph``"""

from __future__ import annotations

from buildkit_py.cli import values
from buildkit_py.cli.command import Args, Argument, Command, option
from buildkit_py.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from buildkit_py.digest import Digest
    from buildkit_py.engine import Engine
    from buildkit_py.llb.graph import Graph, Node
    from buildkit_py.llb.result import ResolvedImage

SHAPES = {"ImageSource": "cylinder", "LocalSource": "folder", "InlineSource": "note", "Exec": "box"}


class _Offline:
    """Base images as far as the store knows them: a drawing asks no registry."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def resolve(self, ref: str, platform: str) -> ResolvedImage:
        from buildkit_py.digest import of_bytes
        from buildkit_py.image import reference
        from buildkit_py.llb.result import ResolvedImage

        image = self._engine.images.lookup(reference.parse(ref), platform)
        if image is None:
            return ResolvedImage(ref, of_bytes(ref.encode()), {})
        return ResolvedImage(ref, image.manifest or image.id, image.config)


def run(args: Args) -> int:
    from buildkit_py.engine import Engine
    from buildkit_py.frontends.dockerfile.convert import ConvertOptions, convert
    from buildkit_py.frontends.dockerfile.dump import read_file
    from buildkit_py.frontends.dockerfile.parser import parse

    path = args.text("file")
    dockerfile = parse(read_file(path), path)
    options = ConvertOptions(
        build_args=dict(values.variables(args.texts("build_args"), "--build-arg")),
        target=args.text("target"),
        platforms=(args.text("platform"),) if args.text("platform") else (),
    )
    engine = Engine()
    try:
        result = convert(dockerfile, options, _Offline(engine))
    finally:
        engine.close()
    print(dot(result.graph, tuple(t.root for t in result.targets if t.root is not None)))
    return 0


def dot(graph: Graph, roots: tuple[Digest, ...]) -> str:
    """The part of a graph that the roots need, as DOT, what can run at the same time on one rank."""
    import networkx

    needed = {node.digest for node in graph.needed_for(roots)}
    dag = graph.networkx().subgraph(needed)
    out = ["digraph build {", '  rankdir="BT";', '  node [fontname="sans-serif"];']
    for generation in networkx.topological_generations(dag):
        out += [_node(graph.nodes[digest], digest in roots) for digest in generation]
    out += [f'  "{_id(source)}" -> "{_id(target)}";' for source, target in dag.edges]
    return "\n".join([*out, "}"])


def _node(node: Node, is_root: bool) -> str:
    shape = SHAPES.get(type(node.op).__name__, "component")
    label = node.meta.name.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\l")
    place = f"\\n{node.meta.path}:{node.meta.start}" if node.meta.start else ""
    style = ', style="bold"' if is_root else ""
    return f'  "{_id(node.digest)}" [label="{label}{place}", shape="{shape}"{style}];'


def _id(digest: Digest) -> str:
    return digest.partition(":")[2][:12]


COMMAND = Command(
    "debug graph",
    "Print a Dockerfile's build graph in DOT, for graphviz.",
    (
        option(
            "--build-arg",
            name="build_args",
            multiple=True,
            metavar="NAME[=VALUE]",
            help="Set a build argument",
        ),
        option("--platform", metavar="OS/ARCH", help="Build for this platform"),
        option("--target", metavar="STAGE", help="Stop at this stage"),
        Argument("file", metavar="FILE", required=False, default="Dockerfile"),
    ),
    run,
    examples=("pybuild debug graph Dockerfile | dot -Tsvg > graph.svg",),
)
