#!/usr/bin/env bash
# Make sure that a virtual environment exists and is up to date; print its path.
#
#   environment.sh 3.10 /usr/bin/python3.10 test,dev    ->  /…/.venv/3.10-test-dev
#
# A stamp holds what the environment was made from, so that a second run costs milliseconds.
# Called by: test.sh, demo.sh, bench.sh.
set -euo pipefail

version=$1 python=$2 extras=$3
root=$(cd "$(dirname "$0")/.." && pwd)
env=$root/.venv/$version-${extras//,/-}
log=$env.log

say() { echo "cloudexec: $*" >&2; }

# What pip's two hundred lines amount to, in one sentence.
explain() {
  if grep -qE 'connection broken|ConnectionError|ConnectTimeout|ProxyError|SSLError|name resolution|unreachable' "$log"
  then say "pip reached no package index: connect to the network or point pip at an index, then repeat ($log)"
  elif grep -qE 'No matching distribution|Could not find a version' "$log"
  then say "the package index lacks $(sed -nE 's/.*No matching distribution found for ([^ ]+).*/\1/p' "$log" | head -1)" \
           "for Python $version: check what pip is pointed at, then repeat ($log)"
  else say "could not prepare $env: $(tail -n 1 "$log") ($log)"
  fi
}

build() {
  # Another checkout's path or another Python cannot be mended by pip: begin anew.
  if [[ $(head -n 1 "$env/stamp" 2>/dev/null) != "$origin" ]]; then
    "$python" -m venv --clear "$env" || return
  fi
  "$env/bin/python" -m pip install --disable-pip-version-check --no-input --editable "$root[$extras]"
}

mkdir -p "$root/.venv"
if command -v flock >/dev/null; then  # two `make`s at once must not build the same thing
  exec 9>"$env.lock"
  flock 9
fi

origin="$root $("$python" -c 'import sys; print(sys.base_prefix, *sys.version_info[:3])')"
stamp=$(echo "$origin"; cksum <"$root/pyproject.toml")
if [[ $(cat "$env/stamp" 2>/dev/null) != "$stamp" ]] || ! "$env/bin/python" -c '' 2>/dev/null; then
  say "preparing .venv/$(basename "$env") (once; about half a minute)"
  build >"$log" 2>&1 9>&- || { explain; exit 1; }
  echo "$stamp" >"$env/stamp"
fi
echo "$env"
