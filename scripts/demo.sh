#!/usr/bin/env bash
# The demo: build a real Dockerfile twice, push it, forget it, run it from the registry, ask it. Then clean up.
#
# Everything lives in one temporary folder, the store included; only the base image's tarball is kept for the next
# time (see lib.sh). Each command is printed before it runs and can be pasted while the demo waits: DEMO_PAUSE=1.
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$repo"

work=$(mktemp -d "${TMPDIR:-/var/tmp}/pybuild-demo.XXXXXX")
started=()
began=$SECONDS
export PATH="$repo/.venv/bin:$PATH"
export PYBUILD_ROOT=$work/store
export PYBUILD_REGISTRY_CONFIG=$work/registries.toml

bold='' plain=''
if [ -t 1 ]; then bold=$'\e[1m' plain=$'\e[0m'; fi

clean_up() {
    local status=$? pid
    trap - EXIT
    trap '' INT TERM
    for pid in "${started[@]}"; do
        kill "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    # In the store of an ordinary user lie files of subordinate ids, which only the namespace may delete.
    if [ "$(id -u)" != 0 ] && [ -d "$PYBUILD_ROOT" ]; then
        "$repo/.venv/bin/python3" - "$PYBUILD_ROOT" <<'PYTHON' || true
import shutil, sys
from buildkit_py.linux import userns
userns.enter()
shutil.rmtree(sys.argv[1], ignore_errors=True)
PYTHON
    fi
    rm -rf "$work"
    if [ "$status" = 0 ]; then
        printf '\n%s\n' "Cleaned up: nothing of the demo is left but the base image in $state/bases. It took $((SECONDS - began)) s."
    else
        printf '\n%s\n' "The demo ended early (status $status); what it started and made is removed." >&2
    fi
    exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

step() {
    [ -z "${DEMO_PAUSE:-}" ] || read -r -p "(Enter) "
    printf '\n%s%s%s\n' "$bold" "## $*" "$plain"
}

show() { printf '%s$ %s%s\n' "$bold" "$(quoted "$@")" "$plain"; }

quoted() {
    local word out=''
    for word in "$@"; do
        case $word in
            *[!A-Za-z0-9_./:=,@+-]*) out="$out '${word//\'/\'\\\'\'}'" ;;
            *) out="$out $word" ;;
        esac
    done
    printf '%s' "${out# }"
}

run() {
    show "$@"
    "$@"
}

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

fetch() { # URL [body]: with what every machine of the demo has
    if have curl; then
        run curl --silent --show-error ${2:+--data "$2"} "$1"
    else
        run busybox wget -q -O - ${2:+--post-data "$2"} "$1"
    fi
}

wait_for() { # URL, pid of who will serve it
    local tries
    for tries in $(seq 200); do
        python3 -c 'import sys, urllib.request as r; r.urlopen(sys.argv[1], timeout=2)' "$1" 2>/dev/null && return 0
        kill -0 "$2" 2>/dev/null || die "the service ended before it answered"
        sleep 0.1
    done
    die "no answer from $1 after $tries tries"
}

step "A registry of our own, with a Debian base image in it"
bases=$("$repo/scripts/base-images.sh" debian)
port=$(free_port)
registry=127.0.0.1:$port
cat >"$work/registry.yml" <<YAML
version: 0.1
storage: {filesystem: {rootdirectory: "$work/registry"}, delete: {enabled: true}}
http: {addr: "$registry"}
log: {level: error, accesslog: {disabled: true}}
YAML
cat >"$PYBUILD_REGISTRY_CONFIG" <<TOML
[registry."docker.io"]
mirrors = ["$registry"]

[registry."$registry"]
http = true
TOML
show docker-registry serve "$work/registry.yml"
docker-registry serve "$work/registry.yml" >"$work/registry.log" 2>&1 &
started+=($!)
wait_for "http://$registry/v2/" "$!"
run python3 scripts/base_image.py push "$bases/debian" "$registry" library/debian:12-slim
run cat "$PYBUILD_REGISTRY_CONFIG"

step "What this machine allows"
run pybuild doctor

step "Build: two stages, apt-get and pip inside RUN, the base image pulled from the registry"
mapfile -t flags < <("$repo/scripts/host-config.sh" "$work/host")
build=(pybuild build -t "$registry/demo/webapp:1" --build-arg VERSION=1 "${flags[@]}" examples/Dockerfiles/webapp)
first=$SECONDS
run "${build[@]}"
first=$((SECONDS - first))

step "Again: nothing changed, so nothing runs"
second=$(date +%s%N)
run "${build[@]}"
second=$((($(date +%s%N) - second) / 1000000))

step "Push it, then forget it: image, cache and snapshots"
run pybuild push "$registry/demo/webapp:1"
run pybuild images
run pybuild rmi "$registry/demo/webapp:1"
run pybuild prune -af
run pybuild images

step "Run it, from the registry, as the image's own user"
http=$(free_port)
serve=(pybuild run --rm --network=host -e "PORT=$http" -e LOOPBACK=1 "$registry/demo/webapp:1")
printf '%s$ %s &%s\n' "$bold" "$(quoted "${serve[@]}")" "$plain"
"${serve[@]}" &
container=$!
started+=("$container")
wait_for "http://127.0.0.1:$http/health" "$container"
fetch "http://127.0.0.1:$http/"
fetch "http://127.0.0.1:$http/" "Built without a daemon"
fetch "http://127.0.0.1:$http/"
show kill "$container"
kill "$container"
wait "$container" || true

step "What was done"
identity="an ordinary user ($(id -un)), with no daemon and no root"
[ "$(id -u)" != 0 ] || identity="root, with no daemon (the same works as an ordinary user)"
cat <<TEXT
  who     $identity
  built   examples/Dockerfiles/webapp in $first s; again, all cached, in $second ms
  pushed  to docker-registry on $registry, removed here, pulled back and run
  kept    in one folder: $(du -sh "$work" 2>/dev/null | cut -f1) under $work, removed now
TEXT
