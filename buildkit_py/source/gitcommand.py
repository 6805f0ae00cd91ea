"""Running the git program, in the one way in which anything here runs it.

A clean environment: no settings but those given here, no hooks, no prompts, no protocols but https, http,
ssh and git. What a Dockerfile names may not reach the user's keys; what stands on the command line is the
user's own wish and may. See git(1), git-config(1), protocol.allow.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import unquote, urljoin, urlsplit

from buildkit_py.errors import PybuildError
from buildkit_py.linux.userns import find
from buildkit_py.llb.address import public, shown
from buildkit_py.tuples import NamedTuple
from buildkit_py.typed import TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess

PROTOCOLS = ("https", "http", "ssh", "git")
_PASSED_ON = (
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "TMPDIR",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "GIT_SSL_CAINFO",
) + tuple(
    name for stem in ("http_proxy", "https_proxy", "all_proxy", "no_proxy") for name in (stem, stem.upper())
)
_SETTINGS = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.symlinks=true",
    "core.autocrlf=false",
    "core.attributesFile=/dev/null",
    "core.excludesFile=/dev/null",
    "credential.helper=",
    "fetch.recurseSubmodules=false",
    "gc.auto=0",
    "http.lowSpeedLimit=100",
    "http.lowSpeedTime=60",
    "init.defaultBranch=main",
    "maintenance.auto=false",
    "protocol.version=2",
    "submodule.recurse=false",
)
_MAX_TEXT = 4000
_HELPER = (
    '!f() { [ "$1" != get ] || printf "username=%s\\npassword=%s\\n" '
    '"$PYBUILD_GIT_USER" "$PYBUILD_GIT_PASSWORD"; }; f'
)
"""See gitcredentials(7)."""
_MAX_REDIRECTS = 10
_FIRST_REQUEST = "/info/refs?service=git-upload-pack"


class Access(NamedTuple):
    """What git may use to reach a server."""

    local: frozenset[str] = frozenset()
    """URLs that the user gave on the command line: they may be ``file://``, and reach the user's keys."""
    agent: Callable[[], str] = lambda: ""
    """The socket of the SSH agent that Dockerfiles may use (``--ssh default``); "" for none."""
    secret: Callable[[str], str] = lambda name: ""
    """A build secret by id, "" where there is none: ``GIT_AUTH_TOKEN[.HOST]``, ``GIT_AUTH_HEADER[.HOST]``."""


class GitCommand:
    """``url`` says on whose behalf git is run: what it may use depends on that.

    ``known_hosts``: a file of ours for the keys of SSH servers that are met for the first time.
    """

    def __init__(self, access: Access, known_hosts: str) -> None:
        self._access = access
        self._known_hosts = known_hosts
        self._moved: dict[str, str] = {}
        """Where URLs that need a header are redirected to."""

    def run(self, url: str, *words: str, env: Mapping[str, str] | None = None, cwd: str | None = None) -> str:
        return self.output(url, words, env=env, cwd=cwd).decode("utf-8", "surrogateescape")

    def output(
        self,
        url: str,
        words: Sequence[str],
        *,
        input: bytes = b"",
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
    ) -> bytes:
        """What git prints. Raises PybuildError with what it says on failure."""
        program = find("git")
        if not program:
            raise PybuildError(
                f"{shown(url)} is a git repository, and the program git is not installed",
                hint="install it: sudo apt-get install git (on other systems: the package git)",
            )
        done = self._started(program, url, words, input, env, cwd)
        if done.returncode != 0 and url not in self._moved and self._is_redirect(url, done.stderr):
            self._moved[url] = self._redirected(url)
            done = self._started(program, url, words, input, env, cwd)
        if done.returncode != 0:
            raise _failed(url, done.stderr.decode("utf-8", "replace"), self._known_hosts)
        return done.stdout

    def _started(
        self,
        program: str,
        url: str,
        words: Sequence[str],
        input: bytes,
        env: Mapping[str, str] | None,
        cwd: str | None,
    ) -> subprocess.CompletedProcess[bytes]:
        import subprocess

        # Others see a command line: a login goes by the environment.
        moved = public(self._moved.get(url, url))
        return subprocess.run(
            [program, *(moved if word == url else word for word in words)],
            input=input,
            capture_output=True,
            env={**self._environment(url), **(env or {})},
            cwd=cwd or "/",
            umask=0o022,
            check=False,
        )

    def _is_redirect(self, url: str, stderr: bytes) -> bool:
        """Whether git was refused because of a redirect, which it does not follow with a header."""
        return re.search(rb"returned error: 30[12378]", stderr) is not None and bool(self._header(url))

    def _redirected(self, url: str) -> str:
        """Where a server sends us to which a header goes. Raises PybuildError for another server."""
        from buildkit_py.registry import settings, transport

        transport.load_httpx()
        import httpx

        start = urlsplit(url)
        host = start.netloc.rpartition("@")[2]
        trust, headers = settings.load().of(host), {"Authorization": self._header(url)}
        place = url.rstrip("/") + _FIRST_REQUEST
        try:
            with transport.client(
                trust, direct=settings.is_loopback(host), tls=start.scheme == "https"
            ) as client:
                for _ in range(_MAX_REDIRECTS):
                    with client.stream("GET", place, headers=headers) as response:
                        if not response.has_redirect_location:
                            return place.removesuffix(_FIRST_REQUEST)
                        place = urljoin(place, response.headers["Location"])
                    there = urlsplit(place)
                    if (there.scheme, there.netloc) != (start.scheme, host):
                        raise PybuildError(
                            f"the git repository {shown(url)} is redirected to {there.scheme}://"
                            f"{there.netloc.rpartition('@')[2]}, and its token goes to no other server",
                            hint="name the repository by its URL there, with a token for that host",
                        )
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as e:
            raise transport.explained(e, host) from e
        raise PybuildError(f"the git repository {shown(url)}: more than {_MAX_REDIRECTS} redirects")

    def _environment(self, url: str) -> dict[str, str]:
        env = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        own = url in self._access.local
        settings = [setting.partition("=")[::2] for setting in _SETTINGS]
        header = self._header(url)
        if header:
            split = urlsplit(url)
            place = f"{split.scheme}://{split.netloc.rpartition('@')[2]}/"
            settings.append((f"http.{place}.extraHeader", f"Authorization: {header}"))
            # git sends the header along to wherever it is redirected.
            settings.append((f"http.{place}.followRedirects", "false"))
        login = _login(url)
        if login:
            place, user, password = login
            settings.append((f"credential.{place}.helper", _HELPER))
            env |= {"PYBUILD_GIT_USER": user, "PYBUILD_GIT_PASSWORD": password}
        if "SSL_CERT_FILE" in env:
            env.setdefault("GIT_SSL_CAINFO", env["SSL_CERT_FILE"])
        env |= {
            "LC_ALL": "C.UTF-8",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ASKPASS": "",
            "SSH_ASKPASS_REQUIRE": "never",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_ALLOW_PROTOCOL": ":".join((*PROTOCOLS, "file") if own and is_file(url) else PROTOCOLS),
            "GIT_CONFIG_COUNT": str(len(settings)),
            "GIT_SSH_COMMAND": _ssh(self._known_hosts, own),
            "GIT_SSH_VARIANT": "ssh",
        }
        for number, (name, value) in enumerate(settings):
            env[f"GIT_CONFIG_KEY_{number}"] = name
            env[f"GIT_CONFIG_VALUE_{number}"] = value
        agent = self._access.agent() or (os.environ.get("SSH_AUTH_SOCK", "") if own else "")
        if agent:
            env["SSH_AUTH_SOCK"] = agent
        return env

    def _header(self, url: str) -> str:
        """The Authorization header that the build's secrets give for a URL's host; "" for none."""
        if not url.startswith(("https://", "http://")):
            return ""
        host = urlsplit(url).hostname or ""
        # Over plain http only where the user has named the host.
        for name in (f".{host}", "") if url.startswith("https://") else (f".{host}",):
            if token := self._access.secret(f"GIT_AUTH_HEADER{name}"):
                return _one_line(token)
            if token := self._access.secret(f"GIT_AUTH_TOKEN{name}"):
                from base64 import b64encode

                return "Basic " + b64encode(f"x-access-token:{_one_line(token)}".encode()).decode()
        return ""


