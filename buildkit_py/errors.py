"""The exceptions that pybuild raises on purpose.

PybuildError                 anything that a person can read and act on
├── UsageError               the command line or a settings file is wrong (exit status 2)
├── DockerfileError          a Dockerfile is wrong; knows file and line range
│   └── UnsupportedError     a valid Dockerfile feature that is not built yet, by its name
├── StepError                a build step failed; knows the step's exit status
├── SandboxError             the kernel refused a part of the sandbox; knows the call and errno
├── NetworkError             a network, an address or a port can't be had
├── ContainerError           a container's command can't be executed; knows the exit status for that
├── StoreError               the local store is damaged, locked or full
├── RegistryError            a registry answered with an error, or not at all
├── ImageError               a document or archive of an image is invalid or hostile
└── NotFoundError            no such image, container, cache record or file

Every class carries the exit status of the command that it ends. Library code raises these and neither
prints nor exits; buildkit_py.cli.report renders them.
"""

from __future__ import annotations

from buildkit_py.typed import Any


class PybuildError(Exception):
    """What went wrong (``message``), and what to do about it (``hint``, may be empty).

    ``word`` is the word of the instruction that it is about, as written; empty for the instruction itself.
    """

    exit_status = 1
    warnings: tuple[Any, ...] = ()
    """BuildWarning: what the checks of a build found that failed later. They may tell why."""

    def __init__(self, message: str, *, hint: str = "", word: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.word = word


class UsageError(PybuildError):
    exit_status = 2


class DockerfileError(PybuildError):
    """An error in a Dockerfile.

    ``path`` names the file as the user wrote it, ``start`` and ``end`` are 1-based inclusive line
    numbers (0: the file as a whole), ``column`` is the 1-based column of the caret in line ``start``
    (0: where ``word`` stands), ``lines`` are the file's source lines, for showing the place.
    """

    def __init__(
        self,
        message: str,
        *,
        path: str = "Dockerfile",
        start: int = 0,
        end: int = 0,
        column: int = 0,
        lines: tuple[str, ...] = (),
        hint: str = "",
        word: str = "",
    ) -> None:
        super().__init__(message, hint=hint, word=word)
        self.path = path
        self.start = start
        self.end = end or start
        self.column = column
        self.lines = lines


class UnsupportedError(DockerfileError):
    """A feature of the language that this version refuses by name."""


class StepError(PybuildError):
    """A build step failed. ``status`` is the exit status of its process: 128+n after signal n, 0 without one.

    ``log`` holds the step's last log lines; ``path``, ``start``, ``end`` and ``lines`` are its place
    in the Dockerfile, as in DockerfileError.
    """

    def __init__(
        self,
        message: str,
        *,
        step: str = "",
        status: int = 1,
        log: tuple[str, ...] = (),
        path: str = "",
        start: int = 0,
        end: int = 0,
        lines: tuple[str, ...] = (),
        hint: str = "",
        word: str = "",
    ) -> None:
        super().__init__(message, hint=hint, word=word)
        self.step = step
        self.status = status
        self.log = log
        self.path = path
        self.start = start
        self.end = end or start
        self.lines = lines


class SandboxError(PybuildError):
    """The kernel refused a part of the sandbox: ``call`` is the syscall or file, ``errno`` its error."""

    def __init__(self, message: str, *, call: str = "", errno: int = 0, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.call = call
        self.errno = errno


class NetworkError(PybuildError):
    pass


class ContainerError(PybuildError):
    """``status`` is the command's own exit status: 126 or 127, as a shell has it."""

    def __init__(self, message: str, *, status: int, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.exit_status = status


class StoreError(PybuildError):
    pass


class RegistryError(PybuildError):
    """``status`` is the HTTP status, 0 where there was no answer."""

    def __init__(self, message: str, *, status: int = 0, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status


class ImageError(PybuildError):
    pass


class NotFoundError(PybuildError):
    pass
