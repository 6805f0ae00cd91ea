"""Errors and warnings as documents: what happened, where, why, and what to do about it.

------
 > [2/4] RUN make:
0.123 make: *** No rule to make target 'all'.  Stop.
------
Dockerfile:4
--------------------
   2 |     WORKDIR /src
   3 |     COPY . .
   4 | >>> RUN make
--------------------
ERROR: process "/bin/sh -c make" did not complete successfully: exit code: 2
hint: …
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence

from buildkit_py.cli import excerpt
from buildkit_py.cli.excerpt import Style
from buildkit_py.errors import ContainerError, DockerfileError, PybuildError, StepError, UnsupportedError
from buildkit_py.progress.display import colour_wanted
from buildkit_py.progress.text import clean
from buildkit_py.request import BuildWarning
from buildkit_py.typed import TextIO

EXCERPT = 3
"""Source lines shown under a warning of a build."""


def show(error: Exception, error_status: int = 0) -> int:
    """Write ``error`` to stderr; the exit status that it means (``error_status`` where that is set)."""
    stream = sys.stderr
    try:
        if os.environ.get("PYBUILD_DEBUG"):
            import traceback

            traceback.print_exception(error, file=stream)
        stream.write(render(error, Style(colour_wanted(stream))))
        stream.flush()
    except OSError:
        # There is nobody to tell; the exit status tells all the same.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    if isinstance(error, ContainerError):
        return error.exit_status
    return error_status or (error.exit_status if isinstance(error, PybuildError) else 1)


def render(error: Exception, style: Style) -> str:
    """The document for any exception."""
    out: list[str] = []
    if isinstance(error, StepError):
        if error.log:
            out += ["------", f" > {clean(error.step)}:", *(clean(line) for line in error.log), "------"]
        # A process that failed did what its instruction says: there is no word to point at.
        caret = None if error.status else excerpt.found(error)
        out += excerpt.place(error.path, error.start, error.end, error.lines, style, caret)
    elif isinstance(error, DockerfileError) and not (isinstance(error, UnsupportedError) and error.start < 1):
        caret = (error.start, error.column) if error.column else excerpt.found(error)
        out += excerpt.place(error.path, error.start, error.end, error.lines, style, caret)
    message, hint = _words(error)
    first, *more = message.split("\n")
    out.append(f"{style.red}{style.bold}ERROR:{style.off} {clean(first)}")
    out += [clean(line) for line in more]
    if hint:
        out += [f"{style.yellow}hint:{style.off} {clean(line)}" for line in hint.split("\n")[:1]]
        out += ["      " + clean(line) for line in hint.split("\n")[1:]]
    return "\n".join(out) + "\n"


def _words(error: Exception) -> tuple[str, str]:
    """Message and hint."""
    if isinstance(error, StepError):
        return error.message, error.hint or (_advice(error) if error.status else "")
    if isinstance(error, PybuildError):
        return error.message, error.hint
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror + (f": {os.fsdecode(error.filename)}" if _is_path(error.filename) else "")
        return text, _os_advice(error)
    return (
        f"unexpected {type(error).__name__}: {error}{_origin(error)}",
        "this is a fault of pybuild; PYBUILD_DEBUG=1 shows where it happened",
    )


def _advice(error: StepError) -> str:
    if error.status == 127:
        return "a command of this step was not found: is it installed in the image, and on its PATH?"
    if error.status == 126:
        return "a file of this step can't be executed: check its permission bits and its first line (#!)"
    if error.status == 137:
        return "the step was killed (SIGKILL), most often for want of memory"
    return "the steps before it are cached: mend it and build again; --progress=plain shows its whole log"


def _os_advice(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "'pybuild prune -a' frees what the store does not need; 'pybuild cache du' shows what it takes"
    if error.errno == errno.EROFS:
        return "the file system is read-only; PYBUILD_ROOT says where the store is"
    if error.errno in (errno.EACCES, errno.EPERM):
        return "'pybuild doctor' says what this machine allows"
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return "raise the limit of open files: ulimit -n 65536"
    return "PYBUILD_DEBUG=1 shows where it happened"


def _is_path(name: object) -> bool:
    return isinstance(name, str | bytes) and bool(name)


def _origin(error: Exception) -> str:
    """Where it was raised, as `` (module.py:12)``."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return ""
    return f" ({os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno})"


def warn(message: str) -> None:
    """A line on stderr, of what a container goes without."""
    stream = sys.stderr
    style = Style(colour_wanted(stream))
    stream.write(f"{style.yellow}WARNING:{style.off} {clean(message)}\n")
    stream.flush()


def warnings(found: Sequence[BuildWarning], *, checking: bool) -> None:
    """A build's warnings: a summary on stderr, or (``--check``) each with its place on stdout."""
    stream = sys.stdout if checking else sys.stderr
    stream.write(render_warnings(found, checking=checking, style=Style(colour_wanted(stream))))
    stream.flush()


def render_warnings(found: Sequence[BuildWarning], *, checking: bool, style: Style) -> str:
    if not checking:
        many = "1 warning found:" if len(found) == 1 else f"{len(found)} warnings found:"
        out = ["", f" {style.yellow}{many}{style.off}"]
        for item in found:
            rule = f"{item.rule}: " if item.rule else ""
            out.append(f" - {rule}{clean(item.message)}" + (f" (line {item.start})" if item.start else ""))
            out += _excerpt(item, style)
        return "\n".join(out) + "\n"
    out = []
    for item in found:
        title = item.rule + (f" - {item.url}" if item.url else "")
        out += [f"{style.yellow}WARNING:{style.off} {title}", clean(item.message)]
        out += [*excerpt.place(item.path, item.start, item.end, item.lines, style), ""]
    out.append(_verdict(len(found)))
    return "\n".join(out) + "\n"


def _excerpt(item: BuildWarning, style: Style) -> list[str]:
    """The first source lines that a warning is about."""
    if not 0 < item.start <= len(item.lines):
        return []
    last = min(max(item.start, item.end), len(item.lines), item.start + EXCERPT - 1)
    numbers = range(item.start, last + 1)
    out = [f"{style.dim}{n:7} | {excerpt.shown(item.lines[n - 1])}".rstrip() + style.off for n in numbers]
    return out + ([f"{style.dim}        | …{style.off}"] if last < item.end else [])


def _verdict(count: int) -> str:
    if not count:
        return "Check complete, no warnings found."
    return f"Check complete, {count} warning{'s have' if count > 1 else ' has'} been found!"


LEAST = 7
"""The width of a column at least: docker's tables have ten with the spaces."""


def table(rows: Sequence[Sequence[str]], stream: TextIO | None = None) -> None:
    """Write rows in columns, as docker's lists are: headings first, three spaces between."""
    stream = stream or sys.stdout
    rows = [[clean(cell) for cell in row] for row in rows]
    widths = [max(LEAST, *(len(row[n]) for row in rows)) for n in range(len(rows[0]))]
    for row in rows:
        line = "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        stream.write(line.rstrip() + "\n")
