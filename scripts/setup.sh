#!/usr/bin/env bash
# Install what the demo or the tests need and this machine lacks, and say so.
#
#   scripts/setup.sh demo     what `make demo` needs
#   scripts/setup.sh test     that, the peers that tests compare with, and (as root) two test users
#   scripts/setup.sh undo     remove the test users
#
# Debian's packages by apt-get, through sudo where the user is not root. Nothing present is touched.
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# A program and the package that brings it. Either of the two network helpers is enough.
demo_tools="newuidmap:uidmap mmdebstrap:mmdebstrap docker-registry:docker-registry busybox:busybox-static"
test_tools="skopeo:skopeo umoci:umoci podman:podman buildah:buildah git:git gcc:gcc make:make setpriv:util-linux"
test_tools="$test_tools sshd:openssh-server qemu-s390x-static:qemu-user-static chromium:chromium"
test_tools="$test_tools nft:nftables iptables:iptables ip:iproute2"

user_ids=pybuild-ids
user_single=pybuild-single

missing_packages() {
    local pair out=""
    for pair in "$@"; do
        have "${pair%%:*}" || out="$out ${pair##*:}"
    done
    if ! have slirp4netns && ! have pasta; then
        out="$out slirp4netns"
    fi
    # Only Debian carries Debian's signing keys by itself.
    [ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || out="$out debian-archive-keyring"
    if have busybox && ! busybox_is_static; then
        out="$out busybox-static"
    fi
    printf '%s' "$out"
}

# A dynamic busybox can't be an image of one file.
busybox_is_static() {
    local answer
    answer=$(LC_ALL=C ldd "$(command -v busybox)" 2>&1 || true) # its exit status is 1 for a static program
    [[ $answer == *"not a dynamic"* ]]
}

install_packages() {
    local packages="$*"
    [ -n "$packages" ] || return 0
    have apt-get || die "missing: $packages" "this is not a Debian or Ubuntu: install them by hand, then try again"
    say "installing by apt-get: $packages"
    # shellcheck disable=SC2086
    apt_install $packages
    # Some packages start a service. Ours run on free ports, for as long as they are needed.
    local pair
    for pair in docker-registry:docker-registry openssh-server:ssh; do
        if [[ " $packages " == *" ${pair%%:*} "* ]] && [ -d /run/systemd/system ]; then
            say "the package ${pair%%:*} started a service: stopping it"
            as_root systemctl disable --now "${pair##*:}.service" || true
        fi
    done
}

apt_install() {
    local log
    log=$(mktemp)
    if ! apt_get install -y --no-install-recommends "$@" >"$log" 2>&1; then
        say "package lists are missing or old: apt-get update"
        apt_get update -q >"$log" 2>&1 || { cat "$log" >&2; rm -f "$log"; die "apt-get update failed"; }
        apt_get install -y --no-install-recommends "$@" >"$log" 2>&1 ||
            { tail -n 30 "$log" >&2; rm -f "$log"; die "apt-get install $* failed"; }
    fi
    rm -f "$log"
}

apt_get() { as_root env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 apt-get "$@"; }

# Without subordinate ids pybuild works with one id, but mmdebstrap can't make a base image.
give_subordinate_ids() {
    local user=$1 start
    if ! grep -q "^$user:" /etc/subuid 2>/dev/null; then
        start=$(next_free_id /etc/subuid)
        say "giving $user the subordinate user ids $start to $((start + 65535))"
        as_root usermod --add-subuids "$start-$((start + 65535))" "$user"
    fi
    if ! grep -q "^$user:" /etc/subgid 2>/dev/null; then
        start=$(next_free_id /etc/subgid)
        say "giving $user the subordinate group ids $start to $((start + 65535))"
        as_root usermod --add-subgids "$start-$((start + 65535))" "$user"
    fi
}

next_free_id() {
    awk -F: 'BEGIN { n = 100000 } { if ($2 + $3 > n) n = $2 + $3 } END { print n }' "$1" 2>/dev/null || echo 100000
}

# 0666 is what udev gives it: whoever opens it gets an interface in a namespace of theirs and nothing else.
open_tun() {
    [ -c /dev/net/tun ] && ! [ -w /dev/net/tun ] || return 0
    if have sudo; then
        say "opening /dev/net/tun to all users, for private networks (chmod 0666, until the next boot)"
        as_root chmod 0666 /dev/net/tun
    else
        say "/dev/net/tun is closed to you and there is no sudo: tests of private networks will fail"
    fi
}

make_test_users() {
    local user
    for user in "$user_ids" "$user_single"; do
        if ! id -u "$user" >/dev/null 2>&1; then
            say "making the test user $user (scripts/setup.sh undo removes it)"
            # A system account: useradd gives those no subordinate ids of its own accord.
            useradd --system --create-home --home-dir "/var/lib/$user" --shell /bin/sh "$user"
        fi
    done
    give_subordinate_ids "$user_ids"
    sed -i "/^$user_single:/d" /etc/subuid /etc/subgid
}

remove_test_users() {
    local user
    for user in "$user_ids" "$user_single"; do
        if id -u "$user" >/dev/null 2>&1; then
            say "removing the test user $user"
            as_root userdel --remove "$user" >/dev/null 2>&1 || die "could not remove $user" "does it still have processes?"
        fi
    done
}

# Ubuntu 24.04 lets no unprivileged program make user namespaces unless a profile names it. venv.sh makes
# the interpreter of .venv a copy on such machines, so that the profile names that file and not all of Python.
allow_user_namespaces() {
    local knob=/proc/sys/kernel/apparmor_restrict_unprivileged_userns profile=/etc/apparmor.d/pybuild-dev python
    [ "$(id -u)" != 0 ] || return 0
    [ "$(cat "$knob" 2>/dev/null || echo 0)" = 1 ] || return 0
    python=$(readlink -f "$repo/.venv/bin/python3")
    if grep -q -F "$python" "$profile" 2>/dev/null; then
        return 0
    fi
    say "AppArmor keeps unprivileged programs from user namespaces here: adding $profile for $python"
    as_root tee "$profile" >/dev/null <<PROFILE
abi <abi/4.0>,
include <tunables/global>

profile pybuild-dev "$python" flags=(unconfined) {
  userns,
}
PROFILE
    as_root apparmor_parser --replace "$profile"
}

case "${1:-}" in
    demo)
        # shellcheck disable=SC2086
        install_packages $(missing_packages $demo_tools)
        [ "$(id -u)" = 0 ] || give_subordinate_ids "$(id -un)"
        ;;
    test)
        # shellcheck disable=SC2086
        install_packages $(missing_packages $demo_tools $test_tools)
        if [ "$(id -u)" = 0 ]; then
            make_test_users
        else
            give_subordinate_ids "$(id -un)"
            open_tun
        fi
        ;;
    apparmor) allow_user_namespaces ;;
    undo) remove_test_users ;;
    *) die "usage: scripts/setup.sh demo|test|apparmor|undo" ;;
esac
