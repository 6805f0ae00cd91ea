"""How far a container is kept apart from the machine, as it is typed."""

from __future__ import annotations

import os

from buildkit_py.cli import values
from buildkit_py.cli.command import Args, flag, option
from buildkit_py.errors import UsageError
from buildkit_py.request import Isolation
from buildkit_py.typed import Any

_NAMESPACES = {
    "pid": ("", "private", "host"),
    "ipc": ("", "private", "none", "shareable", "host"),
    "uts": ("", "private", "host"),
    "cgroupns": ("", "private", "host"),
    "userns": ("", "host", "keep-id"),
}


def translate(args: Args) -> Isolation:
    """Raises UsageError for values of a wrong form."""
    isolation = Isolation(
        readonly=args.flag("read_only"),
        ulimits=values.ulimits(args.texts("ulimits")),
        privileged=args.flag("privileged"),
        cap_add=capabilities(args.texts("cap_add"), "--cap-add"),
        cap_drop=capabilities(args.texts("cap_drop"), "--cap-drop"),
        groups=groups(args.texts("group_add")),
        devices=tuple(device(text) for text in args.texts("devices")),
        sysctls=values.pairs(args.texts("sysctls"), "--sysctl", value_needed=True),
        init=args.flag("init"),
        runtime=args.text("runtime"),
        oom_score_adj=oom_score_adj(args.text("oom_score_adj")),
    )
    changes = security(args.texts("security_opt"))
    changes.update((kind, namespace(kind, args.text(kind))) for kind in _NAMESPACES if args.text(kind))
    return isolation._replace(**changes) if changes else isolation


def capabilities(texts: tuple[str, ...], name: str) -> tuple[str, ...]:
    """``NET_ADMIN``, ``cap_net_admin`` or ``ALL``, several in one value by commas."""
    if not texts:
        return ()
    from buildkit_py.linux import caps

    result = []
    for word in (word for text in texts for word in text.split(",")):
        capability = word.strip().upper().removeprefix("CAP_")
        if capability != "ALL" and capability not in caps.NAMES:
            import difflib

            close = difflib.get_close_matches(capability, caps.NAMES, 1)
            raise UsageError(
                f"{name}: there is no capability '{word}'", hint=f"did you mean {close[0]}?" if close else ""
            )
        result.append(capability)
    return tuple(result)


def groups(texts: tuple[str, ...]) -> tuple[str, ...]:
    if "keep-groups" in texts:
        raise UsageError(
            "--group-add: keep-groups is not done: the kernel can't map groups that are not the user's own",
            hint="name the groups of the image",
        )
    return texts


def device(text: str) -> tuple[str, str, str]:
    """``HOST[:CONTAINER][:PERMISSIONS]``"""
    host, *more = text.split(":")
    permissions = more.pop() if more and not more[-1].startswith("/") else "rwm"
    inside = more.pop() if more else host
    if more or not host.startswith("/") or not inside.startswith("/"):
        raise UsageError(
            f"--device: '{text}' is not of the form HOST[:CONTAINER][:PERMISSIONS]",
            hint="for example /dev/fuse or /dev/ttyUSB0:/dev/modem:rw",
        )
    if not permissions or set(permissions) - set("rwm"):
        raise UsageError(f"--device: the permissions of '{text}' are not of r, w and m")
    return host, os.path.normpath(inside), permissions


def oom_score_adj(text: str) -> int | None:
    if not text:
        return None
    try:
        value = int(text)
    except ValueError:
        value = 9999
    if not -1000 <= value <= 1000:
        raise UsageError(f"--oom-score-adj: '{text}' is not a number from -1000 to 1000")
    return value


def namespace(kind: str, text: str) -> str:
    """The value of ``--pid`` and the like; "" for a private one."""
    if text.startswith("container:") and kind in ("pid", "ipc", "uts"):
        if not text.removeprefix("container:"):
            raise UsageError(f"--{kind}: '{text}' names no container")
        return text
    if text not in _NAMESPACES[kind]:
        known = ", ".join(filter(None, _NAMESPACES[kind]))
        raise UsageError(f"--{kind}: '{text}' is not known", hint=f"known are {known}")
    return "" if text in ("private", "shareable") else text


def security(texts: tuple[str, ...]) -> dict[str, Any]:
    """Fields of Isolation by ``--security-opt``. Raises UsageError for what is not done, by name."""
    found: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            key, _, value = text.partition(":")
        if key == "no-new-privileges" and value in ("", "true", "false"):
            found["no_new_privileges"] = value != "false"
        elif key == "seccomp" and value:
            found["seccomp"] = "" if value == "builtin" else value
        elif key == "systempaths" and value == "unconfined":
            found["unmask"] = ("ALL",)
        elif key in ("mask", "unmask") and value:
            paths = ["ALL"] if value.upper() == "ALL" and key == "unmask" else value.split(":")
            if any(path != "ALL" and not path.startswith("/") for path in paths):
                raise UsageError(f"--security-opt: the paths of '{text}' are not absolute")
            found[key] = tuple(map(os.path.normpath, paths))
        elif (key, value) in (("apparmor", "unconfined"), ("label", "disable")):
            continue
        else:
            raise UsageError(f"--security-opt: '{text}' {_refused(key)}", hint=_KNOWN)
    return found


def _refused(key: str) -> str:
    if key in ("apparmor", "label"):
        return "is not done: containers are kept apart by namespaces, capabilities and seccomp, not by labels"
    return "is not known"


_KNOWN = (
    "known are no-new-privileges, seccomp=unconfined or a file, systempaths=unconfined, mask=PATHS, "
    "unmask=PATHS, apparmor=unconfined and label=disable"
)

OPTIONS = (
    option("--cap-add", multiple=True, metavar="CAPABILITY", help="Give a capability, or ALL"),
    option("--cap-drop", multiple=True, metavar="CAPABILITY", help="Take a capability away, or ALL"),
    option("--cgroupns", metavar="MODE", help="Control groups seen: private or host"),
    option(
        "--device",
        name="devices",
        multiple=True,
        metavar="HOST[:CONTAINER][:rwm]",
        help="Give a device of the host",
    ),
    option("--group-add", multiple=True, metavar="GROUP", help="A further group of the user"),
    flag("--init", help="Run a small process 1 that reaps orphans and passes signals on"),
    option("--ipc", metavar="MODE", help="Shared memory: private, none, shareable, host or container:NAME"),
    option("--oom-score-adj", metavar="NUMBER", help="Who dies first for lack of memory: -1000 to 1000"),
    option("--pid", metavar="MODE", help="Processes seen: private, host or container:NAME"),
    flag("--privileged", help="Give all capabilities and devices; hide nothing"),
    flag("--read-only", help="Mount the root file system read-only"),
    option("--runtime", metavar="PROGRAM", help="Have an OCI runtime run it: crun, runc or a path"),
    option("--security-opt", multiple=True, metavar="OPTION", help="no-new-privileges, seccomp=FILE, …"),
    option(
        "--sysctl", name="sysctls", multiple=True, metavar="NAME=VALUE", help="A kernel setting of its own"
    ),
    option(
        "--ulimit", name="ulimits", multiple=True, metavar="NAME=SOFT[:HARD]", help="Limit of the command"
    ),
    option("--userns", metavar="MODE", help="User ids: keep-id (the user's own number inside) or host"),
    option("--uts", metavar="MODE", help="Host name: private, host or container:NAME"),
)
