"""``type=s3``: a bucket of Amazon S3 or of any service that speaks its protocol.

<prefix><manifests_prefix><name>     the index's manifest, replaced at each export
<prefix><blobs_prefix><digest>       its config, and the blobs

A bucket's lifecycle rule may delete what is old: blobs that an export finds there are touched when they were
written longer than ``touch_refresh`` ago. boto3 is an optional requirement (``buildkit-py[s3]``).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import urlsplit

from buildkit_py import digest as digests
from buildkit_py.cache import shared, sharedread
from buildkit_py.cache.backends import WRITERS, Make, Services, duration, verified
from buildkit_py.cache.shared import SharedIndex
from buildkit_py.errors import ImageError, NotFoundError, RegistryError, UsageError
from buildkit_py.image.assemble import LayerBlob
from buildkit_py.oci import validate
from buildkit_py.registry.settings import is_loopback
from buildkit_py.typed import Any

_CHUNK = 1 << 20
_TRIES = 4
"""Connections that a download may need."""
_MAX_COPY = 5 << 30
"""What S3 copies in one request."""
_ABSENT = ("404", "NoSuchKey", "NotFound")


class S3Backend:
    def __init__(self, client: Any, bucket: str, attributes: Mapping[str, str], services: Services) -> None:
        prefix = attributes.get("prefix", "")
        names = [n for n in attributes.get("name", "").split(";") if n] or ["buildkit-py"]
        manifests = prefix + attributes.get("manifests_prefix", "manifests/")
        self._client = client
        self._bucket = bucket
        self._blobs = prefix + attributes.get("blobs_prefix", "blobs/")
        self._manifests = [manifests + name for name in names]
        self._stage = services.stage
        self._touch = duration(attributes.get("touch_refresh", "24h"), "touch_refresh")
        self.shown = f"s3://{bucket}/{self._manifests[0]}"
        self.place: tuple[str, str] | None = None
        self.writers = _number(attributes, "upload_parallelism", WRITERS)

    def read_index(self) -> SharedIndex | None:
        what = f"the cache {self.shown}"
        try:
            manifest = self._document(self._manifests[0])
        except NotFoundError:
            return None
        config = validate.decode(manifest, validate.Manifest, what).config
        if config.media_type != shared.CONFIG_TYPE:
            raise ImageError(
                f"{self.shown} has no cache in it", hint="pybuild reads caches that pybuild wrote"
            )
        validate.descriptor(config, what)
        data = self._document(self._blobs + config.digest)
        if digests.of_bytes(data) != config.digest:
            raise ImageError(f"{what} is damaged")
        return sharedread.decode(data, what)

    def _document(self, key: str) -> bytes:
        with self._errors(), self._client.get_object(Bucket=self._bucket, Key=key)["Body"] as body:
            data: bytes = body.read(validate.MAX_DOCUMENT + 1)
        return data

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Raises NotFoundError, RegistryError for what boto3 raises."""
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

        try:
            yield
        except ClientError as e:
            error = e.response.get("Error", {})
            status = e.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            if error.get("Code") in _ABSENT:
                raise NotFoundError(f"{self.shown}: there is no such object") from e
            text = error.get("Message") or error.get("Code") or str(e)
            hint = "check the access key and what it may do" if status in (401, 403) else ""
            raise RegistryError(f"{self.shown}: {text}", status=status, hint=hint) from e
        except (BotoCoreError, Boto3Error, HTTPClientError) as e:
            raise RegistryError(f"{self.shown}: {e}", hint=_hint(e)) from e

    def has(self, blob: LayerBlob) -> bool:
        key = self._blobs + blob.digest
        try:
            with self._errors():
                head = self._client.head_object(Bucket=self._bucket, Key=key)
        except NotFoundError:
            return False
        if head["ContentLength"] != blob.size:
            return False
        age = time.time() - head["LastModified"].timestamp()
        if age > self._touch and blob.size < _MAX_COPY:
            with self._errors():
                self._client.copy_object(
                    Bucket=self._bucket,
                    Key=key,
                    CopySource={"Bucket": self._bucket, "Key": key},
                    MetadataDirective="REPLACE",
                    Metadata={"touched": str(int(time.time()))},
                )
        return True

    def read_blob(self, blob: LayerBlob) -> Iterator[bytes]:
        return verified(self._chunks(blob), blob, self.shown)

    def _chunks(self, blob: LayerBlob) -> Iterator[bytes]:
        """A connection that breaks is taken up again where it broke."""
        key, received = self._blobs + blob.digest, 0
        for attempt in range(_TRIES):
            try:
                with self._errors(), self._get(key, received) as body:
                    while chunk := body.read(_CHUNK):
                        received += len(chunk)
                        yield chunk
                return
            except RegistryError:
                if attempt + 1 == _TRIES:
                    raise

    def _get(self, key: str, start: int) -> Any:
        extra = {"Range": f"bytes={start}-"} if start else {}
        return self._client.get_object(Bucket=self._bucket, Key=key, **extra)["Body"]

    def write_blob(self, make: Make) -> LayerBlob:
        """A blob's name is known when it has been made, so it passes through a file."""
        fd, path = self._stage()
        try:
            with open_file(fd) as file:
                blob = make(file.write)
                file.seek(0)
                with self._errors():
                    key = self._blobs + blob.digest
                    self._client.upload_fileobj(file, self._bucket, key, Config=_transfer())
        finally:
            os.unlink(path)
        return blob

    def write_index(self, config: bytes, manifest: bytes) -> None:
        self._put(self._blobs + digests.of_bytes(config), config)
        for key in self._manifests:
            self._put(key, manifest)

    def _put(self, key: str, data: bytes) -> None:
        with self._errors():
            self._client.put_object(Bucket=self._bucket, Key=key, Body=data)

    def close(self) -> None:
        pass


