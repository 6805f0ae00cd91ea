#!/usr/bin/env bash
# Make .venv with the project and what it depends on:  scripts/venv.sh run|dev
#
# Any Python from 3.11 on will do. Debian's is preferred: other users of the machine can execute it too,
# which the tests need. PYTHON=/path/to/python3 overrides.
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# Some machines set this, and pybuild's start would pay for it: 60 ms a command.
unset PYTHONDONTWRITEBYTECODE
unset PYTHONPATH PYTHONHOME

kind=${1:-run}
venv=$repo/.venv
stamp=$venv/.installed-$kind

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }
can_make_venvs() { "$1" -c 'import ensurepip, venv' >/dev/null 2>&1; }

find_python() {
    local candidate
    for candidate in "${PYTHON:-}" /usr/bin/python3 python3 python3.14 python3.13 python3.12 python3.11; do
        if [ -n "$candidate" ] && have "$candidate" && new_enough "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
}

choose_python() {
    local python version
    python=$(find_python)
    if [ -z "$python" ] && have apt-get; then
        say "no Python 3.11 or newer: installing Debian's python3"
        apt_get_install python3 python3-venv
        python=$(find_python)
    fi
    [ -n "$python" ] || die "no Python 3.11 or newer was found" "install one, or name it: PYTHON=/path/to/python3 make …"
    if ! can_make_venvs "$python"; then
        have apt-get || die "$python has no ensurepip" "install it, or name another: PYTHON=/path/to/python3 make …"
        version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        say "$python can't make virtual environments: installing python$version-venv"
        apt_get_install "python$version-venv"
        can_make_venvs "$python" || die "$python still has no ensurepip" "name another: PYTHON=/path/to/python3 make …"
    fi
    printf '%s' "$python"
}

apt_get_install() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" >&2 ||
        { as_root apt-get update -q >&2 && as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" >&2; }
}

fresh() { [ -e "$stamp" ] && [ "$stamp" -nt "$repo/pyproject.toml" ] && "$venv/bin/python3" -c 'import buildkit_py' 2>/dev/null; }

install() {
    local python copies=() what=$repo
    python=$(choose_python)
    if [ -e "$venv" ] && [ ! -w "$venv" ]; then
        die "$venv belongs to another user" "remove it, or work in a clone of your own"
    fi
    if [ ! -x "$venv/bin/python3" ] || ! "$venv/bin/python3" -c 'import pip' 2>/dev/null; then
        say "making .venv with $python"
        if [ "$(cat /proc/sys/kernel/apparmor_restrict_unprivileged_userns 2>/dev/null || echo 0)" = 1 ]; then
            copies=(--copies)
        fi
        rm -rf "$venv"
        "$python" -m venv "${copies[@]}" "$venv"
    fi
    [ "$kind" = run ] || what="$repo[dev]"
    say "installing the project ($kind) into .venv"
    "$venv/bin/python3" -m pip install --quiet --disable-pip-version-check --editable "$what" ||
        die "pip could not install the project" "is there a way to a package index? See: pip config list"
    touch "$stamp"
}

fresh || install
# By hand, since pip compiles only what it installed and the project itself is read in place.
"$venv/bin/python3" -m compileall -q -j 0 "$repo/buildkit_py" "$repo/frontends" "$repo/cache" "$venv"/lib/python3*/site-packages >/dev/null 2>&1 || true
