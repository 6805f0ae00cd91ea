#!/usr/bin/env bash
# pybuild beside the builders found here (buildah, podman, docker, BuildKit, charliecloud), in turn:
#
#   benchmarks/run.sh [bench.py's arguments]       e.g. --quick, --scenarios S1,S2,S8, --builders pybuild,buildah
#
# As root. pybuild runs as the test user pybuild-ids, rootless; the others as bench.py says. Where the disk is ext4
# without a journal, the work lies on a loop-mounted file system with one (README.md says why).
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/lib.sh"

[ "$(id -u)" = 0 ] || die "benchmarks need root: peers with daemons are measured too" "sudo make bench"
"$repo/scripts/setup.sh" test

user=${BENCH_USER:-pybuild-ids}
work=$(mktemp -d "${BENCH_WORK:-/var/tmp}/pybuild-bench.XXXXXX")
chmod 755 "$work"
# podman takes no path of more than 50 characters for its run-time files: the work is seen at a short one.
disk=$(mktemp -d /tmp/b.XXXX)
loop=''

clean_up() {
    local status=$?
    trap - EXIT
    trap '' INT TERM
    cp "$disk"/w/result.md "$disk"/w/result.json "$repo/benchmarks/results/" 2>/dev/null || true
    if mountpoint --quiet "$disk"; then
        umount "$disk" 2>/dev/null || umount --lazy "$disk" || true
    fi
    [ -z "$loop" ] || losetup --detach "$loop" || true
    rm -rf "$work"
    rmdir "$disk"
    exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
mkdir -p "$repo/benchmarks/results" "$work/disk"

journaled() {
    [ "$(stat --file-system --format=%T "$work")" != ext2/ext3 ] && return 0
    local device
    device=$(findmnt --noheadings --output SOURCE --target "$work")
    compgen -G "/proc/fs/jbd2/$(basename "$device")-*" >/dev/null
}

if ! journaled; then
    say "no journal on this disk: making a loop-mounted file system with one (it grows to what is used, at most 45 GB)"
    truncate --size=45G "$work/disk.img"
    mkfs.ext4 -q -F -J size=256 -i 8192 -E lazy_itable_init=0,lazy_journal_init=0,nodiscard "$work/disk.img"
    loop=$(losetup --find --show --direct-io=on "$work/disk.img")
    mount "$loop" "$disk"
else
    mount --bind "$work/disk" "$disk"
fi
chmod 755 "$disk"

# The program must be readable by the user: a copy of the virtual environment serves where the checkout is not.
command="$repo/.venv/bin/pybuild"
if ! setpriv --reuid="$user" --regid="$(id -g "$user")" --init-groups env -i "$command" --version >/dev/null 2>&1; then
    say "$user can't read $repo: copying the program"
    mkdir "$work/program"
    # With their times: a compiled file is used only where its source is as old as it says.
    cp -rLp "$repo/buildkit_py" "$work/program/"
    cp -rp "$repo"/.venv/lib/python3*/site-packages/. "$work/program/"
    chmod -R a+rX "$work/program"
    python=$(readlink -f "$repo/.venv/bin/python3")
    # As pip's console scripts are, so that starting it costs the same.
    printf '#!%s\nimport sys\nsys.path.insert(0, "%s")\nfrom buildkit_py.cli import main\nsys.exit(main())\n' \
        "$python" "$work/program" >"$work/pybuild"
    chmod 755 "$work/pybuild"
    command=$work/pybuild
fi
# bench.py's four registries stand on neighbouring ports.
port=$(python3 - <<'PYTHON'
import socket, sys
for base in range(5610, 9000, 10):
    sockets = [socket.socket() for _ in range(4)]
    try:
        for n, s in enumerate(sockets):
            s.bind(("127.0.0.1", base + n))
    except OSError:
        continue
    finally:
        for s in sockets:
            s.close()
    print(base)
    sys.exit()
sys.exit("no four free ports in a row")
PYTHON
)
unset PYTHONDONTWRITEBYTECODE PYTHONPATH
export PYBUILD=$command
say "results: benchmarks/results/"
/usr/bin/env python3 "$repo/benchmarks/bench.py" --work "$disk/w" --user "$user" --port "$port" "$@"
