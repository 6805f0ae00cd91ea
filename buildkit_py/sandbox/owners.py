"""Recording owners where one id is mapped (Identity.mode ``single``): seccomp_unotify(2).

The filter (buildkit_py.linux.seccomp, ``emulate``) sends chown and its kin, and mknod of devices, here.
The owner goes into OWNER_XATTR of the file, and the caller is answered 0. What can't carry the attribute
(links, fifos, sockets) is remembered by file handle, so that renames don't lose it, and looked up in the
upper directory when the sandbox has ended.

Races. A path is read from the caller's memory, which another thread may change after the kernel's own
check; nothing depends on that check, for the supervisor does all of the work by itself, with the
privileges of the sandbox's root, inside the sandbox's mount namespace: what it opens, the sandbox could
have opened. SECCOMP_IOCTL_NOTIF_ID_VALID after opening /proc/TID tells whether that was still the caller.
"""

from __future__ import annotations

import _socket
import errno
import fcntl
import os
import select
import stat
import struct

from buildkit_py.errors import SandboxError
from buildkit_py.linux import handles, mounts, seccomp
from buildkit_py.linux import syscall_names as tables
from buildkit_py.linux import syscalls as sc
from buildkit_py.linux.ownership import OWNER_XATTR, Owner, decode, encode
from buildkit_py.sandbox import wire

_RECV = 0xC0502100
_SEND = 0xC0182101
_ID_VALID = 0x40082102
_REQUEST = struct.Struct("=QIIiIQ6Q")
_RESPONSE = struct.Struct("=QqiI")

_AT_SYMLINK_NOFOLLOW = 0x100
_AT_EMPTY_PATH = 0x1000
_PATH_MAX = 4096
_UNCHANGED = 0xFFFFFFFF
_BATCH = 200
"""Records in one message: some 20 KiB."""

_STREAMS = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2} | {
    f"{folder}/{n}": n for folder in ("/dev/fd", "/proc/self/fd") for n in (0, 1, 2)
}
"""What entrypoints hand to their user: links of /proc, read for the caller."""
_ROOT = Owner(0, 0)
"""What a file of the upper directory is without a record."""
_IGNORED = (errno.EOPNOTSUPP, errno.EPERM, errno.EINVAL)
"""Answers of file systems that take no user attributes (proc, pipes): there is nothing to record."""


class _Request:
    """One notification, with the caller's /proc directory open."""

    def __init__(self, proc: int, data: bytes) -> None:
        fields = _REQUEST.unpack(data)
        self.id, self.tid, _, self.number, self.arch, _ = fields[:6]
        self.args = fields[6:]
        self.proc = os.open(str(self.tid), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=proc)

    def signed(self, index: int) -> int:
        value: int = self.args[index] & 0xFFFFFFFF
        return value - (1 << 32) if value & 0x80000000 else value

    def text(self, index: int) -> str:
        """The path at an argument's address. Read page by page: the next one may not be mapped."""
        address, parts, size = self.args[index], [], 0
        while size < _PATH_MAX:
            step = min(4096 - (address + size) % 4096, _PATH_MAX - size)
            part = sc.process_vm_readv(self.tid, address + size, step)
            end = part.find(b"\0")
            if end >= 0:
                parts.append(part[:end])
                return os.fsdecode(b"".join(parts))
            if not part:
                raise OSError(errno.EFAULT, os.strerror(errno.EFAULT))
            parts.append(part)
            size += len(part)
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))

    def open_own(self, name: str, flags: int = 0) -> int:
        """Through a link of /proc/TID: cwd, root, fd/N."""
        return os.open(name, os.O_PATH | os.O_CLOEXEC | flags, dir_fd=self.proc)


