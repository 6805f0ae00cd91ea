#!/usr/bin/env bash
# ruff, mypy --strict and import-linter, all three even where the first complains.
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$repo"
bin=$repo/.venv/bin
status=0
say "ruff"
"$bin/ruff" check . || status=1
say "mypy --strict"
"$bin/mypy" || status=1
say "import-linter"
"$bin/lint-imports" --no-cache || status=1
exit $status
