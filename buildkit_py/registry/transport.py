"""HTTP by httpx: clients by their trust, and every failure as a RegistryError that says what to do.

httpx is imported here alone, when the first request is made. Its command line (click, rich, pygments) would
be imported with it and is kept out: 65 ms instead of 108.
"""

from __future__ import annotations

import sys
import threading

from buildkit_py import __version__
from buildkit_py.errors import RegistryError, UsageError
from buildkit_py.registry.settings import HostSettings
from buildkit_py.typed import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl

    import httpx

CONNECT_SECONDS = 15.0
SILENCE_SECONDS = 60.0
"""How long a peer may say nothing."""

_import_lock = threading.Lock()


def load_httpx() -> None:
    """Import httpx without its command line."""
    with _import_lock:
        if "httpx" not in sys.modules:
            missing = "httpx._main" not in sys.modules
            if missing:
                sys.modules["httpx._main"] = None  # type: ignore[assignment]
            try:
                import httpx  # noqa: F401
            finally:
                if missing:
                    del sys.modules["httpx._main"]


class TransientError(RegistryError):
    """Worth trying again: a reset, a timeout, 429, 5xx. ``after``: seconds that the server asks for."""

    def __init__(self, message: str, *, status: int = 0, hint: str = "", after: float = 0.0) -> None:
        super().__init__(message, status=status, hint=hint)
        self.after = after


class NotSpokenError(RegistryError):
    """The peer does not speak what it was addressed in (TLS to a plain server or the reverse)."""


def client(settings: HostSettings, *, direct: bool, tls: bool) -> httpx.Client:
    """A client that trusts as the settings say.

    ``direct``: without a proxy. ``tls``: False for plain http, where loading authorities would be a waste.
    """
    load_httpx()
    import httpx

    return httpx.Client(
        verify=_context(settings) if tls else False,
        trust_env=not direct,
        follow_redirects=False,
        timeout=httpx.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS, pool=None),
        headers={"User-Agent": f"pybuild/{__version__}", "Accept-Encoding": "identity"},
    )


def _context(settings: HostSettings) -> ssl.SSLContext:
    """The system's authorities (certifi's where the system has none) and those of the settings."""
    import ssl

    context = ssl.create_default_context()
    if settings.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif not context.cert_store_stats()["x509_ca"] and not settings.ca:
        import certifi

        context.load_verify_locations(certifi.where())
    for file in settings.ca:
        try:
            context.load_verify_locations(file)
        except OSError as e:  # ssl.SSLError is one
            raise UsageError(f"cannot use the certificate authority {file}: {e.strerror or e}") from e
    for key, certificate in settings.keypair:
        try:
            context.load_cert_chain(certificate, key)
        except OSError as e:
            raise UsageError(f"cannot use the key pair {certificate}, {key}: {e.strerror or e}") from e
    return context


def explained(error: Exception, host: str) -> RegistryError:
    """An httpx error as one of ours."""
    import ssl

    import httpx

    if isinstance(error, httpx.InvalidURL | UnicodeError):
        return RegistryError(f"cannot reach {host}: that is not a valid address")
    causes = list(_causes(error))
    text = _plain(str(error)) or type(error).__name__
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return RegistryError(
                f"the certificate of {host} cannot be trusted: {cause.verify_message}",
                hint=f'name its authority in registries.toml: [registry."{host}"] ca = ["FILE.pem"]',
            )
    if isinstance(error, httpx.ConnectError) and any(_is_ssl(cause) for cause in causes):
        return NotSpokenError(
            f"{host} does not speak TLS: {text}",
            hint=f'where it speaks plain http, say so in registries.toml: [registry."{host}"] http = true',
        )
    if any(isinstance(cause, ConnectionRefusedError) for cause in causes) or "refused" in text.lower():
        return RegistryError(
            f"cannot reach {host}: connection refused", hint="is the registry running there?"
        )
    if any(type(cause).__name__ == "gaierror" for cause in causes):
        return RegistryError(
            f"cannot reach {host}: its name cannot be resolved",
            hint="check the name, the network and /etc/resolv.conf; or name a mirror in registries.toml",
        )
    if isinstance(error, httpx.TimeoutException):
        return TransientError(
            f"no answer from {host} in time", hint="check the network and the proxy settings"
        )
    if isinstance(error, httpx.RemoteProtocolError) and "location header" in text:
        return RegistryError(f"{host} redirects to an address that is not valid")
    if isinstance(error, httpx.RemoteProtocolError):
        return TransientError(f"{host} broke the connection off: {text}")
    if isinstance(error, httpx.TransportError):
        return TransientError(f"the connection to {host} failed: {text}")
    return RegistryError(f"cannot talk to {host}: {text}")


def _causes(error: BaseException | None) -> list[BaseException]:
    chain: list[BaseException] = []
    while error is not None and len(chain) < 10:
        chain.append(error)
        error = error.__cause__ or error.__context__
    return chain


def _is_ssl(error: BaseException) -> bool:
    import ssl

    return isinstance(error, ssl.SSLError)


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)[:300]
