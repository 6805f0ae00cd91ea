#!/usr/bin/env bash
# Make the base images that the demo and the tests build on, where they are missing or a month old:
#
#   scripts/base-images.sh [debian] [busybox] [foreign]    prints the folder that holds them, one folder an image
#
# debian is Debian 12 by mmdebstrap, from the package sources of this machine where it is a Debian 12 itself,
# else from mmdebstrap's default. busybox is Debian's static busybox; foreign is one of another architecture.
# All as the user who calls.
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

suite=bookworm
bases=$state/bases
mkdir -p "$bases"
work=$(mktemp -d "${TMPDIR:-/tmp}/pybuild-base.XXXXXX")
trap 'rm -rf "$work"' EXIT
chmod 755 "$work" # mmdebstrap's apt runs as another user inside

# One maker at a time; the others find the work done.
exec 9>"$bases/.lock"
flock 9

recent() { [ -e "$bases/$1/manifest.json" ] && [ -z "$(find "$bases/$1/manifest.json" -mtime +30)" ]; }

host_is_suite() { [ "$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-}")" = "$suite" ]; }

# deb822 stanzas and one-line entries can't share a file: two files, each with what is its own.
host_sources() {
    local file
    for file in /etc/apt/sources.list.d/*.sources; do
        [ ! -r "$file" ] || { cat "$file"; echo; } >>"$work/host.sources"
    done
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
        [ ! -r "$file" ] || { grep -v -E '^[[:space:]]*(#|$)' "$file" || true; } >>"$work/host.list"
    done
    find "$work" -name 'host.*' -size +0
}

make_debian() {
    local mode=root options=() sources=() file
    [ "$(id -u)" = 0 ] || mode=unshare
    "$repo/scripts/host-config.sh" "$work/host" >/dev/null
    if [ -s "$work/host/apt.conf" ]; then
        options+=("--aptopt=$work/host/apt.conf")
    fi
    if host_is_suite; then
        mapfile -t sources < <(host_sources)
    fi
    # Kept in the image, as Debian's slim images have it: documentation is never unpacked.
    for file in doc man info locale lintian; do
        options+=("--dpkgopt=path-exclude=/usr/share/$file/*")
    done
    options+=("--dpkgopt=path-include=/usr/share/doc/*/copyright")
    say "making a Debian base image by mmdebstrap --mode=$mode (about half a minute, kept in $bases)"
    mmdebstrap --quiet --variant=minbase --mode="$mode" --format=tar "${options[@]}" \
        --customize-hook='rm -f "$1/etc/apt/apt.conf.d/99mmdebstrap"' \
        --customize-hook='rm -rf "$1"/var/cache/debconf/*-old "$1"/var/log/*.log' \
        "$suite" "$work/debian.tar" "${sources[@]}" >"$work/log" 2>&1 ||
        { cat "$work/log" >&2; die "mmdebstrap failed"; }
    python3 "$repo/scripts/base_image.py" pack debian "$work/debian.tar" "$bases/debian"
}

make_busybox() {
    say "making a busybox base image"
    python3 "$repo/scripts/base_image.py" pack busybox "$(command -v busybox)" "$bases/busybox"
}

# By an apt with settings and lists of its own: this machine's know nothing of the other architecture.
make_foreign() {
    local architecture=arm64 apt=$work/apt file
    [ "$(uname -m)" != aarch64 ] || architecture=amd64
    say "making a busybox base image of $architecture"
    mkdir -p "$apt"/{etc/apt.conf.d,etc/preferences.d,etc/sources.list.d,lists/partial,cache/archives/partial}
    : >"$apt/status"
    "$repo/scripts/host-config.sh" "$work/host" >/dev/null
    [ ! -s "$work/host/apt.conf" ] || cp "$work/host/apt.conf" "$apt/etc/apt.conf.d/99host"
    if host_is_suite; then
        while read -r file; do
            case "$file" in
                *.sources) grep -v '^Architectures:' "$file" >"$apt/etc/sources.list.d/host.sources" ;;
                *) cp "$file" "$apt/etc/sources.list.d/" ;;
            esac
        done < <(host_sources)
    else
        printf 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s %s main\n' \
            http://deb.debian.org/debian "$suite" >"$apt/etc/sources.list"
    fi
    printf '%s "%s";\n' Dir::Etc "$apt/etc" Dir::Etc::TrustedParts /etc/apt/trusted.gpg.d Dir::State "$apt" Dir::State::status "$apt/status" \
        Dir::Cache "$apt/cache" APT::Architecture "$architecture" APT::Architectures "$architecture" \
        APT::Sandbox::User "$(id -un)" Dir::Log "$apt" >"$apt/apt.conf"
    (cd "$apt" && export APT_CONFIG=$apt/apt.conf && apt-get -q update && apt-get -q download busybox-static) \
        >"$work/log" 2>&1 || { cat "$work/log" >&2; die "the package busybox-static:$architecture can't be had"; }
    dpkg-deb -x "$apt"/busybox-static_*.deb "$work/foreign"
    python3 "$repo/scripts/base_image.py" pack busybox "$work"/foreign/*bin/busybox "$bases/foreign" "$architecture"
}

[ $# -gt 0 ] || set -- debian busybox
for image in "$@"; do
    recent "$image" || "make_$image"
done
printf '%s\n' "$bases"
