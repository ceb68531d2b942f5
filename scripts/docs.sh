#!/usr/bin/env bash
# The site, build/site/index.html: pages of docs/, README and the docstrings. A warning or a broken link is an error.
#
#   bash scripts/docs.sh [ENVIRONMENT=.venv-docs]
#
# Needs no network but for making the environment, where it is not there. Delete build/ to begin anew.
set -euo pipefail
# shellcheck source=scripts/common.sh
source "$(dirname "$0")/common.sh"
cd "$here"
environment "${1:-$here/.venv-docs}" docs
"${1:-$here/.venv-docs}/bin/python" -m sphinx --quiet --fail-on-warning --keep-going -c docs . build/site
echo "The site: $here/build/site/index.html"