class Recorder:
    """Answers one sandbox's notifications. Enters its mount namespace (a descriptor, not the process's: that
    may be hidden from us) for good."""

    def __init__(
        self, listener: int, namespace: int, upper: str, layers: tuple[str, ...], uid: int, gid: int
    ) -> None:
        self.listener = listener
        self._default = Owner(uid, gid)
        flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
        self._upper = os.open(upper, flags) if upper else -1
        new_files = uid or gid
        self._layers = [os.open(layer, flags) for layer in layers] if new_files and upper else []
        # We are in the starter's process namespace, which is the host's for --pid=host.
        self._proc = mounts.proc(host=True)
        self._own = os.open("self/fd", flags, dir_fd=self._proc)
        sc.setns(namespace, sc.CLONE_NEWNS)
        os.close(namespace)
        self._root = os.open("/", flags)
        # So that "N" is a path to descriptor N: setxattr(2) takes no O_PATH descriptor.
        os.fchdir(self._own)
        self._device = os.stat("/").st_dev
        self._names = _owner_calls()
        self._special: dict[bytes, Owner] = {}
        self._marked = False

    def wanted(self) -> bool:
        """Whether some process is still under the filter."""
        poll = select.poll()
        poll.register(self.listener, 0)
        return not poll.poll(0)

    def moved(self) -> None:
        """This is a fork of the process that made it."""
        os.close(self._own)
        self._own = os.open("self/fd", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._proc)
        os.fchdir(self._own)

    def answer(self) -> None:
        """Take one notification and answer it."""
        data = bytearray(_REQUEST.size)
        try:
            fcntl.ioctl(self.listener, _RECV, data)
        except OSError as e:
            if e.errno in (errno.ENOENT, errno.EINTR):
                return
            raise
        error = 0
        try:
            request = _Request(self._proc, bytes(data))
            try:
                if self._valid(request.id):
                    self._serve(request)
            finally:
                os.close(request.proc)
        except OSError as e:
            error = e.errno or errno.EIO
        except SandboxError as e:
            error = e.errno or errno.EIO
        response = _RESPONSE.pack(_REQUEST.unpack(data)[0], 0, -error, 0)
        try:
            fcntl.ioctl(self.listener, _SEND, response)
        except FileNotFoundError:
            # The caller was killed meanwhile.
            pass

    def _valid(self, identifier: int) -> bool:
        try:
            fcntl.ioctl(self.listener, _ID_VALID, struct.pack("Q", identifier))
        except FileNotFoundError:
            return False
        return True

    def _serve(self, request: _Request) -> None:
        name = self._names[request.arch, request.number]
        wide = name.removesuffix("32")
        if wide.startswith("mknod"):
            at = wide == "mknodat"
            self._make_device(request, 0 if at else -1, 1 if at else 0)
            return
        narrow = request.arch == seccomp.AUDIT_ARCH["i386"] and name == wide and wide != "fchownat"
        fd, first = self._target(request, wide)
        try:
            uid, gid = (_id(request.args[i], narrow=narrow) for i in (first, first + 1))
            self._chown(fd, uid, gid)
        finally:
            os.close(fd)

    def _target(self, request: _Request, name: str) -> tuple[int, int]:
        """The file that a chown means (O_PATH), and the argument that holds the user."""
        if name == "fchown":
            return self._descriptor(request, request.signed(0)), 1
        if name == "fchownat":
            flags = request.signed(4)
            path = request.text(1)
            if not path and flags & _AT_EMPTY_PATH:
                fd = request.signed(0)
                return request.open_own("cwd") if fd == sc.AT_FDCWD else self._descriptor(request, fd), 2
            return self._open(request, 0, path, follow=not flags & _AT_SYMLINK_NOFOLLOW), 2
        return self._open(request, -1, request.text(0), follow=name == "chown"), 1

    def _descriptor(self, request: _Request, fd: int) -> int:
        try:
            return request.open_own(f"fd/{fd}")
        except FileNotFoundError:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF)) from None

    def _open(
        self, request: _Request, directory: int, path: str, *, follow: bool, folder: bool = False
    ) -> int:
        """Open what the caller's path means, from its root and directory (argument ``directory``; -1: the
        working directory). Links of /proc are refused: they would lead to our own files."""
        if not path:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        if follow and path in _STREAMS:
            return self._descriptor(request, _STREAMS[path])
        at = request.signed(directory) if directory >= 0 else sc.AT_FDCWD
        start = request.open_own("cwd") if at == sc.AT_FDCWD else self._descriptor(request, at)
        root = request.open_own("root")
        flags = os.O_PATH | (0 if follow else os.O_NOFOLLOW) | (os.O_DIRECTORY if folder else 0)
        elsewhere = not os.path.samestat(os.fstat(root), os.fstat(self._root))
        try:
            if elsewhere:
                _chroot(root)
            return sc.openat2(start, path, flags, sc.RESOLVE_NO_MAGICLINKS)
        except SandboxError as e:
            raise OSError(e.errno, e.message) from None
        finally:
            if elsewhere:
                _chroot(self._root)
                os.fchdir(self._own)
            os.close(start)
            os.close(root)

    # Recording

    def _chown(self, fd: int, uid: int, gid: int) -> None:
        if self._default.uid and uid not in (_UNCHANGED, self._default.uid):
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        info = os.fstat(fd)
        if not (stat.S_ISREG(info.st_mode) or stat.S_ISDIR(info.st_mode)):
            self._chown_special(fd, info, uid, gid)
            return
        try:
            before = self._recorded(fd)
            after = before._replace(
                uid=before.uid if uid == _UNCHANGED else uid, gid=before.gid if gid == _UNCHANGED else gid
            )
            if stat.S_ISREG(info.st_mode) and info.st_mode & 0o6000:
                # As the kernel does: a new owner has not asked for these bits.
                os.chmod(str(fd), stat.S_IMODE(info.st_mode) & ~0o6000)
            if after != before:
                os.setxattr(str(fd), OWNER_XATTR, encode(after))
                self._marked = True
        except OSError as e:
            if e.errno not in _IGNORED:
                raise

    def _recorded(self, fd: int) -> Owner:
        try:
            return decode(os.getxattr(str(fd), OWNER_XATTR))
        except OSError as e:
            if e.errno != errno.ENODATA:
                raise
        except ValueError:
            pass
        return Owner(self._default.uid, self._default.gid)

    def _chown_special(self, fd: int, info: os.stat_result, uid: int, gid: int) -> None:
        """A link, fifo or socket on the root file system: copied up, and remembered by its handle."""
        if info.st_dev != self._device or self._upper < 0:
            return
        path = os.readlink(str(fd))
        inside = path.lstrip("/")
        handle = handles.handle(self._upper, inside)
        if handle is None:
            # A chown to the one id there is changes nothing, and copies the link up.
            os.lchown(path, 0, 0)
            handle = handles.handle(self._upper, inside)
        if handle is None:
            return
        before = self._special.get(handle, self._default)
        self._special[handle] = before._replace(
            uid=before.uid if uid == _UNCHANGED else uid, gid=before.gid if gid == _UNCHANGED else gid
        )

    def _make_device(self, request: _Request, directory: int, first: int) -> None:
        """An empty file that says which device it stands for."""
        if self._default.uid:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        path = request.text(first)
        folder, name = os.path.split(path.rstrip("/"))
        parent = self._open(request, directory, folder or ".", follow=True, folder=True)
        try:
            mode = (request.args[first + 1] & 0o177777) & ~_umask(request)
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(name, flags, stat.S_IMODE(mode), dir_fd=parent)
            try:
                device = request.args[first + 2] & 0xFFFFFFFF
                os.setxattr(fd, OWNER_XATTR, encode(self._default._replace(mode=mode, rdev=device)))
                self._marked = True
            finally:
                os.close(fd)
        finally:
            os.close(parent)

    # The end

    def finish(self, conn: _socket.socket) -> None:
        """Tell the main process what can't be read off the files."""
        owners = self._paths() if self._upper >= 0 and (self._special or self._layers) else {}
        items = [(path, encode(owner).decode()) for path, owner in owners.items()]
        for start in range(0, len(items) or 1, _BATCH):
            wire.send(conn, ("owners", items[start : start + _BATCH], self._marked))

    def _paths(self) -> dict[str, Owner]:
        """Where the remembered files are now; and what the sandbox's user made is that user's."""
        os.fchdir(self._upper)
        found: dict[str, Owner] = {}
        for folder, folders, files in os.walk("."):
            for name in folders + files:
                path = f"{folder}/{name}"[2:]
                info = os.lstat(path)
                handle = None if stat.S_ISREG(info.st_mode) else handles.handle(self._upper, path)
                if handle is not None and handle in self._special:
                    if self._special[handle] != _ROOT:
                        found[path] = self._special[handle]
                elif self._layers and not _whiteout(info) and not self._below(path):
                    self._adopt(path, info, found)
        return found

    def _below(self, path: str) -> bool:
        """Whether a lower layer has the path: what was there before keeps its owner."""
        for layer in self._layers:
            try:
                os.stat(path, dir_fd=layer, follow_symlinks=False)
                return True
            except OSError:
                continue
        return False

    def _adopt(self, path: str, info: os.stat_result, found: dict[str, Owner]) -> None:
        if not (stat.S_ISREG(info.st_mode) or stat.S_ISDIR(info.st_mode)):
            found[path] = self._default
            return
        try:
            os.setxattr(path, OWNER_XATTR, encode(self._default), os.XATTR_CREATE, follow_symlinks=False)
            self._marked = True
        except FileExistsError:
            pass


