"""``exec``: a command in a container that runs."""

from __future__ import annotations

from buildkit_py.engine import containers
from buildkit_py.engine.client import Client
from buildkit_py.engine.create import root_tree
from buildkit_py.errors import ContainerError, PybuildError
from buildkit_py.request import Pairs
from buildkit_py.runtime import control
from buildkit_py.runtime.attachment import Attachment, size
from buildkit_py.runtime.container import Container
from buildkit_py.runtime.isolation import own_ids
from buildkit_py.runtime.process import environment, hostname_of
from buildkit_py.snapshot.passwd import resolve_user
from buildkit_py.tuples import NamedTuple
from buildkit_py.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from buildkit_py.engine import Engine


class ExecRequest(NamedTuple):
    command: tuple[str, ...]
    env: Pairs = ()
    user: str = ""
    """"": the container's."""
    workdir: str = ""
    interactive: bool = False
    terminal: bool = False
    privileged: bool = False


def execute(engine: Engine, container: Container, request: ExecRequest, client: Client) -> int | None:
    """Run a command in the container; its exit status, None where it was left to run by itself.

    Raises ContainerError where it can't be executed.
    """
    conn = containers.connect(container)
    attachment = None
    if client.attach:
        attachment = Attachment(terminal=request.terminal, proxy=client.proxy, detach=client.detach)
    try:
        containers.tell(conn, container, _message(engine, container, request, client))
        answer, fds = control.receive(conn)
        if answer is None:
            if not container.state().live:
                raise containers.not_running(container)
            return containers.died()
        containers.check(answer)
        return attachment.serve(conn, tuple(answer["streams"]), fds) if attachment is not None else None
    finally:
        if attachment is not None:
            attachment.close()
        conn.close()


def _message(engine: Engine, container: Container, request: ExecRequest, client: Client) -> control.Message:
    config = container.config()
    engine.enter()
    user = request.user or config.request.user or config.image_config.get("User") or ""
    tree = root_tree(engine, container, config)
    try:
        uid, gid, groups, home = resolve_user(tree, user)
    except PybuildError as error:
        raise ContainerError(error.message, status=126, hint=error.hint) from None
    if not user and config.request.isolation.userns == "keep-id":
        uid, gid = own_ids(engine.identity)
    asked = config.request._replace(
        env=(*config.request.env, *request.env), terminal=request.terminal or config.request.terminal
    )
    hostname = hostname_of(config)
    return {
        "op": "exec",
        "args": request.command,
        "env": environment(config.image_config, asked, home, hostname),
        "cwd": request.workdir or asked.workdir or config.image_config.get("WorkingDir") or "/",
        "uid": uid,
        "gid": gid,
        "groups": groups,
        "terminal": request.terminal,
        "privileged": request.privileged,
        "interactive": request.interactive and "stdin" in client.attach,
        "streams": client.attach,
        **size(),
    }
