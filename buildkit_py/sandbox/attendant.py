"""The process beside a sandbox that needs someone outside: for a private network, and for recording
owners where one id is mapped.

Forked by the starter, in its pid namespace; serves what the sandbox's first process asks for on a socket
between the two, until the sandbox ends. What it learns goes to the main process on the run's socket.
"""

from __future__ import annotations

import _socket
import os
import select

from buildkit_py.errors import SandboxError
from buildkit_py.network import private
from buildkit_py.sandbox import wire
from buildkit_py.sandbox.owners import Recorder
from buildkit_py.typed import NoReturn


def main(conn: _socket.socket, link: _socket.socket, pidfd: int, joined: int = -1) -> NoReturn:
    """Serve one sandbox (``pidfd``), or a process that joined the one of ``joined``; never returns."""
    try:
        _serve(conn, link, pidfd, joined)
    except BaseException as e:
        _report(conn, e)
    finally:
        os._exit(0)


def _serve(conn: _socket.socket, link: _socket.socket, pidfd: int, joined: int) -> None:
    poll = select.poll()
    poll.register(link, select.POLLIN)
    poll.register(pidfd, select.POLLIN)
    recorder: Recorder | None = None
    network = -1
    left = False
    try:
        while True:
            for fd, event in poll.poll():
                if fd == pidfd:
                    if recorder is not None:
                        recorder.finish(conn)
                    if joined < 0 or recorder is None or not recorder.wanted() or os.fork():
                        return
                    # What the process left behind is under its filter, and wants answers.
                    recorder.moved()
                    poll.unregister(pidfd)
                    poll.register(joined, select.POLLIN)
                    pidfd, joined, left = joined, -1, True
                    continue
                if recorder is not None and fd == recorder.listener:
                    if event & select.POLLIN:
                        recorder.answer()
                    else:
                        poll.unregister(fd)
                        if left:
                            return
                    continue
                message, fds = wire.receive(link)
                if message is None:
                    poll.unregister(link)
                elif message[0] == "network":
                    network = _start_network(link, fds[0])
                elif message[0] == "owners":
                    recorder = Recorder(fds[0], fds[1], *message[1:])
                    poll.register(recorder.listener, select.POLLIN)
                    wire.send(link, ("ok",))
    finally:
        if network > 0:
            os.kill(network, 9)


def _start_network(link: _socket.socket, namespace: int) -> int:
    """Start the program that connects the namespace; tell the sandbox; its pid, -1 where it failed."""
    try:
        pid = private.connect(namespace)
    except SandboxError as e:
        wire.send(link, ("error", e.message, e.call, e.errno, e.hint))
        return -1
    finally:
        os.close(namespace)
    wire.send(link, ("ok",))
    return pid


def _report(conn: _socket.socket, error: BaseException) -> None:
    message = error.message if isinstance(error, SandboxError) else f"{type(error).__name__}: {error}"
    try:
        wire.send(conn, ("error", f"beside the sandbox: {message}", "attendant", 0, ""))
    except OSError:
        pass


def ask(link: _socket.socket, message: wire.Message, *fds: int) -> None:
    """From the sandbox's side: hand over descriptors with a request, wait until it is served."""
    wire.send(link, message, fds)
    await_answer(link)


def await_answer(link: _socket.socket) -> None:
    """Wait until the oldest request is served. Raises SandboxError where it could not be."""
    answer, _ = wire.receive(link)
    if answer is None:
        raise SandboxError("the process beside the sandbox has died", call="attendant")
    if answer[0] == "error":
        _, text, call, number, hint = answer
        raise SandboxError(text, call=call, errno=number, hint=hint)


def request_network(link: _socket.socket) -> None:
    """Have this process's network namespace connected; await_answer tells when it is."""
    namespace = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        wire.send(link, ("network",), (namespace,))
    finally:
        os.close(namespace)
