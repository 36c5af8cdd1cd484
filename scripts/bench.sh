#!/usr/bin/env bash
# Run the benchmarks against their peers, with the newest Python found. Arguments go to the benchmark.
set -euo pipefail
cd "$(dirname "$0")/.."

newest=$(scripts/pythons.sh | tail -n 1)
env=$(scripts/environment.sh $newest bench)
exec "$env/bin/python" benchmarks/local.py "$@"