def is_file(url: str) -> bool:
    return url.startswith("file://")


def _ssh(known_hosts: str, own: bool) -> str:
    """The ssh command. A Dockerfile's URL gets the agent that it was given, and none of the user's keys.

    A server whose key nobody knows is trusted, and its key kept; with another key it is then refused.
    """
    options = [
        "BatchMode=yes",
        "ConnectTimeout=15",
        "StrictHostKeyChecking=accept-new",
        f'UserKnownHostsFile="{known_hosts}" ~/.ssh/known_hosts',
    ]
    if not own:
        options += ["IdentityFile=none"]
    return shlex.join(["ssh", *(() if own else ("-F", "none")), *(w for o in options for w in ("-o", o))])


def _login(url: str) -> tuple[str, str, str] | None:
    """(server, user, password) of an http URL that holds a login."""
    split = urlsplit(url)
    login, at, server = split.netloc.rpartition("@")
    if not at or split.scheme not in ("http", "https"):
        return None
    user, _, password = (unquote(part) for part in login.partition(":"))
    # A line's end would be one of git's protocol with its helper.
    return (f"{split.scheme}://{server}", user, password) if (user + password).isprintable() else None


def _one_line(text: str) -> str:
    return text.strip().partition("\n")[0].strip("\r\0")


def _failed(url: str, text: str, known_hosts: str) -> PybuildError:
    text = text[-_MAX_TEXT:].replace(":\n", ": ")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    told = [line for line in lines if line.startswith(("fatal:", "error:", "remote:", "ssh:"))] or lines[-1:]
    said = "; ".join(told[:3]).replace(url, shown(url))
    said = "".join(c if c.isprintable() else "?" for c in said)
    return PybuildError(
        f"the git repository {shown(url)}: {said or 'git failed'}", hint=_hint(text, known_hosts)
    )


def _hint(text: str, known_hosts: str) -> str:
    lower = text.lower()
    if "transport" in lower and "not allowed" in lower:
        return "submodules and ADD may use https, http, ssh and git only"
    if (
        "could not read username" in lower
        or "terminal prompts disabled" in lower
        or "authentication" in lower
    ):
        return "it needs a login: give it with --secret id=GIT_AUTH_TOKEN,env=TOKEN, or does it not exist?"
    if "dubious ownership" in lower:
        return "the repository belongs to another user, and git does not read it for that"
    if "host key verification" in lower:
        return (
            "the server has another key than before: where that is right, remove the old one from "
            f"{known_hosts} and ~/.ssh/known_hosts (ssh-keygen -R HOST -f FILE)"
        )
    if "permission denied (publickey" in lower:
        return "give ADD your SSH agent with --ssh default"
    if "certificate" in lower:
        return "name a file of the certificates to trust in SSL_CERT_FILE"
    if "could not resolve host" in lower:
        return "check the name and the network"
    return ""
