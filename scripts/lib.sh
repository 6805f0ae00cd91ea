# shellcheck shell=bash
# Sourced by the scripts beside it: where things are kept, what is said, and how root's part is done.

set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# Kept between runs: base image tarballs. Nothing else, so that deleting the folder is always safe.
if [ -n "${PYBUILD_STATE:-}" ]; then
    state=$PYBUILD_STATE
elif [ -n "${XDG_CACHE_HOME:-}" ]; then
    state=$XDG_CACHE_HOME/pybuild-dev
elif [ -n "${HOME:-}" ] && [ -d "$HOME" ] && [ -w "$HOME" ]; then
    state=$HOME/.cache/pybuild-dev
else
    state=/var/tmp/pybuild-dev-$(id -u)
fi

say() { printf '%s\n' "==> $*" >&2; }

die() {
    printf '%s\n' "error: $1" >&2
    [ $# -lt 2 ] || printf '%s\n' "  $2" >&2
    exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# Debian keeps some of the programs where an ordinary user's PATH does not look.
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif have sudo; then
        sudo "$@"
    else
        die "this needs root and there is no sudo: $*" "run it as root once, then try again"
    fi
}
