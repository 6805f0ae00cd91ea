"""What to do about an errno, by call: the words that follow a SandboxError."""

from __future__ import annotations

import errno

DOCTOR = "run `pybuild doctor`: it says what this machine allows and how to mend it"
INSTALL = "sudo apt-get install"
NAMESPACES = "allow user namespaces with `sudo sysctl -w user.max_user_namespaces=28633`"
MANY_LAYERS = "the image has more layers than the kernel can stack: squash its base image"

_HINTS = {
    ("unshare", errno.EPERM): f"user namespaces are forbidden here: {DOCTOR}",
    ("unshare", errno.ENOSPC): NAMESPACES,
    ("unshare", errno.EUSERS): NAMESPACES,
    ("unshare", errno.EINVAL): "the process has threads already, or the kernel lacks the namespace",
    ("unshare", errno.ENOSYS): "the kernel is built without user namespaces (CONFIG_USER_NS)",
    ("clone", errno.ENOSPC): "raise the limits with `sudo sysctl -w user.max_pid_namespaces=28633`",
    ("clone", errno.EPERM): DOCTOR,
    ("clone", errno.EAGAIN): "the limit of processes is reached: raise it with `ulimit -u`",
    ("fsopen", errno.ENOSYS): "Linux 5.12 or newer is needed",
    ("fsopen", errno.ENODEV): "the kernel lacks this file system: `sudo modprobe overlay`",
    ("fsopen", errno.EPERM): DOCTOR,
    ("mount", errno.EPERM): DOCTOR,
    ("mount", errno.E2BIG): MANY_LAYERS,
    ("mount_setattr", errno.ENOSYS): "Linux 5.12 or newer is needed",
    ("pivot_root", errno.EINVAL): "this process runs in a chroot or on an initramfs: use a real root",
}


def hint(call: str, number: int) -> str:
    return _HINTS.get((call, number), "")
