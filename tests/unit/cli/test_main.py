"""The console script: exit statuses, streams, and what it costs to start."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from buildkit_py import __version__, cli
from buildkit_py.cli import reference, table
from buildkit_py.cli.command import Args, Command
from buildkit_py.errors import NotFoundError

ROOT = Path(__file__).parents[3]
HEAVY = {
    "click", "rich", "dataclasses", "httpx", "networkx", "msgspec", "subprocess", "asyncio", "inspect",
    "concurrent.futures", "logging", "json", "threading", "sqlite3", "tempfile", "importlib.metadata",
}  # fmt: skip


def pybuild(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "buildkit_py.cli", *words],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYBUILD_DEBUG": "", **environment},
        timeout=60,
    )


def modules(code: str) -> set[str]:
    script = f"import sys; {code}; print(*sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return set(result.stdout.split())


def fake(
    monkeypatch: pytest.MonkeyPatch, error: BaseException | None, status: int = 0, **fields: int
) -> None:
    def run(args: Args) -> int:
        if error is not None:
            raise error
        return status

    command = Command("version", "Fake.", (), run)._replace(**fields)  # type: ignore[arg-type]
    monkeypatch.setattr(table, "load", lambda name: command)
    monkeypatch.delenv("PYBUILD_DEBUG", raising=False)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"pybuild {__version__}\n"
    assert cli.main(["version", "--format", "{{.Version}}"]) == 0
    assert capsys.readouterr().out == f"{__version__}\n"


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (NotFoundError("no such image", hint="pull it"), 1, "ERROR: no such image\nhint: pull it\n"),
        (KeyboardInterrupt(), 130, "\ninterrupted\n"),
        (RuntimeError("boom"), 1, "ERROR: unexpected RuntimeError: boom"),
    ],
)
def test_errors_end_here(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    status: int,
    text: str,
) -> None:
    fake(monkeypatch, error)
    assert cli.main(["version"]) == status
    captured = capsys.readouterr()
    assert captured.err.startswith(text) and captured.out == ""


def test_run_says_125_for_its_own_errors(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake(monkeypatch, NotFoundError("no such image"), error_status=125)
    assert cli.main(["version"]) == 125
    assert cli.main(["version", "--no-such"]) == 125
    capsys.readouterr()


def test_statuses_are_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, None, 42)
    monkeypatch.setenv("PYBUILD_DEBUG", "")  # so that it is put back
    assert cli.main(["version"]) == 42
    assert cli.main(["--debug", "version"]) == 42
    assert os.environ["PYBUILD_DEBUG"] == "1"


def test_the_real_thing(tmp_path: Path) -> None:
    assert pybuild("--version").stdout == f"pybuild {__version__}\n"
    assert pybuild().stdout.startswith("Usage: pybuild")
    wrong = pybuild("build", "--tga", "x", ".")
    assert wrong.returncode == 2 and wrong.stdout == ""
    assert (
        wrong.stderr.startswith("ERROR: no such option '--tga'")
        and "hint: see 'pybuild build --help'" in wrong.stderr
    )
    assert pybuild("bulid").stderr == "ERROR: there is no command 'bulid'\nhint: did you mean 'build'?\n"
    assert pybuild("run", "--no-such", "x").returncode == 125
    assert pybuild("tag", "only-one").returncode == 2
    assert (
        "--progress"
        in pybuild(_PYBUILD_COMPLETE="bash_complete", COMP_WORDS="pybuild build --pro", COMP_CWORD="2").stdout
    )
    assert "_PYBUILD_COMPLETE" in pybuild("completion", "bash").stdout


def test_a_reader_that_goes_away_is_no_error() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "buildkit_py.cli", "build", "--help"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(60) in (0, 1, 141)  # 1: click's own answer


def test_a_full_disk_and_closed_streams_are_errors_or_nothing() -> None:
    def shell(line: str) -> subprocess.CompletedProcess[str]:
        line = line.replace("pybuild", f"'{sys.executable}' -m buildkit_py.cli")
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(line, shell=True, capture_output=True, text=True, env=environment, timeout=60)

    full = shell("pybuild version > /dev/full")
    assert full.returncode == 1 and "No space left on device" in full.stderr
    for line in ("pybuild version >&-", "pybuild version <&- >&- 2>&-", "pybuild --version <&-"):
        assert shell(line).returncode == 0
    assert shell("pybuild bulid 2> /dev/full").returncode == 2
    wrong = shell("pybuild bulid >&-")
    assert wrong.returncode == 2 and wrong.stderr.startswith("ERROR: there is no command")


def test_names_are_utf8_in_any_locale(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Dockerfile is UTF-8, and so are the names in an image, whatever the shell's locale says."""
    started: list[object] = []

    def begin_anew(*words: object) -> None:
        started.extend(words)
        raise SystemExit

    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "iso8859-1")
    monkeypatch.setattr(sys, "orig_argv", ["python3", "-I", "/usr/bin/pybuild", "ps"])
    monkeypatch.setattr(os, "execv", begin_anew)
    with pytest.raises(SystemExit):
        cli.main()
    assert started == [sys.executable, [sys.executable, "-X", "utf8", "-I", "/usr/bin/pybuild", "ps"]]
    # Never twice, whatever the interpreter makes of it.
    monkeypatch.setattr(sys, "_xoptions", {"utf8": True})
    monkeypatch.setattr(os, "execv", pytest.fail)
    monkeypatch.setattr(cli, "_leave", lambda status: started.append(status))
    monkeypatch.setattr(sys, "argv", ["pybuild", "--version"])
    cli.main()
    assert started[-1] == 0


def test_the_reference_is_up_to_date() -> None:
    assert (ROOT / "docs/cli.md").read_text() == reference.text(), (
        "python -m buildkit_py.cli.reference > docs/cli.md"
    )


def test_nothing_heavy_is_imported_on_the_way_to_a_command() -> None:
    parse = "from buildkit_py.cli import fast, table; fast.parse(table.load({!r}), [])"
    for name in ("build", "run"):
        assert not modules(parse.format(name)) & HEAVY
    assert not modules("from buildkit_py.cli import main; main(['--version'])") & (HEAVY | {"typing", "re"})
    plain = "from buildkit_py.progress.display import open_display; open_display('plain')"
    assert not modules(plain) & (HEAVY - {"threading"})
    run = "cli.run cli.session engine.containers engine.resources runtime.supervisor sandbox.child"
    build = "cli.build cli.session engine.build frontends.dockerfile.convert"
    for way in (run, build):
        load = "; ".join(f"import buildkit_py.{name}" for name in way.split())
        assert not (modules(load) - modules("pass")) & (HEAVY - {"json", "sqlite3"} | {"typing"})


def test_start_up_costs_little_more_than_the_interpreter() -> None:
    """In turn, and the best of many: the machine may be busy with other tests."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}

    def once(code: str) -> float:
        begun = time.perf_counter()
        command = [sys.executable, "-c", code]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=ROOT, env=environment)
        return time.perf_counter() - begun

    pairs = [(once("pass"), once("from buildkit_py.cli import main; main(['--version'])")) for _ in range(20)]
    bare, version = (min(times) for times in zip(*pairs, strict=True))
    assert version < bare + 0.010
