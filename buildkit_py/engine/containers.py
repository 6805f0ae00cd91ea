"""What commands do with containers: run, start, stop, … Each asks the container's supervisor."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from buildkit_py.engine.client import Client
from buildkit_py.engine.create import make, plan, spec
from buildkit_py.engine.resources import Resources
from buildkit_py.errors import ContainerError, NotFoundError, PybuildError
from buildkit_py.progress.events import Emit
from buildkit_py.request import RunRequest
from buildkit_py.runtime import control, events
from buildkit_py.runtime import state as states
from buildkit_py.runtime.attachment import Attachment, size
from buildkit_py.runtime.config import Config
from buildkit_py.runtime.container import Container, ContainerStore, RunningError, lost
from buildkit_py.sandbox.spec import SandboxSpec
from buildkit_py.snapshot.removal import remove_tree
from buildkit_py.typed import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    import _socket

    from buildkit_py.engine import Engine


_ATTEMPTS = 10
"""So often others may start a container that is removed by force."""


def run(engine: Engine, request: RunRequest, emit: Emit, client: Client) -> int | None:
    """Create and start a container, and go along with it where the client is attached."""
    config = plan(engine, request, emit)
    # From the moment that there is a container no signal is to end us, and none is to be lost.
    attachment = _attachment(client, config)
    try:
        container, config = make(engine, config)
        try:
            client.created(container.id)
            made = spec(engine, container, config)
        except BaseException:
            if request.remove:
                remove(engine, container)
            raise
        try:
            return _start(engine, container, config, made, client, attachment)
        finally:
            if request.remove and not os.path.exists(container.path):
                engine.containers.forget(container)
    finally:
        if attachment is not None:
            attachment.close()


def start(engine: Engine, container: Container, client: Client) -> int | None:
    """Start a container that was created, or has ended; attach to one that runs."""
    if not container.alive():
        engine.enter()
        try:
            settle(engine, container)
        except RunningError:
            # Somebody was faster.
            pass
        else:
            config = container.config()
            made = spec(engine, container, config)
            attachment = _attachment(client, config)
            try:
                return _start(engine, container, config, made, client, attachment)
            finally:
                if attachment is not None:
                    attachment.close()
    return attach(container, client) if client.attach else None


def due(engine: Engine) -> tuple[str, ...]:
    """The names of the containers that are to run again after the machine was restarted, the oldest first:
    one may need what was there before it. To be called before begin()."""
    from buildkit_py.runtime import restart

    with ContainerStore.opened(engine.root) as store:
        found = store.list()
    names = []
    for container in reversed(found):
        # One that is gone meanwhile is due no more.
        with suppress(NotFoundError):
            if restart.due(container.config().request.restart, container.state()):
                names.append(container.name)
    return tuple(names)


def _start(
    engine: Engine,
    container: Container,
    config: Config,
    made: SandboxSpec,
    client: Client,
    attachment: Attachment | None,
) -> int | None:
    front = engine.take_front()
    names = _streams(client, config)
    try:
        room = size()
        answer, fds = front.start(
            container.path,
            engine.identity.mode,
            made,
            names,
            (room["rows"], room["columns"]),
            client.warn,
        )
        if "running" in answer:
            # Somebody was faster.
            return attach(container, client) if names else None
        if "untouched" in answer and config.request.remove:
            remove(engine, container)
        check(answer)
        client.starting()
        if attachment is None:
            return None
        status = attachment.serve(front.conn, answer["streams"], fds)
        if attachment.warning:
            client.warn(attachment.warning)
        return status
    except OSError:
        with suppress(BrokenPipeError):
            _give_up(front.conn)
        raise
    finally:
        front.close()


def _streams(client: Client, config: Config) -> tuple[str, ...]:
    """Those that the client is connected to."""
    return tuple(name for name in client.attach if name != "stdin" or config.request.interactive)


def _attachment(client: Client, config: Config) -> Attachment | None:
    """None where the client is connected to nothing."""
    if not _streams(client, config):
        return None
    return Attachment(terminal=config.request.terminal, proxy=client.proxy, detach=client.detach)


def check(answer: control.Message) -> None:
    """Raises ContainerError where the command could not be executed, PybuildError for all else."""
    if "error" in answer and "exit" in answer:
        raise ContainerError(answer["error"], status=answer["exit"])
    control.checked(answer)


def _give_up(conn: _socket.socket) -> None:
    """Nobody takes our output (its reader is gone, its disk is full): end the container, as that would have
    ended the command itself."""
    control.send(conn, {"op": "signal", "signal": int(signal.SIGKILL)})
    while (message := control.receive(conn)[0]) is not None and "exit" not in message:
        pass


def attach(container: Container, client: Client) -> int | None:
    """Connect the command's streams to a container that runs; as run()."""
    conn = connect(container)
    config = container.config()
    attachment = Attachment(terminal=config.request.terminal, proxy=client.proxy, detach=client.detach)
    try:
        tell(conn, container, {"op": "attach", "streams": _streams(client, config)})
        answer, fds = _receive(conn)
        if config.request.terminal:
            # One that has just ended has no use for it.
            with suppress(BrokenPipeError):
                control.send(conn, {"op": "resize", **size()})
        return attachment.serve(conn, tuple(answer["streams"]), fds)
    finally:
        attachment.close()
        conn.close()


def connect(container: Container) -> _socket.socket:
    """Raises PybuildError where the container doesn't run."""
    conn = control.connect(container.path)
    if conn is None:
        raise not_running(container)
    return conn


def tell(conn: _socket.socket, container: Container, message: control.Message) -> None:
    """Raises PybuildError where the supervisor went while it was connected to."""
    try:
        control.send(conn, message)
    except BrokenPipeError:
        raise not_running(container) from None


