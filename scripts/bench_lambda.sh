#!/usr/bin/env bash
# Run the Lambda benchmark with the newest Python found: an emulated AWS, LambdaExecutor, Lithops and boto3 beside it.
# Arguments go to benchmarks/lambda.py. NO_LITHOPS=1 leaves Lithops out, which then need not be installed.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

newest=$(scripts/pythons.sh | tail -n 1) && [[ -n $newest ]] || exit 1
env=$(scripts/environment.sh $newest bench) || exit 1
lithops=()
if [[ -z ${NO_LITHOPS:-} ]]; then
  python=$(benchmarks/cloud/lithops_env.sh "${newest#* }") || exit 1
  lithops=(--lithops "$python")
fi
exec "$env/bin/python" benchmarks/lambda.py "${lithops[@]}" "$@"
