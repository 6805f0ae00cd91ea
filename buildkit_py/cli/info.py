"""``pybuild info``: what is in the store, and what it stands on."""

from __future__ import annotations

import os
from collections import Counter

from buildkit_py import __version__
from buildkit_py.cli import sizes, template
from buildkit_py.cli.command import Args, Command, option
from buildkit_py.typed import Any

LINES = {
    "Containers": "Containers",
    "ContainersRunning": " Running",
    "ContainersPaused": " Paused",
    "ContainersStopped": " Stopped",
    "Images": "Images",
    "ServerVersion": "Version",
    "Driver": "Storage Driver",
    "LoggingDriver": "Logging Driver",
    "CgroupVersion": "Cgroup Version",
    "Rootless": "Rootless",
    "KernelVersion": "Kernel Version",
    "OperatingSystem": "Operating System",
    "OSType": "OSType",
    "Architecture": "Architecture",
    "NCPU": "CPUs",
    "MemTotal": "Total Memory",
    "Name": "Name",
    "DockerRootDir": "Store",
}
"""Docker's field names, and how they are shown."""


def run(args: Args) -> int:
    found = document()
    form = args.text("format")
    if form:
        print(template.render("{{json .}}" if form == "json" else form, found))
        return 0
    shown = found | {"MemTotal": sizes.binary(found["MemTotal"]), "Rootless": str(found["Rootless"]).lower()}
    for field, title in LINES.items():
        print(f"{title}: {shown[field]}")
    print("\n`pybuild doctor` says what this machine allows.")
    return 0


def document() -> dict[str, Any]:
    from buildkit_py.engine import Engine

    engine = Engine()
    try:
        states = Counter(container.state().status for container in engine.containers.list())
        images = len(engine.images.images())
        driver = "overlayfs" if engine.overlay else "copy"
        root = engine.root
        rootless = engine.identity.mode != "root"
    finally:
        engine.close()
    running = states["running"] + states["restarting"]
    system = os.uname()
    return {
        "Containers": sum(states.values()),
        "ContainersRunning": running,
        "ContainersPaused": states["paused"],
        "ContainersStopped": sum(states.values()) - running - states["paused"],
        "Images": images,
        "ServerVersion": __version__,
        "Driver": driver,
        "LoggingDriver": "json-file",
        "CgroupVersion": "2" if os.path.exists("/sys/fs/cgroup/cgroup.controllers") else "1",
        "Rootless": rootless,
        "KernelVersion": system.release,
        "OperatingSystem": _system(),
        "OSType": "linux",
        "Architecture": system.machine,
        "NCPU": len(os.sched_getaffinity(0)),
        "MemTotal": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "Name": system.nodename,
        "DockerRootDir": root,
    }


def _system() -> str:
    """Of os-release(5)."""
    try:
        with open("/etc/os-release", encoding="utf-8") as file:
            for line in file:
                if line.startswith("PRETTY_NAME="):
                    return line.partition("=")[2].strip().strip('"')
    except OSError:
        pass
    return "Linux"


COMMAND = Command(
    "info",
    "Show how many containers and images there are, and where.",
    (option("-f", "--format", metavar="FORMAT", help="json, or a template like '{{.Images}}'"),),
    run,
)
