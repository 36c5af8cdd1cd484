#!/usr/bin/env bash
# Run what reads the code without running it: style, types, floors. Every check runs, whatever failed before.
#
#   lint.sh          makes its own environment
#   lint.sh ENV      uses that one
# Exit status: how many checks failed. Called by: test.sh, make lint.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

if [[ $# -gt 0 ]]; then env=$1; else
  # The oldest Python, because its standard library is the one that the types must fit.
  oldest=$(scripts/pythons.sh | head -n 1) && [[ -n $oldest ]] || exit 1
  env=$(scripts/environment.sh $oldest test,dev) || exit 1
fi

failed=0
check() {
  echo "+ $*"
  "$env/bin/$1" "${@:2}" || failed=$((failed + 1))
}

check ruff check --quiet .
check ruff format --check --quiet .
check mypy
check lint-imports --no-logo
exit $failed
