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
loop=''

clean_up() {
    local status=$?
    trap - EXIT
    trap '' INT TERM
    cp "$work"/*/result.md "$work"/*/result.json "$repo/benchmarks/results/" 2>/dev/null || true
    if [ -n "$loop" ]; then
        umount "$work/disk" 2>/dev/null || umount --lazy "$work/disk" || true
        losetup --detach "$loop" || true
    fi
    rm -rf "$work"
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
    mount "$loop" "$work/disk"
fi
chmod 755 "$work/disk"

# The program must be readable by the user: a copy of the virtual environment serves where the checkout is not.
command="$repo/.venv/bin/pybuild"
if ! setpriv --reuid="$user" --regid="$(id -g "$user")" --init-groups env -i "$command" --version >/dev/null 2>&1; then
    say "$user can't read $repo: copying the program"
    mkdir "$work/program"
    cp -rL "$repo/buildkit_py" "$work/program/"
    cp -r "$repo"/.venv/lib/python3*/site-packages/. "$work/program/"
    chmod -R a+rX "$work/program"
    python=$(readlink -f "$repo/.venv/bin/python3")
    printf '#!/bin/sh\nexec env PYTHONPATH=%s %s -m buildkit_py.cli "$@"\n' "$work/program" "$python" >"$work/pybuild"
    chmod 755 "$work/pybuild"
    command=$work/pybuild
fi
unset PYTHONDONTWRITEBYTECODE PYTHONPATH
export PYBUILD=$command
say "results: benchmarks/results/"
/usr/bin/env python3 "$repo/benchmarks/bench.py" --work "$work/disk/w" --user "$user" "$@"
