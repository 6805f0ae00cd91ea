"""An SSH server on loopback that serves git repositories to whoever has the key."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
from pathlib import Path

from tests.support.registry import free_port

CONFIG = """\
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host
PidFile none
AuthorizedKeysFile {folder}/authorized_keys
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
"""
_SEPARATION = Path("/run/sshd")


class Sshd:
    """``key`` is the private key that it lets in, as the user who runs the tests, for git alone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.port = free_port()
        self.key = folder / "key"
        keygen(self.key)
        public = self.key.with_suffix(".pub").read_text()
        (folder / "authorized_keys").write_text(f'restrict,command="{_shell(folder)}" {public}')
        (folder / "config").write_text(CONFIG.format(port=self.port, folder=folder))
        self._process: subprocess.Popen[str] | None = None
        self._made_separation = False

    def url(self, path: Path) -> str:
        return f"ssh://{getpass.getuser()}@127.0.0.1:{self.port}{path}"

    def __enter__(self) -> Sshd:
        if os.geteuid() == 0 and not _SEPARATION.exists():
            _SEPARATION.mkdir(mode=0o755)
            self._made_separation = True
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        if self._made_separation:
            _SEPARATION.rmdir()

    def start(self) -> None:
        """With a new host key."""
        for name in ("host", "host.pub"):
            (self.folder / name).unlink(missing_ok=True)
        keygen(self.folder / "host")
        program = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin") or "sshd"
        self._process = subprocess.Popen(
            [program, "-D", "-e", "-f", str(self.folder / "config")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stderr is not None
        told = ""
        for line in self._process.stderr:
            told += line
            if line.startswith("Server listening"):
                break
        else:
            raise RuntimeError(f"sshd did not start: {told}")

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.communicate()
            self._process = None


def keygen(path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", path], check=True)


def _shell(folder: Path) -> Path:
    """What a login runs: git-shell, for repositories of other users too."""
    script = folder / "shell"
    script.write_text(
        "#!/bin/sh\nexport GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'\n"
        'exec git-shell -c "$SSH_ORIGINAL_COMMAND"\n'
    )
    script.chmod(0o755)
    return script
