#!/usr/bin/env bash
# Run the R benchmark with the newest Python found: our calls of R beside rpy2, CSV files and fresh Rscripts.
# Arguments go to benchmarks/r.py. R and rpy2 are installed where they can be; without rpy2 its column is missing.
# Called by: make bench-r.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

newest=$(scripts/pythons.sh | tail -n 1) && [[ -n $newest ]] || exit 1
env=$(scripts/environment.sh $newest test) || exit 1
scripts/r.sh install randomForest data.table || exit
scripts/r.sh rpy2 "$env" || true
exec "$env/bin/python" benchmarks/r.py "$@"
