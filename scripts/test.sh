#!/usr/bin/env bash
# Run everything that must hold: lint, types, floors, snippets, the site on the oldest Python found; the tests on the
# oldest and the newest; S3, SQS and rights on independent servers; the worker images in containers; whether each right
# is granted that was asked for, and each needed that is granted. One failure does not stop the rest; the closing line
# tells what failed, and what this machine could not do. R is installed first, where it can be.
#
#   CONTAINER_TESTS  `all`, or `sample` (what the oldest Python runs): tests that start workers in the pocket AWS
#   PYTEST_WORKERS   processes of one test run (4: many tests wait); 0 runs in one process, which a debugger needs
#   PYTEST_ADDOPTS   pytest's own variable, e.g. PYTEST_ADDOPTS='-x --durations=10'
# Called by: make test, .ci/run.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

output=$(mktemp)
CLOUDEXEC_POCKET_RECORD=$(mktemp -d)  # each pocket AWS puts down there who has asked it what
export CLOUDEXEC_POCKET_RECORD
trap 'rm -rf "$output" "$CLOUDEXEC_POCKET_RECORD"' EXIT
tested=() passed=() failed=()

headline() { printf '\n== %s\n' "$*"; }

# `812 passed, 3 skipped`: pytest's own last line without its frame and time.
counts() {
  local line
  line=$(grep -E '^[= ]*([0-9]+ (passed|failed|skipped|errors?|xfailed|deselected)|no tests ran).* in [0-9.]+s' "$output" | tail -n 1 |
    sed -E 's/^[= ]*//; s/ in [0-9.]+s.*//; s/, [0-9]+ (warnings?|deselected)//g')
  echo "${line:-no summary, pytest itself broke off}"
}

run_pytest() {  # ENV ARGUMENTS…
  echo "+ pytest ${*:2}"
  "$1/bin/python" -m pytest -q "${@:2}" </dev/null 2>&1 | tee "$output"
}

pythons=$(scripts/pythons.sh) || exit 1
oldest=$(head -n 1 <<<"$pythons") newest=$(tail -n 1 <<<"$pythons")
oldest_env=$(scripts/environment.sh $oldest test,dev) || exit 1
if [[ $newest != "$oldest" ]]; then
  newest_env=$(scripts/environment.sh $newest test) || exit 1
fi

# apt takes a minute on a new machine; lint needs none of it.
scripts/r.sh install &
installing_r=$!

headline "lint, types, floors on Python ${oldest% *}"
if scripts/lint.sh "$oldest_env"; then passed+=("lint, types, floors ok"); else failed+=("lint, types or floors"); fi

# What cannot be had here stands in the closing line. Tests of R are skipped without it; in CI that is a failure.
lacking=()
if wait "$installing_r"; then
  passed+=("with R $(scripts/r.sh version)")
  for env in "$oldest_env" ${newest_env:+"$newest_env"}; do
    scripts/r.sh rpy2 "$env" || lacking+=("no rpy2 in .venv/${env##*/}")
  done
elif [[ -n ${CI:-} ]]; then failed+=("R could not be installed")
else lacking+=("no R, so its tests were skipped")
fi
if [[ ${#lacking[@]} -gt 0 ]]; then
  printf 'cloudexec: ATTENTION: %s\n' "${lacking[@]}"
  passed+=("${lacking[@]}")
fi

headline "snippets of README.md and docs/ on Python ${oldest% *}"
if run_pytest "$oldest_env" tests/docs/test_snippets.py -n 0; then
  passed+=("snippets: $(counts)")
else
  failed+=("snippets: $(counts)")
fi

headline "documentation as a site"
if run_pytest "$oldest_env" tests/docs/test_site.py -n 0; then
  passed+=("site: $(counts)")
else
  failed+=("site: $(counts)")
fi

tests_on() {  # VERSION ENV
  headline "tests on Python $1"
  # Neighbours stay together, and share what a file or folder has started, until a process has nothing left to do.
  if run_pytest "$2" -n "${PYTEST_WORKERS:-4}" --dist worksteal --ignore=tests/docs/test_snippets.py \
    --ignore=tests/docs/test_site.py --ignore=tests/emulators --ignore=tests/images; then
    tested+=("$(counts) on Python $1")
  else
    failed+=("tests on Python $1: $(counts)")
  fi
}

# Tests that start containers take most of the time: all of them on the newest Python, a sample on the oldest.
if [[ $newest != "$oldest" ]]; then CONTAINER_TESTS=${CONTAINER_TESTS:-sample} tests_on "${oldest% *}" "$oldest_env"
else tests_on "${oldest% *}" "$oldest_env"; fi
if [[ $newest != "$oldest" ]]; then
  tests_on "${newest% *}" "$newest_env"
else
  headline "ATTENTION: only one Python found (${oldest% *}), so the newest one was not tested apart from the oldest"
  tested+=("only one Python found")
fi

# Each of the two starts its servers, or builds its image, once: one process.
apart() {  # NAME DIRECTORY
  headline "$1 on Python ${newest% *}"
  if run_pytest "${newest_env:-$oldest_env}" "$2" -n 0; then
    passed+=("$1: $(counts)")
  else
    failed+=("$1: $(counts)")
  fi
}

scripts/emulators.sh || failed+=("emulators could not be installed")
apart "S3, SQS and rights on independent servers" tests/emulators

# Without podman its tests are skipped, and say why.
scripts/images.sh install || true
apart "worker images" tests/images

# A sample of the tests, a selection by PYTEST_ADDOPTS, or a test that failed half-way leaves rights unasked for.
headline "rights"
some=()
if [[ ${#failed[@]} -gt 0 || -n ${PYTEST_ADDOPTS:-} || ${CONTAINER_TESTS:-all} != all ]]; then some=(--some); fi
if "$oldest_env/bin/python" scripts/permissions.py --check "$CLOUDEXEC_POCKET_RECORD" "${some[@]}" | tee "$output"; then
  passed+=("rights as asked")
else
  failed+=("$(tail -n 1 "$output")")
fi

joined() { local IFS=';'; sed 's/;/; /g' <<<"$*"; }

echo
if [[ ${#failed[@]} -gt 0 ]]; then
  echo "cloudexec: FAILED: $(joined "${failed[@]}")"
  exit 1
fi
echo "cloudexec: $(joined "${tested[@]}" "${passed[@]}")"
