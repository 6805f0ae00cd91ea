"""How an image was built, as a provenance predicate of SLSA (https://slsa.dev/spec/v0.2/provenance and
https://slsa.dev/spec/v1.1/provenance), filled in as BuildKit does
(https://docs.docker.com/build/metadata/attestations/slsa-definitions/).

``mode=min`` leaves out the values of build arguments and labels, the steps and the Dockerfile's text.
"""

from __future__ import annotations

import time
from base64 import b64encode
from collections.abc import Iterator

from buildkit_py.digest import Digest
from buildkit_py.errors import PybuildError
from buildkit_py.exporter.attestations import Predicate, purl
from buildkit_py.image import reference
from buildkit_py.llb.address import public
from buildkit_py.llb.graph import Node
from buildkit_py.llb.ops import Exec, File, GitSource, HttpSource, ImageSource, LocalSource
from buildkit_py.llb.secrecy import shown_value
from buildkit_py.oci import platform
from buildkit_py.request import AttestSpec
from buildkit_py.source.gitcommand import Access, GitCommand
from buildkit_py.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from buildkit_py.engine.build import Build
    from buildkit_py.llb.result import BuildTarget

VERSIONS = ("v0.2", "v1")
_TYPE = "https://slsa.dev/provenance/"
_BUILD_TYPE = "https://mobyproject.org/buildkit@v1"
_BUILD_TYPE_1 = "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md"
_HIDDEN = "*****"
_VCS = {
    "revision": ("rev-parse", "--verify", "HEAD"),
    "source": ("config", "--get", "remote.origin.url"),
}
"""How git is asked for it."""


def provenance(build: Build, target: BuildTarget, spec: AttestSpec) -> Predicate:
    """Of one platform; ``spec`` has been checked."""
    version = spec.get("version") or VERSIONS[0]
    facts = _Facts(build, target, spec)
    document = facts.version_1() if version == "v1" else facts.version_02()
    return Predicate(_TYPE + version, "provenance.json", document)