def open_file(fd: int) -> Any:
    """Unbuffered: what is written comes in large pieces."""
    return os.fdopen(fd, "w+b", buffering=0)


def _transfer() -> Any:
    from boto3.s3.transfer import TransferConfig

    return TransferConfig(multipart_chunksize=16 << 20, max_concurrency=4)


def _hint(e: Exception) -> str:
    if type(e).__name__ in ("NoCredentialsError", "PartialCredentialsError"):
        return "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the fields of these names"
    return ""


def _number(attributes: Mapping[str, str], name: str, default: int) -> int:
    text = attributes.get(name, "")
    if text and not (text.isascii() and text.isdigit() and 0 < int(text) <= 64):
        raise UsageError(f"type=s3: {name} is a number from 1 to 64")
    return int(text) if text else default


def check(attributes: Mapping[str, str], writing: bool) -> None:
    if not _bucket(attributes):
        raise UsageError("type=s3 needs bucket=", hint="or set AWS_BUCKET")
    _number(attributes, "upload_parallelism", WRITERS)
    duration(attributes.get("touch_refresh", "24h"), "touch_refresh")


def _bucket(attributes: Mapping[str, str]) -> str:
    return attributes.get("bucket") or os.environ.get("AWS_BUCKET", "")


def open(attributes: Mapping[str, str], services: Services) -> S3Backend:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    style = attributes.get("use_path_style", "false").lower()
    endpoint = attributes.get("endpoint_url") or os.environ.get("AWS_ENDPOINT_URL_S3") or ""
    region = attributes.get("region") or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    try:
        client = boto3.session.Session().client(
            "s3",
            region_name=region or "us-east-1",
            endpoint_url=endpoint or None,
            aws_access_key_id=attributes.get("access_key_id") or None,
            aws_secret_access_key=attributes.get("secret_access_key") or None,
            aws_session_token=attributes.get("session_token") or None,
            config=Config(
                s3={"addressing_style": "path" if style in ("true", "1", "") else "auto"},
                retries={"mode": "standard", "max_attempts": 5},
                connect_timeout=10,
                max_pool_connections=20,
                proxies={} if is_loopback(urlsplit(endpoint).netloc) else None,
                # Services that only speak S3 don't know the newer checksums; digests are checked anyway.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )
    except (BotoCoreError, ValueError) as e:
        raise UsageError(f"type=s3: {e}") from e
    return S3Backend(client, _bucket(attributes), attributes, services)
