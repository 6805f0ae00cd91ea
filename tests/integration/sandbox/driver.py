"""Starts sandboxes as the user that it runs as, and says what came of them: JSON in, JSON out.

Run by conftest.py in a process of its own (it enters a user namespace for good). Input:
``{"folder": …, "specs": [[spec fields, options], …], "together": bool}``. In paths and data ``{folder}`` and
``{upper}`` are replaced. A test can have Python code run in this process (options ``"code"``).
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import stat
import subprocess
import sys
import time
from typing import Any

from buildkit_py.errors import SandboxError
from buildkit_py.linux import userns
from buildkit_py.sandbox.launcher import Launcher, Running
from buildkit_py.sandbox.spec import SandboxMount, SandboxSpec

FOLDER = ""
NULL = os.open(os.devnull, os.O_RDWR)


def busybox(folder: str) -> str:
    """A layer with a static busybox, all its names, and a file and a link in /data."""
    layer = f"{folder}/busybox"
    if os.path.isdir(layer):
        return layer
    os.makedirs(f"{layer}/bin")
    shutil.copy("/bin/busybox", f"{layer}/bin/busybox")
    for name in subprocess.check_output(["/bin/busybox", "--list"], text=True).split():
        if name != "busybox":
            os.symlink("busybox", f"{layer}/bin/{name}")
    os.mkdir(f"{layer}/tmp")
    os.chmod(f"{layer}/tmp", 0o1777)
    os.mkdir(f"{layer}/data")
    with open(f"{layer}/data/file", "w") as f:
        f.write("data\n")
    os.symlink("file", f"{layer}/data/link")
    return layer


def make_spec(number: int, fields: dict[str, Any]) -> SandboxSpec:
    base = f"{FOLDER}/run{number}"
    fields = dict(fields)
    mounts = []
    for mount in fields.pop("mounts", ()):
        mount = {k: tuple(v) if isinstance(v, list) else v for k, v in mount.items()}
        if "data" in mount:
            mount["data"] = mount["data"].encode()
        mounts.append(SandboxMount(**mount))
    layers = fields.pop("layers", None)
    tree = fields.get("tree", "")
    upper = fields.pop("upper", base + "/fs")
    if upper:
        os.makedirs(upper, exist_ok=True)
        os.makedirs(base + "/work", exist_ok=True)
    spec = SandboxSpec(
        layers=(busybox(FOLDER),) if layers is None else tuple(layers),
        upper="" if tree else upper,
        work=base + "/work" if upper and not tree else "",
        args=tuple(fields.pop("args")),
        env=tuple(fields.pop("env", ("PATH=/bin", "HOME=/"))),
        hosts=fields.pop("hosts", "127.0.0.1\tlocalhost\n"),
        resolv_conf=fields.pop("resolv_conf", "nameserver 192.0.2.1\n"),
        mounts=tuple(mounts),
        groups=tuple(fields.pop("groups", ())),
        ulimits=tuple(tuple(limit) for limit in fields.pop("ulimits", ())),
    )
    return spec._replace(**fields)


def listing(folder: str) -> dict[str, Any]:
    """Path to [type and mode in octal, uid, gid, recorded owner or None]."""
    found: dict[str, Any] = {}
    for place, folders, files in os.walk(folder):
        for name in folders + files:
            path = os.path.join(place, name)
            info = os.lstat(path)
            owner = None
            plain = stat.S_ISREG(info.st_mode) or stat.S_ISDIR(info.st_mode)
            if plain and "user.pybuild.owner" in os.listxattr(path):
                owner = os.getxattr(path, "user.pybuild.owner").decode()
            found[os.path.relpath(path, folder)] = [oct(info.st_mode), info.st_uid, info.st_gid, owner]
    return found


class Started:
    def __init__(
        self, launcher: Launcher, number: int, fields: dict[str, Any], options: dict[str, Any]
    ) -> None:
        self.options = options
        self.spec = make_spec(number, fields)
        self.outputs = [os.memfd_create("out"), os.memfd_create("err")]
        self.terminal = -1
        out, err, stdin = *self.outputs, NULL
        if self.spec.terminal:
            self.terminal, stdin = os.openpty()
            out = err = stdin
        self.begun = time.perf_counter()
        self.running: Running = launcher.run(self.spec, stdin=stdin, stdout=out, stderr=err)
        if self.spec.terminal:
            os.close(stdin)

    def finish(self) -> dict[str, Any]:
        result: dict[str, Any] = {"pid": self.running.pid, "error": None, "status": None}
        if "kill" in self.options:
            time.sleep(self.options.get("after", 0.2))
            self.running.kill(self.options["kill"])
        shown = b""
        while self.terminal >= 0:
            try:
                shown += os.read(self.terminal, 4096)
            except OSError:
                break
        try:
            result["status"] = self.running.wait()
        except SandboxError as e:
            result["error"] = {"message": e.message, "call": e.call, "errno": e.errno, "hint": e.hint}
        result["seconds"] = time.perf_counter() - self.begun
        out, err = (os.pread(fd, 1 << 24, 0) for fd in self.outputs)
        result["out"] = (out or shown).decode("utf-8", "replace")
        result["err"] = err.decode("utf-8", "replace")
        result["upper"] = listing(self.spec.upper or self.spec.tree or "/nowhere")
        result["owners"] = {path: list(owner) for path, owner in self.running.owners.items()}
        result["marked"] = self.running.marked
        result["beside"] = sorted(os.listdir(os.path.dirname(self.spec.work))) if self.spec.work else []
        for fd in (*self.outputs, self.terminal):
            if fd >= 0:
                os.close(fd)
        return result


def main(request: dict[str, Any]) -> dict[str, Any]:
    global FOLDER
    FOLDER = request["folder"]
    identity = userns.enter()
    stubs_in = f"{FOLDER}/stubs" if request.get("stubs", True) else ""
    launcher = Launcher.start(identity, stubs_in=stubs_in)
    exec(request.get("before", ""), globals())
    results: list[dict[str, Any]] = []
    fields_of = request["specs"]
    if request.get("together"):
        started = [Started(launcher, n, fields, options) for n, (fields, options) in enumerate(fields_of)]
        if request.get("linger"):
            # Killed by the test meanwhile.
            print(json.dumps([s.running.pid for s in started]), flush=True)
            time.sleep(60)
        results = [s.finish() for s in started]
    else:
        for number, (fields, options) in enumerate(fields_of):
            results.append(Started(launcher, number, fields, options).finish())
    launcher.close()
    descriptors = len(os.listdir("/proc/self/fd"))
    return {"mode": identity.mode, "results": results, "descriptors": descriptors}


if __name__ == "__main__":
    request = json.loads(sys.stdin.buffer.read())
    text = json.dumps(request).replace("{folder}", request["folder"])
    answer = json.dumps(main(json.loads(text)))
    print(base64.b64encode(answer.encode()).decode())
