"""Caches in a bucket of a real S3 service."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from buildkit_py.cache.backends import Services
from buildkit_py.cache.backends import s3 as s3_backend
from buildkit_py.digest import of_bytes
from buildkit_py.errors import RegistryError
from buildkit_py.image.assemble import LayerBlob
from buildkit_py.oci import media
from tests.integration.cache.machines import Machines, ran
from tests.support.objects import ACCESS, SECRET, Objects
from tests.support.runner import Pybuild

FILES = {
    "Dockerfile": """\
FROM busybox AS tools
RUN head -c 300000 /dev/urandom > /noise; echo tool > /tool
FROM busybox
COPY data /data
COPY --from=tools /tool /tool
RUN --mount=type=cache,target=/c date +%s%N | tee /stamp /c/stamp; cat /data /tool > /both
""",
    "data": "data\n",
}


@pytest.fixture
def pybuild(me: Pybuild) -> Pybuild:
    """One kind of user: who it is makes no difference to a service."""
    return me


@pytest.fixture
def spec(objects: Objects, machines: Machines, request: pytest.FixtureRequest) -> str:
    """A bucket's folder of the test's own; the machines know the key."""
    machines.environment.update(objects.environment)
    folder = of_bytes(request.node.name.encode())[7:19]
    return (
        f"type=s3,bucket=caches,region=us-east-1,endpoint_url={objects.endpoint},use_path_style=true,"
        f"prefix={folder}/"
    )


def keys(objects: Objects, spec: str) -> dict[str, int]:
    prefix = spec.rpartition("prefix=")[2]
    return {k.removeprefix(prefix): size for k, size in objects.keys().items() if k.startswith(prefix)}


def test_the_second_machine_builds_nothing(
    pybuild: Pybuild, machines: Machines, objects: Objects, spec: str
) -> None:
    context = pybuild.context(FILES)
    first, second = machines(), machines()
    assert "there is no cache so far" in first(
        "-t", "x", "--cache-from", spec, "--cache-to", f"{spec},mode=max,mounts=true,name=app", context
    )
    found = keys(objects, spec)
    assert "manifests/app" in found and len(found) == 7
    assert all(k.startswith(("manifests/", "blobs/sha256:")) for k in found)
    told = second("-t", "x", "--cache-from", f"{spec},name=app", context)
    assert ran(told) == []
    words = ("--rm", "x", "cat", "/stamp", "/both")
    assert first(*words, command="run") == second(*words, command="run")
    mount = pybuild.context(
        {"Dockerfile": "FROM busybox\nRUN --mount=type=cache,target=/c cat /c/stamp\n"}, "m"
    )
    stamp = first("--rm", "x", "cat", "/stamp", command="run").strip()
    assert stamp in machines()("--cache-from", f"{spec},name=app", mount)


def test_a_second_export_sends_nothing(
    pybuild: Pybuild, machines: Machines, objects: Objects, spec: str
) -> None:
    context = pybuild.context(FILES)
    machine = machines()
    target = f"{spec},mode=max,name=a;b"
    machine("--cache-to", target, context)
    prefix = spec.rpartition("prefix=")[2]

    def written() -> dict[str, object]:
        client = objects.client()
        found = client.list_objects_v2(Bucket="caches", Prefix=f"{prefix}blobs/")["Contents"]
        client.close()
        return {each["Key"]: each["LastModified"] for each in found if each["Size"] != config_size}

    index = objects.client()
    manifest = json.loads(index.get_object(Bucket="caches", Key=f"{prefix}manifests/b")["Body"].read())
    index.close()
    config_size = manifest["config"]["size"]
    before = written()
    assert len(before) == 4
    machine("--cache-to", target, context)
    assert written() == before
    # A lifecycle rule deletes what is old: what is still wanted gets young again.
    machine("--cache-to", f"{target},touch_refresh=0s", context)
    assert written() != before
    assert ran(machines()("--cache-from", f"{spec},name=b", context)) == []


def test_the_key_may_stand_in_the_option(
    pybuild: Pybuild, machines: Machines, objects: Objects, spec: str
) -> None:
    context = pybuild.context(FILES)
    machines.environment.clear()
    target = f"{spec},access_key_id={ACCESS},secret_access_key={SECRET}"
    machine = machines()
    assert "was not exported" not in machine("--cache-to", target, context)
    assert keys(objects, spec)
    # It is written down nowhere.
    store = Path(pybuild.folder) / "machine-1"
    for folder, _, names in os.walk(store):
        for name in names:
            path = Path(folder) / name
            if path.is_file() and not path.is_symlink():
                assert SECRET.encode() not in path.read_bytes()


def test_a_wrong_key_is_told(pybuild: Pybuild, machines: Machines, objects: Objects, spec: str) -> None:
    context = pybuild.context(FILES)
    machines.environment["AWS_SECRET_ACCESS_KEY"] = "wrong"
    told = machines()("--cache-from", spec, "--cache-to", spec, context)
    assert "is not used" in told and "was not exported" in told and "wrong" not in told
    told = machines()("--cache-to", f"{spec},ignore-error=false", context, status=1)
    assert "ERROR" in told and "unexpected" not in told
    machines.environment.clear()
    machines.environment["AWS_EC2_METADATA_DISABLED"] = "true"
    told = machines()("--cache-to", spec, context)
    assert "was not exported" in told and "redentials" in told


@pytest.mark.parametrize("fault", ["gone", "damaged"])
def test_a_broken_promise_is_built(
    pybuild: Pybuild, machines: Machines, objects: Objects, spec: str, fault: str
) -> None:
    context = pybuild.context(FILES)
    machines()("--cache-to", spec, context)
    prefix = spec.rpartition("prefix=")[2]
    client = objects.client()
    manifest = json.loads(
        client.get_object(Bucket="caches", Key=f"{prefix}manifests/buildkit-py")["Body"].read()
    )
    for layer in manifest["layers"]:
        key = f"{prefix}blobs/{layer['digest']}"
        if fault == "gone":
            client.delete_object(Bucket="caches", Key=key)
        else:
            client.put_object(Bucket="caches", Key=key, Body=b"x" * layer["size"])
    client.close()
    told = machines()("--cache-from", spec, context)
    assert "is given up" in told
    assert len(ran(told)) == 4


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("type=s3,region=x", "needs bucket="),
        ("type=s3,bucket=b,upload_parallelism=many", "upload_parallelism"),
        ("type=s3,bucket=b,touch_refresh=soon", "touch_refresh"),
        ("type=s3,bucket=b,key=x", "no field 'key'"),
    ],
)
def test_wrong_options_are_refused_at_once(me: Pybuild, option: str, message: str) -> None:
    context = me.context({"Dockerfile": "FROM nothing/there\n"})
    assert message in me("build", "--cache-to", option, context, status=2).stderr


def test_a_broken_connection_is_taken_up_again(
    objects: Objects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first body ends after a piece; the rest comes by another request."""
    data = os.urandom(3 << 20)
    blob = LayerBlob(media.OCI_LAYER, of_bytes(data), len(data))
    services = Services(lambda: None, lambda digest: [], lambda: (-1, ""))  # type: ignore[arg-type, return-value]
    attributes = {
        "bucket": "caches",
        "endpoint_url": objects.endpoint,
        "use_path_style": "true",
        "access_key_id": ACCESS,
        "secret_access_key": SECRET,
        "prefix": "broken/",
    }
    backend = s3_backend.open(attributes, services)
    client = objects.client()
    client.put_object(Bucket="caches", Key=f"broken/blobs/{blob.digest}", Body=data)
    client.close()
    get, starts = backend._get, []

    class Short:
        def __init__(self, body: object) -> None:
            self._body, self._left = body, 1

        def __enter__(self) -> Short:
            return self

        def __exit__(self, *_: object) -> None:
            self._body.close()  # type: ignore[attr-defined]

        def read(self, size: int) -> bytes:
            self._left -= 1
            if self._left < 0:
                raise RegistryError("the connection broke")
            return self._body.read(size)  # type: ignore[attr-defined, no-any-return]

    def breaking(key: str, start: int) -> object:
        starts.append(start)
        body = get(key, start)
        return Short(body) if len(starts) == 1 else body

    monkeypatch.setattr(backend, "_get", breaking)
    assert b"".join(backend.read_blob(blob)) == data
    assert starts == [0, 1 << 20]
    backend._client.close()
