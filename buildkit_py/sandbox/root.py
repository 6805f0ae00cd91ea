"""The sandbox's root: mounted piece by piece, then made the root of this mount namespace.

Runs in the sandbox's first process, in mount, pid, ipc and uts namespaces of its own. Everything is
mounted before the old root goes; from ``enter`` on nothing may be imported any more.

What other pieces are cut from must be attached somewhere: a tmpfs, the *workbench*, is mounted on the
old "/", where it covers nothing that a path lookup would meet (the lookup of an absolute path starts at
the process's root itself), and everything else stands in directories of it. It goes with the old root.
"""

from __future__ import annotations

import errno
import os
import stat

from buildkit_py.errors import SandboxError
from buildkit_py.linux import mounts, overlay
from buildkit_py.linux import syscalls as sc
from buildkit_py.sandbox import layout, stubs
from buildkit_py.sandbox.spec import SandboxMount, SandboxSpec


class Root:
    """Builds one root.

    ``mode``: as of Identity. ``base_stub``: a directory that holds layout.BASE_PLACES; "" where there is
    none.
    """

    def __init__(self, spec: SandboxSpec, *, mode: str, base_stub: str) -> None:
        self._spec = spec
        self._nodev = 0 if spec.privileged else mounts.NODEV
        self._emulated = mode == "single"
        self._base_stub = base_stub
        self._mounts = layout.mounts(spec)
        self._files = -1
        self._names = 0
        self._shared_ipc: dict[str, int] = {}
        self.stubs: list[stubs.Stub] = []
        self.stub_layer = ""
        """A directory beside the work directory, to be removed after the run; "" where there is none."""

    def build(self) -> int:
        """Mount everything; the new root as a descriptor, attached and ready for ``enter``."""
        # Before the workbench covers the root that is come back to.
        self._shared_ipc = self._ipc_of_another()
        # A copy of / with all that is mounted on it would have the workbench on top.
        whole = {m: self._source(m) for m in self._mounts if m.kind == "bind" and m.source == "/"}
        self._files = mounts.new("tmpfs", (("mode", "0700"),), mounts.NOSUID | mounts.NODEV)
        sc.move_mount(self._files, sc.AT_FDCWD, "/")
        os.mkdir("empty", 0o555, dir_fd=self._files)
        if any(mount.target == "/" for mount in self._mounts):
            raise SandboxError("nothing can be mounted on / itself", call="move_mount", errno=errno.EBUSY)
        sources = [whole[m] if m in whole else self._source(m) for m in self._mounts]
        folders = frozenset(m.target for m, fd in zip(self._mounts, sources, strict=True) if _is_folder(fd))
        root = self._root(layout.places(self._mounts, folders))
        self._proc(root)
        self._dev(root)
        self._sys(root)
        walk = stubs.Walk(root)
        for mount, fd in zip(self._mounts, sources, strict=True):
            folder = mount.target in folders
            place = self._place(walk, root, mount.target, folder=folder)
            if _is_folder(place) != folder:
                kinds = ("a directory", "a file") if folder else ("a file", "a directory")
                raise SandboxError(
                    f"{mount.source or mount.kind} is {kinds[0]} and can't be mounted on {mount.target}, "
                    f"which is {kinds[1]}",
                    call="move_mount",
                    errno=errno.ENOTDIR if folder else errno.EISDIR,
                )
            mounts.attach(fd, place, mount.target)
        self.stubs += walk.made
        self._mask(root)
        return root

    def bare(self, workbench: str) -> int:
        """The root alone, with places for all that others mount on it; as build().

        ``workbench``: the directory for it. A runtime unmounts the old root once: what lay on its "/" would
        be taken away in its place.
        """
        self._files = mounts.new("tmpfs", (("mode", "0700"),), mounts.NOSUID | mounts.NODEV)
        sc.move_mount(self._files, sc.AT_FDCWD, workbench)
        folders = frozenset(m.target for m in self._mounts if m.kind == "bind" and os.path.isdir(m.source))
        return self._root(layout.places(self._mounts, folders))

    # The root itself

    def _root(self, places: tuple[tuple[str, bool], ...]) -> int:
        spec = self._spec
        if spec.tree:
            root = self._scratch(mounts.bind(sc.AT_FDCWD, spec.tree, self._nodev, recursive=False))
            self._check_places(root, places)
            return root
        stub = self._stub(places)
        upper, work = spec.upper, spec.work
        readonly = not upper
        if readonly:
            # A writable root all the same, so that a hidden mount point can be made; sealed below.
            upper, work = self._fresh_upper("root")
        root = self._scratch(
            overlay.mount((*spec.layers, stub), upper, work, self._nodev, durable=spec.durable)
        )
        self._check_places(root, places)
        if readonly:
            sc.mount_setattr(root, "", mounts.RDONLY)
        return root

    def _stub(self, places: tuple[tuple[str, bool], ...]) -> str:
        """The stub layer's directory. On the file system of the upper one if it can be: overlay keeps
        one st_dev and the inode numbers of a single file system, and makes them up for several."""
        if self._base_stub and places == layout.BASE_PLACES:
            return self._base_stub
        if self._spec.work:
            stub = self.stub_layer = os.path.join(os.path.dirname(self._spec.work), "stub")
            # Left by a run whose main process was killed.
            stubs.discard(stub)
        else:
            stub = f"/proc/self/fd/{self._files}/stub"
        os.mkdir(stub, 0o755)
        stubs.fill(stub, places)
        return stub

    def _check_places(self, root: int, places: tuple[tuple[str, bool], ...]) -> None:
        """Make those mount points that the image hides from the stub layer below it."""
        walk = stubs.Walk(root)
        for path, folder in places:
            fd = mounts.resolve(root, path)
            if fd < 0:
                fd = walk.place(path, folder=folder)
            os.close(fd)
        self.stubs += walk.made

    def _place(self, walk: stubs.Walk, root: int, path: str, *, folder: bool) -> int:
        fd = mounts.resolve(root, path)
        return fd if fd >= 0 else walk.place(path, folder=folder)

    def _scratch(self, fd: int) -> int:
        """Attach on the workbench, so that the mount belongs to this namespace; the descriptor stays."""
        name = self._next_name()
        os.mkdir(name, 0o700, dir_fd=self._files)
        sc.move_mount(fd, self._files, name)
        return fd

    def _fresh_upper(self, name: str) -> tuple[str, str]:
        """An upper and a work directory in memory."""
        for kind in ("upper", "work"):
            os.mkdir(f"{name}-{kind}", 0o755, dir_fd=self._files)
        here = f"/proc/self/fd/{self._files}/{name}"
        return f"{here}-upper", f"{here}-work"

    # What is mounted over it

    def _source(self, mount: SandboxMount) -> int:
        """A detached mount of what the mount asks for."""
        readonly = mounts.RDONLY if mount.readonly else 0
        safe = mounts.NOSUID | mounts.NODEV
        if mount.kind == "tmpfs":
            options = [("mode", f"{mount.mode:o}"), ("uid", str(mount.uid)), ("gid", str(mount.gid))]
            if mount.size:
                options.append(("size", str(mount.size)))
            options += [pair for pair in mount.options if pair[1]]
            words = [name for name, value in mount.options if not value]
            attributes = (mounts.NOEXEC if mount.noexec else 0) | readonly | mounts.NODEV
            attributes |= 0 if "suid" in words else mounts.NOSUID
            for word in words:
                attributes |= mounts.TIMES.get(word, 0)
            return mounts.new("tmpfs", tuple(options), attributes)
        if mount.kind == "file":
            # A heredoc with #! is executed.
            noexec = 0 if mount.mode & 0o111 else mounts.NOEXEC
            return mounts.bind(self._files, self._file(mount), safe | noexec | readonly)
        if mount.kind == "overlay":
            return self._overlay(mount, readonly)
        if mount.inside:
            return self._inside(mount, readonly)
        given = os.stat(mount.source, follow_symlinks=False).st_mode
        if stat.S_ISLNK(given):
            raise SandboxError(
                f"{mount.source} is a link: it is not mounted", call="open_tree", errno=errno.ELOOP
            )
        # A device that is bound by name is meant.
        nodev = 0 if stat.S_ISCHR(given) or stat.S_ISBLK(given) else self._nodev
        if mount.submounts == "left out":
            return self._alone(mount, readonly | nodev)
        fd = mounts.bind(sc.AT_FDCWD, mount.source, nodev, follow=False)
        if readonly:
            sc.mount_setattr(fd, "", readonly, recursive=mount.submounts == "like it")
        return fd

    def _alone(self, mount: SandboxMount, attributes: int) -> int:
        """A directory without what is mounted below it."""
        try:
            return mounts.bind(sc.AT_FDCWD, mount.source, attributes, recursive=False, follow=False)
        except SandboxError as e:
            if e.errno != errno.EINVAL:
                raise
            raise SandboxError(
                f"{mount.source} can't be mounted without what is mounted below it",
                call=e.call,
                errno=e.errno,
                hint="only real root may look below a mount",
            ) from e

    def _inside(self, mount: SandboxMount, readonly: int) -> int:
        """A part of a directory that others may change meanwhile: opened first, then mounted as opened."""
        directory = os.open(mount.source, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return self._part(directory, mount.inside, mount.target, readonly)
        finally:
            os.close(directory)

    def _part(self, tree: int, path: str, target: str, readonly: int) -> int:
        """A detached mount of what is at a path of an opened tree."""
        source = mounts.resolve(tree, path)
        if source < 0:
            raise SandboxError(
                f"the mount on {target} wants {path}, which does not exist",
                call="openat2",
                errno=errno.ENOENT,
            )
        try:
            return mounts.bind(source, "", readonly | self._nodev, recursive=False)
        finally:
            os.close(source)

    def _file(self, mount: SandboxMount) -> str:
        name = self._next_name()
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
        fd = os.open(name, flags, 0o600, dir_fd=self._files)
        try:
            view = memoryview(mount.data)
            while view:
                view = view[os.write(fd, view) :]
            # With one id there is nobody else, and everybody may read what that one may.
            if (mount.uid or mount.gid) and not self._emulated:
                os.fchown(fd, mount.uid, mount.gid)
            os.fchmod(fd, mount.mode)
        finally:
            os.close(fd)
        return name

    def _next_name(self) -> str:
        self._names += 1
        return f"mount{self._names}"

    def _overlay(self, mount: SandboxMount, readonly: int) -> int:
        empty = f"/proc/self/fd/{self._files}/empty"
        upper, work = ("", "") if mount.readonly else self._fresh_upper(self._next_name())
        tree = self._scratch(overlay.mount((*mount.layers, empty), upper, work))
        try:
            return self._part(tree, mount.source or "/", mount.target, readonly)
        finally:
            os.close(tree)

    # /proc, /dev, /sys

    def _proc(self, root: int) -> None:
        proc = mounts.proc(host="pid" in self._spec.host)
        self._attach(root, proc, "/proc", keep=True)
        try:
            if self._spec.network != "host" and (self._spec.processes or self._spec.keep_id):
                # In a user namespace below that of the network, root's capabilities don't open ports.
                set_sysctls(proc, (("net.ipv4.ip_unprivileged_port_start", "0"),))
            set_sysctls(proc, self._spec.sysctls)
        finally:
            os.close(proc)

    def _attach(self, root: int, fd: int, path: str, *, keep: bool = False) -> None:
        place = mounts.resolve(root, path, os.O_PATH | os.O_DIRECTORY)
        try:
            sc.move_mount(fd, place, "", path)
        finally:
            os.close(place)
            if not keep:
                os.close(fd)

    def _dev(self, root: int) -> None:
        dev = mounts.new("tmpfs", (("mode", "755"), ("size", "65536k")), mounts.NOSUID | self._nodev)
        self._attach(root, dev, "/dev", keep=True)
        for name in layout.DEV_FOLDERS:
            os.mkdir(name, 0o755, dir_fd=dev)
        for name, target in layout.DEV_LINKS:
            os.symlink(target, name, dir_fd=dev)
        for name in layout.DEVICES:
            self._device(dev, name)
        if self._spec.host_devices:
            self._host_devices(dev)
        self._attach(dev, _devpts(), "pts")
        self._ipc(dev)
        if self._emulated:
            _write(dev, layout.APT_CONFIG, layout.APT_TEXT)
        if self._spec.terminal:
            _write(dev, "console", b"")
            # By its name: the descriptor belongs to the main process's mount namespace.
            console = mounts.bind(sc.AT_FDCWD, os.readlink("/proc/self/fd/0"), recursive=False)
            mounts.attach(console, mounts.resolve(dev, "console"), "/dev/console")
        os.close(dev)

    def _ipc_of_another(self) -> dict[str, int]:
        """Clones of another sandbox's mounts of shared memory and queues, by name in /dev."""
        path = dict(self._spec.shared).get("ipc", "")
        if not path:
            return {}
        place = os.path.join(os.path.dirname(path), "mnt")
        own = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        there = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
        try:
            sc.setns(there, sc.CLONE_NEWNS)
            try:
                names = [name for name in ("shm", "mqueue") if os.path.ismount(f"/dev/{name}")]
                return {name: mounts.bind(sc.AT_FDCWD, f"/dev/{name}", mounts.PLAIN) for name in names}
            finally:
                sc.setns(own, sc.CLONE_NEWNS)
        finally:
            os.close(own)
            os.close(there)

    def _ipc(self, dev: int) -> None:
        """POSIX shared memory and message queues, by the namespace that they belong to."""
        for name, fd in self._shared_ipc.items():
            self._attach(dev, fd, name)
        if "ipc" in dict(self._spec.shared):
            return
        if "ipc" in self._spec.host:
            for name in ("shm", "mqueue"):
                if os.path.ismount(f"/dev/{name}"):
                    self._attach(dev, mounts.bind(sc.AT_FDCWD, f"/dev/{name}", mounts.PLAIN), name)
            return
        if self._spec.shm_size:
            shm = (("mode", "1777"), ("size", str(self._spec.shm_size)))
            self._attach(dev, mounts.new("tmpfs", shm, mounts.PLAIN), "shm")
        try:
            self._attach(dev, mounts.new("mqueue", (), mounts.PLAIN), "mqueue")
        except SandboxError as e:
            # A kernel without POSIX message queues: then there are none.
            if e.errno != errno.ENODEV:
                raise

    def _host_devices(self, dev: int) -> None:
        """All nodes of the host's /dev that are not laid out already."""
        for place, folders, files in os.walk("/dev"):
            inside = os.path.relpath(place, "/dev")
            if inside == ".":
                folders[:] = [name for name in folders if name not in layout.DEV_FOLDERS]
            elif any(map(_is_device, (f"{place}/{name}" for name in files))):
                os.makedirs(f"/proc/self/fd/{dev}/{inside}", 0o755, exist_ok=True)
            for name in files:
                path = os.path.normpath(f"{inside}/{name}")
                if path not in layout.OWN_DEVICES and _is_device(f"{place}/{name}"):
                    self._device(dev, path)

    def _device(self, dev: int, name: str) -> None:
        """A bind of the host's node: the mounts of a sandbox honour no devices made inside it. In a user
        namespace that is the kernel's rule, for real root it is ours (NODEV), in place of Docker's
        device cgroup: with CAP_MKNOD alone, root could make and read the host's disk."""
        os.close(os.open(name, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o666, dir_fd=dev))
        place = mounts.resolve(dev, name)
        mounts.attach(mounts.bind(sc.AT_FDCWD, f"/dev/{name}", recursive=False), place, f"/dev/{name}")

    def _sys(self, root: int) -> None:
        readonly = 0 if self._spec.privileged else mounts.RDONLY
        try:
            if "cgroup" in self._spec.host:
                self._attach(root, mounts.bind(sc.AT_FDCWD, "/sys", mounts.PLAIN | readonly), "/sys")
                return
            self._attach(root, mounts.new("sysfs", (), mounts.PLAIN | readonly), "/sys")
        except SandboxError as e:
            # Only the owner of the network namespace may mount sysfs: with the host's network, a user
            # namespace binds what is there.
            if e.errno != errno.EPERM:
                raise
            self._attach(root, mounts.bind(sc.AT_FDCWD, "/sys", mounts.PLAIN | mounts.RDONLY), "/sys")
            return
        try:
            self._attach(root, mounts.new("cgroup2", (), mounts.PLAIN | readonly), "/sys/fs/cgroup")
        except (SandboxError, OSError):
            # Version 1, or not allowed: a sandbox can do without.
            pass

    def _mask(self, root: int) -> None:
        for path in layout.masked(self._spec):
            place = mounts.resolve(root, path)
            if place < 0:
                continue
            if _is_folder(place):
                cover = mounts.bind(self._files, "empty", mounts.RDONLY | mounts.PLAIN, recursive=False)
            else:
                cover = mounts.bind(sc.AT_FDCWD, "/dev/null", recursive=False)
            mounts.attach(cover, place, path)
        for path in layout.readonly(self._spec):
            place = mounts.resolve(root, path)
            if place >= 0:
                mounts.attach(mounts.bind(place, "", mounts.RDONLY), place, path)


def enter(root: int) -> None:
    """Make ``root`` the root of this mount namespace, and let go of the old one.

    pivot_root(2) puts the old root on top of the new one's "."; on top of it lies the workbench. Each
    takes an unmount of its own.
    """
    os.fchdir(root)
    sc.pivot_root(".", ".")
    sc.umount2(".", sc.MNT_DETACH)
    sc.umount2(".", sc.MNT_DETACH)
    os.chdir("/")
    if not os.path.samestat(os.stat("/.."), os.fstat(root)):
        raise SandboxError("the old root is still in reach", call="pivot_root", errno=errno.EBUSY)


def _write(directory: int, name: str, data: bytes) -> None:
    fd = os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644, dir_fd=directory)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)


