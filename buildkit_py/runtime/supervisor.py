"""The supervisor: the process that runs one container, from its start until it has ended for good.

Forked from the command that starts the container, before that opens the index or starts a thread, and
without an exec, so that it costs a millisecond; in a session of its own, with no stream of the command's.
It holds the container's lock, its launcher (and with it the container: when the supervisor dies, the kernel
ends the container), its streams and its log, and answers on the container's socket. It never opens the
index: what it has to say stands in the container's directory.

The command (buildkit_py.runtime.front) is its first client, like those of the socket. Operations, by
``op``, with what the answer holds:

    start    (first connection only) directory, attach, size: then a spec follows; ``warning``s come first
    attach   streams: names, as ``streams``, and pipes for them; later ``exit``
    wait     later ``exit``
    follow   ``log`` whenever the log grew, ``exit``
    signal   signal: sends it; ``manual``: the restart policy is not to undo it
    stop     signal, timeout (seconds, negative: for ever): answered when it has ended
    resize   rows, columns
    tool     tool, args, with descriptors for its streams: see buildkit_py.sandbox.tool; later ``exit``
    exec     see buildkit_py.runtime.execution: answered as attach is, or, detached, when it runs; ``exit``
    restart  signal, timeout: stop, then start with the spec given before
    pause, unpause
    hold     pauses it where it isn't paused already, until ``release`` or the end of the connection

On a connection of ``attach``, ``signal`` and ``resize`` are not answered.
"""

from __future__ import annotations

import _socket
import os
import signal
import time

from buildkit_py.errors import PybuildError, SandboxError
from buildkit_py.linux.identity import Identity
from buildkit_py.runtime import config as configs
from buildkit_py.runtime import container, control, events, state
from buildkit_py.runtime.clients import Client, Clients
from buildkit_py.runtime.config import Config
from buildkit_py.runtime.log import Log
from buildkit_py.runtime.loop import Loop
from buildkit_py.runtime.state import State
from buildkit_py.runtime.streams import Streams
from buildkit_py.sandbox import wire
from buildkit_py.sandbox.launcher import Launcher, Running
from buildkit_py.sandbox.spec import SandboxSpec
from buildkit_py.snapshot.removal import remove_tree
from buildkit_py.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from buildkit_py.runtime.execution import Execution
    from buildkit_py.runtime.health import Check, Monitor
    from buildkit_py.runtime.hooks import Hooks

FAILED = 125


def main(conn: _socket.socket, launcher: Launcher, stubs: str, hooks: Hooks) -> None:
    """Wait on ``conn`` for a container, and run it to its end."""
    message, _ = control.receive(conn)
    if message is not None:
        spec = wire.receive_spec(conn)
        host_pids = "pid" in spec.host or "pid" in dict(spec.shared)
        if message["mode"] != launcher.mode or host_pids:
            launcher.close()
            launcher = Launcher.start(Identity(message["mode"]), stubs_in=stubs, host_pids=host_pids)
        _run(launcher, conn, message, spec, hooks)
    launcher.close()


