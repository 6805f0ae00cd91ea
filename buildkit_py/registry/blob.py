"""A blob on its way from a registry: verified while it streams, resumed where the connection breaks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha256

from buildkit_py.digest import Digest
from buildkit_py.errors import NotFoundError, RegistryError
from buildkit_py.registry.endpoint import ATTEMPTS, Endpoint
from buildkit_py.registry.transport import TransientError

_PROGRESS = 1 << 20
"""Bytes that an attempt must bring for the count of attempts to start anew."""


class DamagedError(RegistryError):
    """The bytes were wrong. They were handed on already, so nobody else can be asked within this fetch."""


def fetch(endpoints: Sequence[Endpoint], repository: str, digest: Digest, size: int) -> Iterator[bytes]:
    """The bytes of a blob in order, from the first endpoint that has it.

    A connection that breaks is taken up again where it broke (Range), with the same endpoint and, when that
    fails for good, with the next. Ends normally only where digest and size are right; the consumer must not
    believe a byte before. Raises RegistryError, NotFoundError.
    """
    hashed = sha256()
    received = 0
    last: RegistryError | NotFoundError | None = None
    for endpoint in endpoints:
        failures = 0
        while failures < ATTEMPTS:
            begun = received
            try:
                for chunk in _read(endpoint, repository, digest, received):
                    received += len(chunk)
                    if received > size:
                        name = f"{endpoint.registry}/{repository}@{digest}"
                        raise DamagedError(f"{name} has more than the {size} bytes it should")
                    hashed.update(chunk)
                    yield chunk
                _verify(endpoint, repository, digest, size, received, hashed.hexdigest())
                return
            except TransientError as e:
                last = e
                failures = 1 if received - begun >= _PROGRESS else failures + 1
                if failures < ATTEMPTS:
                    endpoint.pause(failures - 1, e.after)
            except DamagedError:
                raise
            except NotFoundError:
                name = f"{endpoint.registry}/{repository}"
                last = NotFoundError(
                    f"{name} has no blob {digest}", hint="the image is not whole there: push it again"
                )
                break
            except RegistryError as e:
                last = e
                break
    raise last or NotFoundError(f"no registry is known for {repository}@{digest}")


def _read(endpoint: Endpoint, repository: str, digest: Digest, offset: int) -> Iterator[bytes]:
    headers = {"Range": f"bytes={offset}-"} if offset else None
    with endpoint.stream("GET", repository, f"blobs/{digest}", headers=headers) as response:
        skip = 0
        if offset and response.status_code != 206:
            skip = offset
        elif offset and not response.headers.get("Content-Range", "").startswith(f"bytes {offset}-"):
            raise RegistryError(f"{endpoint.address} answers with another range than was asked for")
        for chunk in response.iter_raw():
            if skip >= len(chunk):
                skip -= len(chunk)
                continue
            yield chunk[skip:] if skip else chunk
            skip = 0


def _verify(endpoint: Endpoint, repository: str, digest: Digest, size: int, received: int, got: str) -> None:
    name = f"{endpoint.registry}/{repository}@{digest}"
    if received < size:
        raise TransientError(f"{name} ended after {received} of {size} bytes")
    if "sha256:" + got != digest:
        raise DamagedError(
            f"{name} is damaged: what came has the digest sha256:{got}",
            hint="the registry or something between it and here changes data",
        )
