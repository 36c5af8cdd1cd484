#!/usr/bin/env bash
# Run everything that must hold: lint, types, floors, snippets, the site on the oldest Python found; the tests on the
# oldest and the newest; S3, SQS and rights on independent servers; the worker images in containers; whether each right
# is granted that was asked for, and each needed that is granted. One failure does not stop the rest; the closing line
# tells what failed, and what this machine could not do.
#
#     environment of the newest Python | environment of the oldest, lint
#     R                                |
#     ---------------------------------+--------------------------------  what needs R begins
#     snippets, site, emulators,       | tests on the oldest, then on
#     images: one process              | the newest: PYTEST_WORKERS
#     ---------------------------------+--------------------------------  all has been asked of the pocket AWS
#                                      | rights
#
#   CONTAINER_TESTS  `all`, or `sample` (what the oldest Python runs): tests that start workers in the pocket AWS
#   PYTEST_WORKERS   processes of one test run (5: most tests wait, for containers); 0 runs in one process, which a debugger needs
#   PYTEST_ADDOPTS   pytest's own variable, e.g. PYTEST_ADDOPTS='-x --durations=10'
# Called by: make test, .ci/run.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

work=$(mktemp -d)
output=$work/output
CLOUDEXEC_POCKET_RECORD=$work/asked  # each pocket AWS puts down there who has asked it what
export CLOUDEXEC_POCKET_RECORD
mkdir "$CLOUDEXEC_POCKET_RECORD"
# Where the environment forbids to keep bytecode, each of thousands of processes compiles cloudexec, and each process of
# pytest all tests.
unset PYTHONDONTWRITEBYTECODE
tested=() passed=() failed=()

# What runs in the background is a group of its own, so that all of it ends with this script.
in_background() {  # COMMAND…: sets job
  set -m
  "$@" </dev/null &
  job=$!
  set +m
}
end() {
  local group
  for group in $(jobs -pr); do kill -INT -- "-$group" 2>/dev/null; done
  wait
  rm -rf "$work"
}
trap end EXIT
trap 'exit 130' INT TERM

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

# Otherwise the processes of one test run, which begin together, each rewrite all tests for themselves.
compile() {  # ENV
  "$1/bin/python" -m compileall -q src
  "$1/bin/python" -m pytest --collect-only -qq >/dev/null 2>&1
}

pythons=$(scripts/pythons.sh) || exit 1
oldest=$(head -n 1 <<<"$pythons") newest=$(tail -n 1 <<<"$pythons")

# apt takes a minute on a new machine, and an environment half of one; lint needs none of them.
in_background scripts/r.sh install
installing_r=$job
prepare_newest() {
  newest_env=$(scripts/environment.sh $newest test) || exit 1
  echo "$newest_env" >"$work/newest_env"
  compile "$newest_env"
}
if [[ $newest != "$oldest" ]]; then
  in_background prepare_newest
  preparing_newest=$job
fi
oldest_env=$(scripts/environment.sh $oldest test,dev) || exit 1
in_background compile "$oldest_env"
compiling_oldest=$job

headline "lint, types, floors on Python ${oldest% *}"
if scripts/lint.sh "$oldest_env"; then passed+=("lint, types, floors ok"); else failed+=("lint, types or floors"); fi

wait "$compiling_oldest"
if [[ $newest != "$oldest" ]]; then
  wait "$preparing_newest"
  [[ -s $work/newest_env ]] || exit 1
  newest_env=$(<"$work/newest_env")
fi

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

# Each of these starts its servers, or builds its site or image, once: one process. All of them wait a good deal, for
# package indices, links and containers, and so go beside the tests.
apart() {  # NAME ENV DIRECTORY
  local version=${2##*/}
  headline "$1 on Python ${version%%-*}"
  if run_pytest "$2" "$3" -n 0; then echo "passed $1: $(counts)" >>"$work/verdicts"
  else echo "failed $1: $(counts)" >>"$work/verdicts"
  fi
}
beside() {
  output=$work/output_beside
  apart "snippets" "$oldest_env" tests/docs/test_snippets.py
  apart "site" "$oldest_env" tests/docs/test_site.py
  scripts/emulators.sh || echo "failed emulators could not be installed" >>"$work/verdicts"
  apart "S3, SQS and rights on independent servers" "${newest_env:-$oldest_env}" tests/emulators
  # Without podman its tests are skipped, and say why.
  scripts/images.sh install || true
  apart "worker images" "${newest_env:-$oldest_env}" tests/images
}
beside_in_a_file() { beside >"$work/said_beside" 2>&1; }  # whose words would mix with those of the tests
touch "$work/verdicts"
in_background beside_in_a_file
going_beside=$job

# Thousands of tests with processes, signals and time limits run beside each other on a machine that others share. A few
# that fail there are repeated by themselves, once; the closing line names them, also if they pass then.
MOST_REPEATED=4
tests_on() {  # VERSION ENV
  local kept=$work/cache_$1 first names
  local only=(--ignore=tests/docs/test_snippets.py --ignore=tests/docs/test_site.py --ignore=tests/emulators
    --ignore=tests/images -o "cache_dir=$kept")
  headline "tests on Python $1"
  # Neighbours stay together, and share what a file or folder has started, until a process has nothing left to do.
  if run_pytest "$2" -n "${PYTEST_WORKERS:-5}" --dist worksteal "${only[@]}"; then
    tested+=("$(counts) on Python $1")
    return
  fi
  first=$(counts)
  names=$("$2/bin/python" -c 'import json, sys; print(*json.load(open(sys.argv[1])), sep="\n")' \
    "$kept/v/cache/lastfailed" 2>/dev/null)
  if [[ -n $names && $(wc -l <<<"$names") -le $MOST_REPEATED ]]; then
    headline "once more, by themselves: those that failed on Python $1"
    if run_pytest "$2" -n 0 --last-failed --last-failed-no-failures=none "${only[@]}"; then
      tested+=("$first on Python $1; ATTENTION: passed only by themselves: ${names//$'\n'/ }")
      return
    fi
  fi
  failed+=("tests on Python $1: $first")
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

wait "$going_beside" || failed+=("what goes beside the tests broke off")
cat "$work/said_beside"
while read -r verdict text; do
  if [[ $verdict == passed ]]; then passed+=("$text"); else failed+=("$text"); fi
done <"$work/verdicts"

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
