"""``pybuild login``"""

from __future__ import annotations

import sys

from buildkit_py.cli.command import Args, Argument, Command, flag, option
from buildkit_py.errors import PybuildError, RegistryError, UsageError
from buildkit_py.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from buildkit_py.registry.credentials import Credential

HUB = "docker.io"


def run(args: Args) -> int:
    from buildkit_py.cli.report import warn
    from buildkit_py.registry import login
    from buildkit_py.registry.credentials import Credentials

    registry = address(args.text("server"))
    known = Credentials().of(registry)
    asked = args.text("username") or args.text("password") or args.flag("password_stdin")
    if known is not None and not asked:
        try:
            _check(registry, known)
        except RegistryError as e:
            if not sys.stdin.isatty():
                raise
            warn(f"what is stored is no longer right: {e.message}")
        else:
            print(f"Login Succeeded: {registry} takes the stored credentials")
            return 0
    credential = _credential(args, registry, known)
    _check(registry, credential)
    path, in_file = login.store(registry, credential)
    if in_file:
        warn(f"the password stands in {path} as it is; a credential helper (credsStore) would keep it better")
    if Credentials().of(registry) != credential:
        warn(f"another file has other credentials for {registry}, and goes first")
    print("Login Succeeded")
    return 0


def address(server: str) -> str:
    """``host[:port]`` of what was typed. Raises UsageError."""
    from buildkit_py.registry.credentials import names_of
    from buildkit_py.registry.settings import is_address

    host = server.split("://", 1)[-1].rstrip("/")
    for version in ("/v1", "/v2"):
        host = host.removesuffix(version)
    if not is_address(host):
        shown = server.rpartition("@")[2]  # what stands before it may be a password
        raise UsageError(f"invalid registry {shown!r}", hint="HOST or HOST:PORT is wanted")
    return HUB if host in names_of(HUB) else host


def _credential(args: Args, registry: str, known: Credential | None) -> Credential:
    from buildkit_py.cli.report import warn
    from buildkit_py.registry.credentials import Credential

    username, password = args.text("username"), args.text("password")
    if args.flag("password_stdin"):
        if password:
            raise UsageError("--password and --password-stdin exclude each other")
        if not username:
            raise UsageError("--password-stdin needs --username")
        password = sys.stdin.read().rstrip("\r\n")
    elif password:
        warn("others see a password on the command line: --password-stdin is safe")
    if not args.flag("password_stdin") and not (username and password):
        username, password = _asked(registry, username, password, known.username if known else "")
    if not username or not password or ":" in username:
        raise UsageError("a username, without a colon, and a password are wanted")
    return Credential(username, password)


def _asked(registry: str, username: str, password: str, default: str) -> tuple[str, str]:
    import getpass

    if not sys.stdin.isatty():
        raise PybuildError(
            "there is no terminal to ask for the password", hint="use --username and --password-stdin"
        )
    try:
        if not username:
            username = input(f"Username for {registry}" + (f" ({default}): " if default else ": ")) or default
        return username, password or getpass.getpass("Password: ")
    except EOFError:
        raise UsageError("no username or password was given") from None


def _check(registry: str, credential: Credential) -> None:
    from buildkit_py.registry.client import RegistryClient
    from buildkit_py.registry.login import Given

    client = RegistryClient(credentials=Given(registry, credential))
    try:
        client.check(registry)
    except RegistryError as e:
        if e.status in (401, 403):
            raise RegistryError(f"{registry} does not know this user and password", status=e.status) from e
        raise
    finally:
        client.close()


COMMAND = Command(
    "login",
    "Check a username and password for a registry, by default Docker Hub, and store them where docker does.",
    (
        option("-u", "--username", metavar="NAME", help="The user"),
        option("-p", "--password", metavar="TEXT", help="The password; others see it"),
        flag("--password-stdin", help="Read the password from standard input"),
        Argument("server", metavar="[HOST[:PORT]]", required=False, default=HUB),
    ),
    run,
    examples=("pybuild login -u ci --password-stdin registry.example.com <token",),
)