class _Facts:
    def __init__(self, build: Build, target: BuildTarget, spec: AttestSpec) -> None:
        self._build = build
        self._request = build.request
        self._full = spec.get("mode") == "max"
        self._builder = spec.get("builder-id")
        self._reproducible = spec.get("reproducible").lower() in ("true", "1", "t")
        graph = build.frontend.graph
        self._nodes = graph.needed_for((target.root,)) if target.root else []
        self._began = self._beginning()
        self._materials = [material for node in self._nodes for material in self._material(node)]
        if self._began and self._began not in self._materials:
            self._materials.append(self._began)
        # What comes from this machine can't be named so that others find it.
        self._complete = not self._locals()

    def version_02(self) -> dict[str, Any]:
        parameters = self._parameters()
        document: dict[str, Any] = {
            "builder": {"id": self._builder},
            "buildType": _BUILD_TYPE,
            "materials": self._materials,
            "invocation": {
                "configSource": self._source("entryPoint"),
                "parameters": parameters,
                "environment": {"platform": str(platform.host())},
            },
            "metadata": {
                "buildInvocationID": self._build.record.id,
                "buildStartedOn": _moment(self._build.record.started),
                "buildFinishedOn": _moment(time.time()),
                "completeness": {
                    "parameters": self._full,
                    "environment": True,
                    "materials": self._complete,
                },
                "reproducible": self._reproducible,
                "https://mobyproject.org/buildkit@v1#metadata": self._metadata(),
            },
        }
        if self._full:
            document["buildConfig"] = self._steps()
        return document

    def version_1(self) -> dict[str, Any]:
        internal: dict[str, Any] = {"builderPlatform": str(platform.host())}
        if self._full:
            internal["buildConfig"] = self._steps()
        return {
            "buildDefinition": {
                "buildType": _BUILD_TYPE_1,
                "externalParameters": {"configSource": self._source("path"), "request": self._parameters()},
                "internalParameters": internal,
                "resolvedDependencies": self._materials,
            },
            "runDetails": {
                "builder": {"id": self._builder},
                "metadata": {
                    "invocationID": self._build.record.id,
                    "startedOn": _moment(self._build.record.started),
                    "finishedOn": _moment(time.time()),
                    "buildkit_metadata": self._metadata(),
                    "buildkit_completeness": {
                        "request": self._full,
                        "resolvedDependencies": self._complete,
                    },
                    "buildkit_reproducible": self._reproducible,
                },
            },
        }

    def _material(self, node: Node) -> Iterator[dict[str, Any]]:
        op = node.op
        if isinstance(op, ImageSource):
            algorithm, _, value = op.digest.partition(":")
            uri = op.ref if "://" in op.ref else purl(_pinned(op), op.platform)
            yield {"uri": uri, "digest": {algorithm: value}}
        elif isinstance(op, GitSource | HttpSource):
            yield {"uri": _address(op), "digest": self._digest(op)}

    def _digest(self, op: GitSource | HttpSource) -> dict[str, str]:
        remote = self._build.context.services.remote
        if isinstance(op, GitSource):
            commit = remote.git.resolve(op)
            return {"sha1" if len(commit) == 40 else "sha256": commit}
        return {"sha256": (op.checksum or remote.http.get(op.url).digest).removeprefix("sha256:")}

    def _beginning(self) -> dict[str, Any]:
        """The build context, where that is from elsewhere."""
        op: GitSource | HttpSource | None = self._build.files.main.source
        if op is None and self._request.context.startswith(("http://", "https://")):
            op = HttpSource(self._request.context)
        return {"uri": _address(op), "digest": self._digest(op)} if op is not None else {}

    def _source(self, path: str) -> dict[str, Any]:
        """What began the build: the Dockerfile, and where it is from."""
        return {**self._began, path: self._build.files.shown}

    def _parameters(self) -> dict[str, Any]:
        request = self._request
        args = {
            "filename": request.file,
            "target": request.target,
            "platform": ",".join(request.platforms),
            "add-hosts": ",".join(f"{name}={address}" for name, address in request.extra_hosts),
            "force-network-mode": "" if request.network == "default" else request.network,
            "shm-size": str(request.shm_size or ""),
            "ulimit": ",".join(f"{name}={soft}:{hard}" for name, soft, hard in request.ulimits),
            **{f"context:{name}": public(value) for name, value in request.build_contexts},
        }
        if self._full:
            given = [("build-arg", request.build_args), ("label", request.labels)]
            for kind, pairs in given:
                args |= {f"{kind}:{name}": shown_value(name, value) or _HIDDEN for name, value in pairs}
        parameters: dict[str, Any] = {
            "frontend": "dockerfile.v0",
            "args": {name: value for name, value in args.items() if value},
            "locals": [{"name": name} for name in self._locals()],
            "secrets": [{"id": secret.id, "optional": True} for secret in request.secrets],
            "ssh": [{"id": ssh.id, "optional": True} for ssh in request.ssh],
        }
        return {name: value for name, value in parameters.items() if value}

    def _locals(self) -> list[str]:
        found = [node.op.name for node in self._nodes if isinstance(node.op, LocalSource)]
        if self._began:
            return [name for name in dict.fromkeys(found) if name != "context"]
        return list(dict.fromkeys([*found, "dockerfile"]))

    def _steps(self) -> dict[str, Any]:
        names = {node.digest: f"step{number}" for number, node in enumerate(self._nodes)}
        steps = [
            {"id": names[n.digest], "op": _op(n), "inputs": [f"{names[digest]}:0" for digest in n.inputs]}
            for n in self._nodes
        ]
        return {"llbDefinition": steps, "digestMapping": {str(d): name for d, name in names.items()}}

    def _metadata(self) -> dict[str, Any]:
        vcs = self._revision()
        metadata: dict[str, Any] = {"vcs": vcs} if vcs else {}
        if not self._full:
            return metadata
        locations = {
            f"step{number}": {"locations": [{"ranges": [_range(node)]}]}
            for number, node in enumerate(self._nodes)
            if node.meta.start
        }
        text = b64encode(self._build.files.dockerfile).decode()
        info = {"filename": self._build.files.shown, "language": "Dockerfile", "data": text}
        return {**metadata, "source": {"infos": [info], "locations": locations}}

    def _revision(self) -> dict[str, str]:
        """What the context was checked out of, where it is a directory of a git repository."""
        main = self._build.files.main
        if not main.directory or main.unpacked:
            return {}
        git = GitCommand(Access(), "/dev/null")
        found = {}
        for name, words in _VCS.items():
            try:
                found[name] = public(git.run(main.directory, *words, cwd=main.directory).strip())
            except PybuildError:
                continue
        return found if "revision" in found else {}


def _op(node: Node) -> dict[str, Any]:
    """What a step did, without the values of variables."""
    op = node.op
    described: dict[str, Any] = {"name": node.meta.name, "kind": type(op).__name__.lower()}
    if isinstance(op, Exec):
        described["args"], described["cwd"] = list(op.args), op.cwd
        if op.user:
            described["user"] = op.user
        if op.network != "default":
            described["network"] = op.network
    elif isinstance(op, File):
        described["actions"] = [{type(action).__name__.lower(): action._asdict()} for action in op.actions]
    elif isinstance(op, ImageSource):
        described["identifier"] = f"docker-image://{op.ref}@{op.digest}"
    elif isinstance(op, LocalSource):
        described["identifier"] = f"local://{op.name}"
    elif isinstance(op, GitSource | HttpSource):
        described["identifier"] = _address(op)
    return described


def _address(op: GitSource | HttpSource) -> str:
    if isinstance(op, HttpSource):
        return public(op.url)
    part = op.ref + (f":{op.subdir}" if op.subdir else "")
    return public(op.url) + (f"#{part}" if part else "")


def _pinned(op: ImageSource) -> str:
    """The name that was asked for, with the digest where that was."""
    ref = reference.parse(op.ref)
    return str(ref if ref.tag or ref.digest else ref.with_digest(Digest(op.digest)))


def _range(node: Node) -> dict[str, Any]:
    return {"start": {"line": node.meta.start}, "end": {"line": node.meta.end or node.meta.start}}


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
