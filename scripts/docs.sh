#!/usr/bin/env bash
# Build the documentation as a site; a warning is an error.
#
#   docs.sh [build [DIRECTORY [FILE]]]    into build/site, as mkdocs.yml says
#   docs.sh serve                         on http://127.0.0.1:8000, built anew whenever a page is saved
# Called by: make docs, tests/docs/test_site.py.
set -euo pipefail
cd "$(dirname "$0")/.."

export NO_MKDOCS_2_WARNING=1  # pyproject.toml keeps MkDocs below 2
# The newest Python: the reference is read, not imported, so any does.
env=$(scripts/environment.sh $(scripts/pythons.sh | tail -n 1) docs)

case ${1:-build} in
  build)  # without --quiet, which would hide warnings from --strict
    "$env/bin/mkdocs" build --strict --site-dir "${2:-$PWD/build/site}" --config-file "${3:-mkdocs.yml}" ;;
  serve) exec "$env/bin/mkdocs" serve --dev-addr 127.0.0.1:8000 --watch src --watch scripts ;;
  *) echo "usage: docs.sh [build [DIRECTORY [FILE]]] | serve" >&2; exit 2 ;;
esac
