#!/usr/bin/env bash
# What a RUN step needs to know of this machine to reach its package indexes, as flags for `pybuild build`:
#
#   scripts/host-config.sh DIR        writes files into DIR and prints flags, one a line
#
# On a machine with direct access and no settings it prints nothing. The examples' RUN steps name these secrets
# and go without where they are not given:
#
#   apt.conf               apt's proxy, certificate and check settings   -> /etc/apt/apt.conf.d/99host
#   apt-auth               apt's credentials                             -> /etc/apt/auth.conf.d/host.conf
#   pip.conf               pip's indexes, proxy, trust                   -> /etc/pip.conf
#   ca-certificates.crt    this machine's trusted certificates, where it has some of its own
#
# Proxy variables go in by --build-arg NAME, whose value pybuild takes from the environment.
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

dir=${1:?usage: scripts/host-config.sh DIR}
umask 077
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
secret_ca=/run/secrets/ca-certificates.crt

flag() { [ ! -s "$dir/$1" ] || printf '%s\n' "--secret=id=$1,src=$dir/$1"; }

certificates() {
    local bundle=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}
    if compgen -G '/usr/local/share/ca-certificates/*.crt' >/dev/null || [ -n "${SSL_CERT_FILE:-}${PIP_CERT:-}" ]; then
        [ ! -r "$bundle" ] || cp "$bundle" "$dir/ca-certificates.crt"
    fi
}

apt_settings() {
    have apt-config || return 0
    apt-config dump 2>/dev/null | grep -E '^Acquire::((http|https|ftp)::(Proxy|Verify-Peer|Timeout)|Check-Valid-Until|Check-Date|Retries|ForceIPv[46])' |
        grep -v ' "";$' >"$dir/apt.conf" || true
    if [ -s "$dir/ca-certificates.crt" ]; then
        printf 'Acquire::https::CAInfo "%s";\n' "$secret_ca" >>"$dir/apt.conf"
    fi
    local file
    for file in /etc/apt/auth.conf /etc/apt/auth.conf.d/*.conf; do
        [ ! -r "$file" ] || { cat "$file"; echo; } >>"$dir/apt-auth"
    done
}

# pip itself says what is in force, from files and environment alike. Locations on this machine's disk (file:,
# plain paths) mean nothing inside a build and are left out.
pip_settings() {
    local python=$repo/.venv/bin/python3
    [ -x "$python" ] || python=python3
    "$python" -m pip config list 2>/dev/null | "$python" -c '
import ast, sys
wanted = {"index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "default-timeout", "retries"}
found = {}
for line in sys.stdin:
    key, _, value = line.strip().partition("=")
    name = key.rpartition(".")[2]
    words = [w for w in ast.literal_eval(value).split() if not w.startswith(("file:", "/"))]
    if name in wanted and words:
        found[name] = " ".join(words)
if len(sys.argv) > 1:
    found["cert"] = sys.argv[1]
if found:
    print("[global]", *(f"{k} = {v}" for k, v in sorted(found.items())), sep="\n")
' ${1:+"$1"} >"$dir/pip.conf" || true
}

certificates
apt_settings
if [ -s "$dir/ca-certificates.crt" ]; then pip_settings "$secret_ca"; else pip_settings; fi

for name in apt.conf apt-auth pip.conf ca-certificates.crt; do flag "$name"; done
for name in http_proxy https_proxy no_proxy all_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY ALL_PROXY; do
    [ -z "${!name:-}" ] || printf '%s\n' "--build-arg=$name"
done
