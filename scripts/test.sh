#!/usr/bin/env bash
# Run the tests in .venv: scripts/test.sh [pytest's arguments]
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$repo"
unset PYTHONDONTWRITEBYTECODE PYTHONPATH PYTHONHOME
export PYBUILD_STATE=$state
exec "$repo/.venv/bin/python3" -m pytest "$@"