def _run(
    launcher: Launcher, conn: _socket.socket, message: control.Message, spec: SandboxSpec, hooks: Hooks
) -> None:
    directory: str = message["directory"]
    lock = container.lock(directory)
    if lock < 0:
        control.send(conn, {"error": "the container is running already", "running": True})
        return
    supervisor = Supervisor(launcher, directory, lock, spec, hooks)
    try:
        supervisor.serve(conn, message)
    except BaseException:
        import traceback

        with open(
            os.open(f"{directory}/{control.CRASH}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w"
        ) as f:
            traceback.print_exc(file=f)
        raise


def _check_of(config: Config) -> Check | None:
    """The container's health check; most have none."""
    if not (config.request.health.test or config.image_config.get("Healthcheck")):
        return None
    from buildkit_py.runtime.health import check_of

    return check_of(config)


class Supervisor:
    def __init__(
        self, launcher: Launcher, directory: str, lock: int, spec: SandboxSpec, hooks: Hooks
    ) -> None:
        self._launcher = launcher
        self._hooks = hooks
        self._directory = directory
        self._lock = lock
        self._spec = spec
        self._loop = Loop()
        self._clients = Clients(self._loop, directory, self._do, self._is_early, self._release)
        self._config: Config = configs.read(directory)
        self._state: State = state.read(directory)._replace(restarts=0, stopped=False, error="")
        self._failures = 0
        """Runs in a row that were short."""
        asked = self._config.request.log
        self._log = Log(directory, asked.max_size, asked.max_files) if asked.driver != "none" else None
        self._streams: Streams | None = None
        self._running: Running | None = None
        self._live_spec = spec
        """With what the last set-up made of it."""
        self._executions: set[Execution] = set()
        self._monitor: Monitor | None = None
        self._size = (0, 0)
        self._stopping = ""
        """stop or restart, while the container is on its way out for that."""
        self._done = False
        self._said = ""
        """What there is to say of the end: a kill for lack of memory."""

    # The whole of it

    def serve(self, conn: _socket.socket, message: control.Message) -> None:
        """Run the container until it has ended for good."""
        self._watch_signals()
        first = self._clients.welcome(conn)
        self._size = tuple(message["size"])
        self._start(first, tuple(message["attach"]))
        while not self._done:
            self._loop.turn()
        # Clients that are slow get what is left for them.
        while self._executions or (self._streams is not None and self._streams.pending()):
            self._loop.turn()

    def _watch_signals(self) -> None:
        """The machine is going down, or somebody wants the supervisor gone: stop the container."""
        ours, theirs = os.pipe()
        os.set_blocking(theirs, False)
        signal.set_wakeup_fd(theirs, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: None)
        self._loop.watch(ours, lambda _: self._signalled(ours))

    def _signalled(self, fd: int) -> None:
        os.read(fd, 64)
        self._stop("stop", self._stop_signal(), self._stop_timeout())

    # Starting

    def _start(self, client: Client | None, attach: tuple[str, ...]) -> None:
        """Start the container; ``client`` is answered."""
        request, check = self._config.request, _check_of(self._config)
        streams = self._streams = Streams(
            self._loop,
            terminal=request.terminal,
            interactive=request.interactive,
            once="stdin" in request.attach,
            size=self._size,
            log=self._log,
            logged=self._clients.follow_up,
        )
        names, fds = streams.attach(attach) if attach else ((), ())
        try:
            spec, namespace = self._hooks.set_up(
                self._directory,
                self._config,
                self._spec,
                self._launcher.starter,
                lambda text: self._warn(client, text),
            )
            self._live_spec = spec
            stdin, stdout, stderr = streams.given
            self._running = self._launcher.run(
                spec, stdin=stdin, stdout=stdout, stderr=stderr, namespace=namespace
            )
        except PybuildError as e:
            self._failed(client, e)
            return
        finally:
            streams.started()
        if attach and client is not None:
            client.waits = client.attached = True
            client.tell({"streams": names}, fds)
        else:
            self._clients.expect_start(client)
        for fd in fds:
            os.close(fd)
        self._note(
            status="running",
            pid=self._running.pid,
            started=time.time(),
            finished=0.0,
            exit_code=0,
            oom_killed=False,
            error="",
            health="starting" if check is not None else "",
            health_log=(),
            failing=0,
        )
        self._event("start")
        self._loop.watch(self._running.fileno(), self._advance)
        if check is not None:
            from buildkit_py.runtime.health import Monitor

            self._monitor = Monitor(self._loop, check, self._probe, lambda: self._state, self._healthy)
        self._heard()

    def _probe(self, args: tuple[str, ...], output: int) -> Running:
        """A command in the container that nobody is connected to."""
        if self._running is None:
            raise PybuildError("the container is not running")
        spec = self._live_spec._replace(args=args, terminal=False, init=False)
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return self._launcher.join(self._running, spec, stdin=null, stdout=output, stderr=output)
        finally:
            os.close(null)

    def _healthy(self, changes: dict[str, Any]) -> None:
        before = self._state.health
        self._note(**changes)
        if self._state.health != before:
            self._event(f"health_status: {self._state.health}")

    def _warn(self, client: Client | None, text: str) -> None:
        if client is not None:
            client.tell({"warning": text})

    def _failed(self, client: Client | None, error: PybuildError) -> None:
        """It never came to the command."""
        self._hooks.tear_down(self._directory, self._config)
        if self._streams is not None:
            self._streams.end()
        ran = self._state.started > 0
        self._note(status="exited" if ran else "created", pid=0, exit_code=FAILED, error=error.message)
        for other in {client, *self._clients.waiting()} - {None}:
            assert other is not None
            other.refuse(error)
        self._finish(FAILED)

    # Running

    def _advance(self, events: int) -> None:
        """The sandbox has something to say."""
        assert self._running is not None
        fd = self._running.fileno()
        error: PybuildError | None = None
        try:
            status = self._running.advance()
        except SandboxError as e:
            # With whoever starts the sandboxes the kernel ends them, too.
            status, error = (container.LOST if self._running.executing else FAILED), e
        if status is None:
            self._heard()
            return
        self._loop.forget(fd)
        self._ended(status, error)

    def _heard(self) -> None:
        """What it said may be what somebody waits for; the first of it comes with the start."""
        assert self._running is not None
        if self._running.refusal:
            self._state = self._state._replace(error=self._running.refusal)
        elif self._running.executing:
            if self._running.pid != self._state.pid:
                # An OCI runtime made the container's first process only now.
                self._note(pid=self._running.pid)
            # A restart is answered by the next run, not by what this one still has to say.
            starter = self._clients.take_starter() if self._stopping != "restart" else None
            if starter is not None:
                starter.tell({"pid": self._state.pid})
            self._clients.let_in()

    def _ended(self, status: int, error: PybuildError | None) -> None:
        running, streams = self._running, self._streams
        assert running is not None and streams is not None
        if self._monitor is not None:
            self._monitor.close()
            self._monitor = None
        self._running = None
        self._clients.let_in()
        self._loop.cancel(self._kill)
        self._keep_owners(running)
        streams.end()
        if self._log is not None:
            self._log.flush()
        self._said = self._hooks.tear_down(self._directory, self._config)
        if self._said:
            self._state = self._state._replace(oom_killed=True)
            self._event("oom")
        if error is not None:
            self._failed_late(error)
        ran = time.time() - self._state.started
        self._state = self._state._replace(exit_code=status, finished=time.time(), pid=0)
        self._event("die", exitCode=str(status))
        if self._stopping:
            self._event("stop")
        if self._stopping == "restart":
            self._stopping = ""
            self._tell_waiting(status)
            self._start(self._clients.take_starter(), ())
            if self._running is not None:
                self._event("restart")
            return
        # A policy is about commands that ran, as docker has it: one that can't be executed never will.
        settled = self._state.stopped or error or running.refusal
        delay = -1.0 if settled else self._delay(status, ran)
        if delay < 0:
            self._note(status="exited")
            self._finish(status)
            return
        self._note(status="restarting", restarts=self._state.restarts + 1)
        self._tell_waiting(status)
        self._loop.after(delay, self._restart)

    def _delay(self, status: int, ran: float) -> float:
        """Seconds until the restart policy, which may have been changed meanwhile, has it start again."""
        if self._config.request.remove:
            return -1.0
        self._config = configs.read(self._directory)
        if self._config.request.restart == "no":
            return -1.0
        from buildkit_py.runtime.restart import Policy

        policy = Policy(self._config.request.restart, self._failures)
        delay = policy.next(status, ran)
        self._failures = policy.failures
        return delay

    def _failed_late(self, error: PybuildError) -> None:
        self._state = self._state._replace(error=error.message)
        for client in [c for c in (self._clients.take_starter(), *self._clients.waiting()) if c is not None]:
            client.waits = False
            client.refuse(error)

    def _restart(self) -> None:
        self._start(None, ())

    def _keep_owners(self, running: Running) -> None:
        if running.owners or running.marked:
            from buildkit_py.runtime import recorded

            recorded.keep(self._directory, running)

    # The end

    def _finish(self, status: int) -> None:
        """Nothing will run again: let go of the container, and tell who waits."""
        self._done = True
        self._clients.close_door()
        trash: list[str] = []
        if self._config.request.remove:
            trash = self._remove()
        if self._log is not None:
            self._log.close()
        os.close(self._lock)
        starter = self._clients.take_starter()
        if starter is not None:
            if self._state.error:
                starter.tell({"error": self._state.error, "exit": status})
            else:
                starter.tell({"pid": 0})
        self._tell_waiting(status)
        for path in trash:
            try:
                remove_tree(path)
            except OSError:
                # A prune tries again.
                pass

    def _remove(self) -> list[str]:
        """``--rm``: gone for everybody at once; what is to be deleted."""
        gone = []
        if self._config.anonymous:
            from buildkit_py.runtime.volumes import VolumeStore

            volumes = VolumeStore(os.path.dirname(os.path.dirname(self._directory)))
            gone = [volumes.discard(name) for name in self._config.anonymous]
        try:
            gone.append(container.discard(self._directory))
        except OSError:
            return gone
        self._hooks.removed(self._config)
        self._event("destroy")
        return gone

    # Clients

    def _do(self, client: Client, message: control.Message) -> None:
        operation = getattr(self, "_do_" + str(message.get("op")), None)
        if operation is None:
            raise PybuildError(f"the container's supervisor doesn't know {message.get('op')!r}")
        operation(client, message)

    def _is_early(self, message: control.Message) -> bool:
        if message.get("op") not in ("exec", "tool") or self._running is None:
            return False
        # A pause for one of ours is short, and nobody asked for it.
        return not self._running.executing or (message["op"] == "exec" and self._held())

    def _tell_waiting(self, status: int) -> None:
        self._clients.tell_waiting({"exit": status, "said": self._said})

    # Operations

    def _do_attach(self, client: Client, message: control.Message) -> None:
        if self._streams is None or self._running is None:
            raise PybuildError("the container is between two runs", hint="try again in a moment")
        names, fds = self._streams.attach(tuple(message["streams"]))
        client.waits = client.attached = True
        client.tell({"streams": names, "terminal": self._config.request.terminal}, fds)
        for fd in fds:
            os.close(fd)
        self._event("attach")

    def _do_exec(self, client: Client, message: control.Message) -> None:
        if self._running is None:
            raise PybuildError("the container is not running")
        if self._state.status == "paused":
            raise PybuildError("the container is paused", hint="unpause it first")
        from buildkit_py.runtime.execution import Execution

        client.attached = True
        execution = client.execution = Execution(
            self._loop,
            message,
            lambda answer, fds: client.tell(answer, fds),
            lambda running, status: self._exec_ended(execution, running, status),
        )
        for action in ("exec_create", "exec_start"):
            self._event(f"{action}: " + " ".join(message["args"]))
        execution.start(self._launcher, self._running, self._live_spec)
        self._executions.add(execution)

    def _do_tool(self, client: Client, message: control.Message) -> None:
        if self._running is None:
            raise PybuildError("the container is between two runs", hint="try again in a moment")
        from buildkit_py.sandbox import tool

        spec = tool.fitted(self._live_spec, message["tool"], tuple(message["args"]))
        stdin, stdout, stderr = client.given
        running = self._launcher.join(self._running, spec, stdin=stdin, stdout=stdout, stderr=stderr)
        fd = running.fileno()
        self._loop.watch(fd, lambda _: self._tool_said(client, running, fd))

    def _tool_said(self, client: Client, running: Running, fd: int) -> None:
        answer: control.Message
        try:
            status = running.advance()
            if status is None:
                return
            answer = {"exit": status}
        except SandboxError as e:
            answer = {"error": e.message, "hint": e.hint}
        self._loop.forget(fd)
        self._keep_owners(running)
        client.tell(answer)

    def _exec_ended(self, execution: Execution, running: Running, status: int) -> None:
        self._executions.discard(execution)
        self._keep_owners(running)
        self._event("exec_die", exitCode=str(status))

    def _do_wait(self, client: Client, message: control.Message) -> None:
        client.waits = True

    def _do_follow(self, client: Client, message: control.Message) -> None:
        client.follows = client.waits = True
        client.conn.setblocking(False)
        client.tell({"log": True})

    def _do_resize(self, client: Client, message: control.Message) -> None:
        if client.execution is not None:
            client.execution.resize(message["rows"], message["columns"])
            return
        self._size = (message["rows"], message["columns"])
        if self._streams is not None:
            self._streams.resize(*self._size)
        if not client.attached:
            client.tell({})

    def _do_signal(self, client: Client, message: control.Message) -> None:
        number = int(message["signal"])
        if client.execution is not None:
            client.execution.kill(number)
            return
        if message.get("manual"):
            self._state = self._state._replace(stopped=True)
            self._loop.cancel(self._restart)
        self._event("kill", signal=str(number))
        if self._running is not None:
            self._running.kill(number)
            if self._state.status == "paused" and number == signal.SIGKILL:
                # One that is frozen by its control group of version 1 can't even die.
                self._freeze(False)
        elif message.get("manual"):
            self._end_wait_for_restart()
        if not client.attached:
            client.tell({})

    def _do_stop(self, client: Client, message: control.Message) -> None:
        client.waits = True
        self._stop("stop", *self._means(message))

    def _do_restart(self, client: Client, message: control.Message) -> None:
        if self._running is None:
            self._loop.cancel(self._restart)
            self._start(client, ())
            return
        self._clients.expect_start(client)
        self._stop("restart", *self._means(message))

    def _do_pause(self, client: Client, message: control.Message) -> None:
        if self._running is None or self._state.status != "running":
            raise PybuildError(f"the container is {self._state.status}, not running")
        self._freeze(True)
        client.tell({})

    def _do_unpause(self, client: Client, message: control.Message) -> None:
        if self._state.status != "paused":
            raise PybuildError("the container is not paused")
        self._freeze(False)
        client.tell({})

    def _do_hold(self, client: Client, message: control.Message) -> None:
        client.holds = self._held()
        if self._running is not None and self._state.status == "running":
            self._freeze(True)
            client.holds = True
        client.tell({})

    def _do_release(self, client: Client, message: control.Message) -> None:
        self._release(client)
        client.tell({})

    def _release(self, client: Client) -> None:
        held, client.holds = client.holds, False
        if held and not self._held():
            if self._state.status == "paused":
                self._freeze(False)
            self._clients.let_in()

    def _held(self) -> bool:
        return any(client.holds for client in self._clients)

    def _freeze(self, frozen: bool) -> None:
        from buildkit_py.runtime.freezer import freeze

        freeze(self._directory, self._state.pid, frozen)
        self._note(status="paused" if frozen else "running")
        self._event("pause" if frozen else "unpause")

    def _means(self, message: control.Message) -> tuple[int, float]:
        """Signal and timeout of a request, by default the container's."""
        number = message.get("signal") or self._stop_signal()
        timeout = message.get("timeout")
        return number, self._stop_timeout() if timeout is None else timeout

    def _stop(self, kind: str, number: int, timeout: float) -> None:
        self._stopping = kind
        if kind == "stop":
            self._state = self._state._replace(stopped=True)
        if self._running is None:
            self._loop.cancel(self._restart)
            self._end_wait_for_restart()
            return
        self._event("kill", signal=str(number))
        self._running.kill(number)
        if self._state.status == "paused":
            self._freeze(False)
        if timeout >= 0:
            self._loop.after(timeout, self._kill)

    def _end_wait_for_restart(self) -> None:
        self._note(status="exited")
        self._finish(self._state.exit_code)

    def _kill(self) -> None:
        if self._running is not None and self._stopping:
            self._event("kill", signal=str(int(signal.SIGKILL)))
            self._running.kill(signal.SIGKILL)

    def _stop_signal(self) -> int:
        from buildkit_py.runtime.signals import number_of

        text = self._config.request.stop_signal or self._config.image_config.get("StopSignal") or "TERM"
        try:
            return number_of(text)
        except PybuildError:
            # An image may say anything.
            return signal.SIGTERM

    def _stop_timeout(self) -> float:
        timeout = self._config.request.stop_timeout
        return 10.0 if timeout is None else float(timeout)

    # What is written down

    def _note(self, **changes: Any) -> None:
        self._state = self._state._replace(**changes)
        try:
            state.write(self._directory, self._state)
        except OSError:
            # Nobody can be told on a disk that takes nothing at all; the lock still says whether it runs.
            pass

    def _event(self, action: str, **attributes: str) -> None:
        events.write(self._directory, action, self._config, **attributes)
