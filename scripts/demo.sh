#!/usr/bin/env bash
# Run the demonstration on this machine, with the newest Python found; no account and no credentials are needed.
#
#   demo.sh [--on local|ecs|lambda] [--quick]      arguments are those of examples/crossval.py
# Called by: make demo.
set -euo pipefail
cd "$(dirname "$0")/.."

newest=$(scripts/pythons.sh | tail -n 1)
env=$(scripts/environment.sh $newest demo)
# For what is in R; a line says so where it cannot be had.
scripts/r.sh install randomForest || true
exec "$env/bin/python" examples/crossval.py "$@"
