#!/usr/bin/env bash
# Make sure that R is on this machine, with what the tests and examples load.
#
#   r.sh install            R and PACKAGES below, by apt, if this is root on Debian
#   r.sh install lme4 …     R and these instead
#   r.sh rpy2 ENV           rpy2 in a virtual environment, in the version that this R can load
#   r.sh version            prints R's version, e.g. 4.2.2
#
# What R finds already is left alone, whoever installed it. Exit status 69: it cannot be had here; the last line says why.
# Called by: test.sh, demo.sh, by hand.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
log=$root/.venv/r.log

# As R calls them; Debian's names are the same in small letters.
PACKAGES=(randomForest lsmeans emmeans lme4 foreach doParallel doRNG iterators future future.apply globals
  data.table bit64 tibble survival xml2 jsonlite)

# The last that begin on R < 4.5: newer ones name symbols of R's that it lacks, and pip cannot know R's version.
RPY2_OF_OLDER_R=(rpy2==3.6.4 rpy2-rinterface==3.6.5)

say() { echo "cloudexec: $*" >&2; }
unavailable() { say "$*"; exit 69; }

# --vanilla: nobody's .Rprofile has a say here.
ask_r() { Rscript --vanilla -e "$1" "${@:2}" 2>/dev/null </dev/null; }

version() { ask_r 'cat(as.character(getRversion()), "\n", sep = "")'; }

lacking() {  # NAMES…: those that R does not find, one a line; all of them without R
  ask_r 'for (name in commandArgs(TRUE)) if (!length(find.package(name, quiet = TRUE))) cat(name, "\n", sep = "")' "$@" ||
    printf '%s\n' "$@"
}

# --- R ----------------------------------------------------------------------------------------

apt_install() {
  DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 -o Acquire::Retries=1 \
    install -y -q --no-install-recommends "$@" </dev/null >>"$log" 2>&1
}

# What apt's lines amount to, in one sentence.
explain() {
  if grep -qE 'Temporary failure resolving|Could not connect|Connection timed out|unreachable' "$log"
  then echo "apt-get reached no mirror: connect to the network, then repeat ($log)"
  elif grep -q 'Unable to locate package' "$log"
  then echo "this Debian has no $(sed -nE 's/.*Unable to locate package //p' "$log" | paste -sd' ') ($log)"
  else echo "apt-get could not install R: $(tail -n 1 "$log") ($log)"
  fi
}

install_r() {  # NAMES…
  local missing wanted=r-base-core begun=$SECONDS
  missing=$(lacking "$@" | paste -sd' ' -)
  if version >/dev/null && [[ -z $missing ]]; then return; fi
  for name in $missing; do wanted+=" r-cran-$(tr '[:upper:]' '[:lower:]' <<<"$name")"; done
  if ! command -v apt-get >/dev/null; then
    unavailable "R or some of its packages are not here, and this is not Debian; install R and its packages $missing"
  elif [[ $(id -u) != 0 ]]; then
    unavailable "R or some of its packages are not here; run 'sudo apt-get install --no-install-recommends $wanted', then repeat"
  fi
  : >"$log"
  say "installing R with $missing (once; about a minute)"
  # The lists of a fresh machine are empty or old: refresh them, but only if the first try needs it.
  # shellcheck disable=SC2086  # a list
  apt_install $wanted || { apt-get update -q >>"$log" 2>&1; apt_install $wanted; } || unavailable "$(explain)"
  missing=$(lacking "$@" | paste -sd' ' -)
  if [[ -n $missing ]]; then unavailable "R is installed, and does not find $missing ($log)"; fi
  say "R $(version) is installed, in $((SECONDS - begun)) s"
}

# --- rpy2 -------------------------------------------------------------------------------------

older() { [[ $(printf '%s\n' "$1" "$2" | sort -V | head -n 1) == "$1" && $1 != "$2" ]]; }

install_rpy2() {  # ENV
  local env=$1 r wanted=(rpy2) stamp
  r=$(version) || unavailable "no R here, so no rpy2 in .venv/$(basename "$env")"
  if older "$r" 4.5; then wanted=("${RPY2_OF_OLDER_R[@]}"); fi
  stamp="R $r: ${wanted[*]}"
  if [[ $(cat "$env/rpy2.stamp" 2>/dev/null) == "$stamp" ]]; then return; fi
  # It is built from source, which takes ten seconds and a C compiler. Without R's development files it works in the
  # mode that it calls ABI.
  "$env/bin/python" -m pip install --disable-pip-version-check --no-input "${wanted[@]}" >"$log" 2>&1 ||
    unavailable "rpy2 could not be built for R $r in .venv/$(basename "$env"): $(tail -n 1 "$log") ($log)"
  "$env/bin/python" -c 'import rpy2.rinterface' >"$log" 2>&1 ||
    unavailable "rpy2 does not begin on R $r in .venv/$(basename "$env"): $(tail -n 1 "$log") ($log)"
  echo "$stamp" >"$env/rpy2.stamp"
}

mkdir -p "$root/.venv"
if command -v flock >/dev/null; then
  exec 9>"$root/.venv/r.lock"
  flock 9
fi

case ${1:-} in
  install) if [[ $# -gt 1 ]]; then install_r "${@:2}" 9>&-; else install_r "${PACKAGES[@]}" 9>&-; fi ;;
  rpy2) install_rpy2 "${2:?the environment}" 9>&- ;;
  version) version || unavailable "no R here" ;;
  *) say "usage: r.sh install [PACKAGE…] | rpy2 ENV | version"; exit 2 ;;
esac