def _is_folder(fd: int) -> bool:
    return stat.S_ISDIR(os.fstat(fd).st_mode)


def _is_device(path: str) -> bool:
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return False
    return stat.S_ISCHR(mode) or stat.S_ISBLK(mode)


def set_sysctls(proc: int, sysctls: tuple[tuple[str, str], ...]) -> None:
    """Kernel settings of the sandbox's own namespaces, by a mounted proc. Raises SandboxError."""
    for name, value in sysctls:
        path = "sys/" + name.replace(".", "/")
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC, dir_fd=proc)
            try:
                os.write(fd, value.encode())
            finally:
                os.close(fd)
        except OSError as e:
            raise SandboxError(
                f"the setting {name}={value} cannot be made: {e.strerror}",
                call="sysctl",
                errno=e.errno or errno.EIO,
                hint="the kernel has no such setting in a container's namespaces"
                if e.errno == errno.ENOENT
                else "the kernel lets an ordinary user change some settings of a container only as real root",
            ) from e


def _devpts() -> int:
    options = [("newinstance", ""), ("ptmxmode", "0666"), ("mode", "0620"), ("gid", "5")]
    attributes = mounts.NOSUID | mounts.NOEXEC
    try:
        return mounts.new("devpts", tuple(options), attributes)
    except SandboxError as e:
        # Group 5 (tty) isn't mapped where one id is.
        if e.errno != errno.EINVAL:
            raise
        return mounts.new("devpts", tuple(options[:-1]), attributes)
