#!/usr/bin/env bash
# Print the usable Pythons, one `3.10 /path/to/python` a line, oldest first.
#
# Usable: it runs (a pyenv shim may not), it is a final CPython >= 3.10, and it can make a virtual
# environment with pip in it.
# Called by: test.sh, demo.sh, bench.sh.
set -euo pipefail

PROBE='
import platform, sys
good = sys.version_info >= (3, 10) and sys.version_info.releaselevel == "final"
if not good or platform.python_implementation() != "CPython":
    sys.exit(1)
print("%d.%d" % sys.version_info[:2], sys.executable)  # not the shim that led here
import ssl, venv
import ensurepip'

candidates() {
  local minor python
  for minor in 10 11 12 13 14; do
    command -v "python3.$minor" || true
  done
  for python in ~/.pyenv/versions/*/bin/python; do
    if [[ -x $python ]]; then echo "$python"; fi
  done
  command -v python3 || true
}

# `3.10 /path complete` or, where Debian left out ensurepip, `3.10 /path bare`.
probed() {
  local python line
  candidates | while read -r python; do
    if line=$("$python" -c "$PROBE" 2>/dev/null </dev/null); then
      echo "$line complete"
    elif [[ -n $line ]]; then
      echo "$line bare"
    fi
  done
}

complete() { awk '$3 == "complete" && !seen[$1]++ { print $1, $2 }' <<<"$1" | sort -t. -k2n; }

say() { echo "cloudexec: $*" >&2; }

install_venv() {
  say "this Python lacks ensurepip; installing Debian's python3-venv"
  # The lists of a fresh machine are empty or old: refresh them, but only if the first try needs it.
  { apt-get install -y -q python3-venv || { apt-get update -q && apt-get install -y -q python3-venv; }; } \
    </dev/null >/dev/null 2>&1
}

found=$(probed)
if [[ -z $found ]]; then
  say "no Python >= 3.10 found on PATH or in ~/.pyenv/versions; install one, e.g. 'apt-get install python3'"
  exit 1
fi
if [[ -z $(complete "$found") ]]; then
  if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
    install_venv || say "apt-get could not install python3-venv; is there a network?"
    found=$(probed)
  fi
  if [[ -z $(complete "$found") ]]; then
    say "Python cannot make virtual environments yet; run 'sudo apt-get install python3-venv', then repeat"
    exit 1
  fi
fi
complete "$found"
