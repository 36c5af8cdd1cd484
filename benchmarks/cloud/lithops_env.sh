#!/usr/bin/env bash
# Make sure that a virtual environment with Lithops is there; print its Python. It is never part of the project's own.
#
#   lithops_env.sh /usr/bin/python3.13    ->  /…/.venv/lithops/bin/python
#
# Called by: scripts/bench_ecs.sh, scripts/bench_lambda.sh.
set -euo pipefail

python=$1
wanted=(lithops==3.8.0 boto3)
root=$(cd "$(dirname "$0")/../.." && pwd)
env=$root/.venv/lithops

mkdir -p "$root/.venv"
if command -v flock >/dev/null; then  # two at once must not build the same thing
  exec 9>"$env.lock"
  flock 9
fi
stamp="$("$python" -c 'import sys; print(sys.base_prefix, *sys.version_info[:3])') ${wanted[*]}"
if [[ $(cat "$env/stamp" 2>/dev/null) != "$stamp" ]] || ! "$env/bin/python" -c 'import lithops' 2>/dev/null; then
  echo "cloudexec: preparing .venv/lithops (once; about a minute)" >&2
  { "$python" -m venv --clear "$env" &&
    "$env/bin/python" -m pip install --disable-pip-version-check --no-input "${wanted[@]}"; } >"$env.log" 2>&1 9>&- || {
    echo "cloudexec: could not prepare $env: $(tail -n 1 "$env.log") ($env.log)" >&2
    exit 1
  }
  echo "$stamp" >"$env/stamp"
fi
echo "$env/bin/python"
