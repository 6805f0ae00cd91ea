"""What a registry answers: bodies of bounded size, and its failures as errors of ours."""

from __future__ import annotations

from buildkit_py.errors import NotFoundError, RegistryError
from buildkit_py.registry.transport import TransientError
from buildkit_py.typed import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx

_MAX_BODY = 5 << 20
_MAX_ERROR_BODY = 16384


def body(response: httpx.Response, limit: int = _MAX_BODY) -> bytes:
    """The body, up to a limit (bytes) that no document of a registry exceeds; an error's is just cut."""
    failed = not response.is_success
    limit = min(limit, _MAX_ERROR_BODY) if failed else limit
    parts: list[bytes] = []
    size = 0
    for part in response.iter_raw():
        parts.append(part)
        size += len(part)
        if size > limit:
            if failed:
                break
            raise RegistryError(f"{response.url.host} answers with more than {limit} bytes", status=200)
    return b"".join(parts)


def failure(
    response: httpx.Response, text: bytes, what: str, *, login_hint: str = ""
) -> RegistryError | NotFoundError:
    """The error for a status that is no success. ``what`` begins its message."""
    status = response.status_code
    said = _hidden(_said(text), response.request.headers.get("Authorization", ""))[:300]
    message = f"{what}: {said or response.reason_phrase or 'error'} (HTTP {status})"
    if status == 404:
        return NotFoundError(message, hint="check the image's name and tag")
    if status in (401, 403):
        return RegistryError(message, status=status, hint=login_hint)
    if status == 429 or status >= 500:
        hint = "the registry limits requests; log in, or use a mirror" if status == 429 else ""
        after = _seconds(response.headers.get("Retry-After", ""))
        return TransientError(message, status=status, hint=hint, after=after)
    return RegistryError(message, status=status)


def _said(text: bytes) -> str:
    """What the registry says for itself (distribution spec, error codes), fit to be printed."""
    import json

    try:
        document = json.loads(text)
        errors = document.get("errors", [])
        if not errors and isinstance(document.get("details"), str):
            errors = [{"message": document["details"]}]  # a token server of Docker Hub
        texts = [str(e.get("message") or e.get("code") or "") for e in errors]
        detail = [str(e["detail"]) for e in errors if isinstance(e.get("detail"), str)]
        said = "; ".join(t for t in [*texts, *detail] if t)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        said = ""
    return "".join(c if c.isprintable() else "?" for c in said)


def _hidden(said: str, authorization: str) -> str:
    """What a registry says without the secret that it was sent: a log may be read by more people."""
    import base64

    scheme, _, secret = authorization.partition(" ")
    secrets = [secret]
    if scheme == "Basic":
        secrets.append(base64.b64decode(secret).decode().partition(":")[2])
    for secret in secrets:
        said = said.replace(secret, "***") if secret else said
    return said


def _seconds(retry_after: str) -> float:
    """The seconds form of Retry-After; its date form is left to our own pauses."""
    short = retry_after.isascii() and retry_after.isdigit() and len(retry_after) < 6
    return float(retry_after) if short else 0.0
