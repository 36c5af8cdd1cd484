#!/usr/bin/env bash
# Run the benchmarks with the newest Python found: LocalExecutor against its peers, then the simulator.
# Arguments go to benchmarks/local.py; with any, the simulator is left out.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

newest=$(scripts/pythons.sh | tail -n 1) && [[ -n $newest ]] || exit 1
env=$(scripts/environment.sh $newest bench) || exit 1

status=0
"$env/bin/python" benchmarks/local.py "$@" || status=1
if [[ $# -eq 0 ]]; then
  echo
  "$env/bin/python" benchmarks/simulation.py || status=1
fi
exit $status