def not_running(container: Container) -> PybuildError:
    return PybuildError(
        f"the container {container.name} is not running", hint=f"`pybuild start {container.name}`"
    )


def _receive(conn: _socket.socket) -> tuple[control.Message, list[int]]:
    answer, fds = control.receive(conn)
    return (died() if answer is None else control.checked(answer)), fds


def died() -> NoReturn:
    raise PybuildError("the container's supervisor has died, and the container with it")


def wait(container: Container) -> int:
    """The exit status of a container, once it has ended; that of its last run where it has."""
    return _until_end(container, {"op": "wait"})


def stop(container: Container, signum: int | None = None, timeout: float | None = None) -> Callable[[], int]:
    """Have it stop, and return what waits for its end. One that doesn't run is left alone."""
    conn = _asked(container, {"op": "stop", "signal": signum, "timeout": timeout})
    return lambda: _end(container, conn)


def _until_end(container: Container, message: control.Message) -> int:
    return _end(container, _asked(container, message))


def _asked(container: Container, message: control.Message) -> _socket.socket | None:
    conn = control.connect(container.path)
    if conn is not None:
        # One that has just ended is told no more.
        with suppress(BrokenPipeError):
            control.send(conn, message)
    return conn


def _end(container: Container, conn: _socket.socket | None) -> int:
    if conn is None:
        return _last_status(container)
    try:
        while True:
            answer, _ = control.receive(conn)
            if answer is None:
                return _last_status(container)
            if "exit" in control.checked(answer):
                status: int = answer["exit"]
                return status
    finally:
        conn.close()


def _last_status(container: Container) -> int:
    """Of one that has ended."""
    status = container.state().exit_code
    if not os.path.exists(container.path):
        # One of --rm, which went while it was asked: what is left of it are its events.
        reader = events.Reader(os.path.dirname(os.path.dirname(container.path)))
        try:
            for event in reader.read():
                if event.id == container.id and event.action == "die":
                    status = int(event.attributes["exitCode"])
        finally:
            reader.close()
    return status


def kill(container: Container, signum: int) -> None:
    """Raises PybuildError where it doesn't run."""
    manual = signum not in (signal.SIGWINCH, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCONT)
    message = {"op": "signal", "signal": signum, "manual": manual}
    ask(container, message)


def ask(container: Container, message: control.Message) -> None:
    """Have the container's supervisor do something. Raises PybuildError where it can't, or there is none."""
    if control.ask(container.path, message) is None:
        raise PybuildError(f"the container {container.name} is not running")


@contextmanager
def paused(container: Container) -> Iterator[None]:
    """While its files are read by their places on this machine: nothing is written, and no link put in the
    way. One that was paused before stays so; when we are killed, it goes on. Raises PybuildError."""
    conn = control.connect(container.path)
    if conn is None:
        yield
        return
    try:
        _tell(conn, "hold")
        try:
            yield
        finally:
            _tell(conn, "release")
    finally:
        conn.close()


def _tell(conn: _socket.socket, operation: str) -> None:
    """Have something done by a supervisor, which may be about to end. Raises PybuildError."""
    try:
        control.send(conn, {"op": operation})
        control.checked(control.receive(conn)[0] or {})
    except BrokenPipeError:
        pass


def restart(
    engine: Engine, container: Container, signum: int | None = None, timeout: float | None = None
) -> None:
    from buildkit_py.engine.networking import kind_of
    from buildkit_py.linux import locks

    config = container.config()
    if kind_of(config.request.networking.networks) == "container" and not config.request.remove:
        # The other one may have been started since, in namespaces that this one's supervisor can't enter.
        stop(container, signum, timeout)
        lock = locks.open_lock(container.part("lock"))
        try:
            locks.wait(lock)
        finally:
            os.close(lock)
        start(engine, container, Client())
        events.write(container.path, "restart", config)
        return
    message = {"op": "restart", "signal": signum, "timeout": timeout}
    answer = control.ask(container.path, message)
    if answer is None:
        start(engine, container, Client())
    else:
        check(answer)


def settle(engine: Engine, container: Container) -> None:
    """Where its supervisor was killed: say so in its state, and give back what it had of the machine."""
    with engine.containers.locked(container):
        state = states.read(container.path)
        if state.live:
            config = container.config()
            Resources(engine.root).tear_down(container.path, config)
            ended = lost(container.path, state)
            states.write(container.path, ended)
            events.write(container.path, "die", config, exitCode=str(ended.exit_code))


def remove(engine: Engine, container: Container, *, force: bool = False, volumes: bool = False) -> None:
    """Raises PybuildError where it runs and is not forced, NotFoundError where it is gone."""
    for attempt in range(_ATTEMPTS):
        if force and container.alive():
            _until_end(container, {"op": "stop", "signal": int(signal.SIGKILL), "timeout": 0})
        engine.enter()
        try:
            config = container.config()
            settle(engine, container)
            engine.containers.remove(container)
            break
        except NotFoundError:
            if not force:
                raise
            # It was one of --rm, and went by itself.
            engine.containers.forget(container)
            return
        except RunningError:
            # Somebody else started it in between.
            if not force or attempt == _ATTEMPTS - 1:
                raise
    Resources(engine.root).removed(config)
    events.write(container.path, "destroy", config)
    if volumes or config.request.remove:
        for name in config.anonymous:
            if not users(engine, name):
                remove_tree(engine.volumes.discard(name))


def users(engine: Engine, volume: str) -> list[str]:
    """The names of the containers that have a volume."""
    found = []
    for container in engine.containers.list():
        try:
            mounts = container.config().mounts
        except NotFoundError:
            continue
        if any(m.kind == "volume" and m.source == volume for m in mounts):
            found.append(container.name)
    return found