def _owner_calls() -> dict[tuple[int, int], str]:
    """The calls that notify, by architecture and number."""
    abis = {"aarch64": tables.AARCH64}
    if os.uname().machine == "x86_64":
        abis = {"x86_64": tables.X86_64, "i386": tables.I386}
    result = {}
    for abi, table in abis.items():
        for name, number in tables.numbers(table).items():
            if name in seccomp.OWNER_CALLS or name in seccomp.DEVICE_CALLS:
                result[seccomp.AUDIT_ARCH[abi], number] = name
    return result


def _id(value: int, *, narrow: bool) -> int:
    """An id as the caller gave it; the old i386 calls have 16 bits, where all ones mean the same."""
    if narrow:
        value &= 0xFFFF
        return _UNCHANGED if value == 0xFFFF else value
    return value & 0xFFFFFFFF


def _umask(request: _Request) -> int:
    fd = os.open("status", os.O_RDONLY | os.O_CLOEXEC, dir_fd=request.proc)
    try:
        for line in os.read(fd, 4096).split(b"\n"):
            if line.startswith(b"Umask:"):
                return int(line.split()[1], 8)
    finally:
        os.close(fd)
    return 0o022


def _chroot(fd: int) -> None:
    os.fchdir(fd)
    os.chroot(".")


def _whiteout(info: os.stat_result) -> bool:
    return stat.S_ISCHR(info.st_mode) and info.st_rdev == 0
