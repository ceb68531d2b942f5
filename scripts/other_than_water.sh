#!/usr/bin/env bash
# The whole workflow for something other than water: liquid carbon dioxide. CP2K makes the reference (classical),
# losses of carbon and oxygen are inferred from it, run, and compared with it.
#
#   bash scripts/other_than_water.sh [FOLDER=runs/carbon-dioxide]
#
# Needs CP2K (installed by apt where that is allowed). A killed job resumes.
set -euo pipefail
# shellcheck source=scripts/common.sh
source "$(dirname "$0")/common.sh"
folder=${1:-$here/runs/carbon-dioxide}
programs cp2k cp2k-data
environment "$here/.venv" torchforce
duality="$here/.venv/bin/openmm-duality"
model="$folder/carbon-dioxide.safetensors"
mkdir -p "$folder"

step() { printf '\n== %s\n' "$*"; }

step "1/5 the reference: CP2K, 64 CO2, liquid, hot and distorted"
"$duality" reference "$here/examples/reference-carbon-dioxide.yaml" -o "$folder/reference"
"$duality" inspect "$folder/reference/liquid"
step "2/5 the losses of carbon and oxygen, in closed form, and five short runs"
cat > "$folder/infer.yaml" <<'YAML'
form: coupled
gradient: collective
cutoff: 7 angstrom # the smallest cell is 15.3 angstrom wide
data:
  - {path: reference/liquid, name: liquid, every: 8}
  - {path: reference/distorted, weight: 0.2}
  - {path: reference/hot, name: hot, weight: 0.5, gap: 0.1}
YAML
[ -e "$model" ] || "$duality" infer "$folder/infer.yaml" --check -o "$model" --json "$folder/infer.json" --overwrite || {
    [ $? -eq 1 ] && echo "One of the short runs failed: see above."
}
step "3/5 their errors on the last 20 % of the liquid, which inference has not seen"
"$duality" evaluate "$model" "$folder/reference/liquid" --held-out --json "$folder/evaluate.json" --overwrite
step "4/5 learning dynamics of 64 CO2: 15 ps at 230 K"
"$duality" simulate "$model" --start "$folder/reference/liquid" --time "15 ps" --temperature 230 --platform CPU --seed 1 \
    -o "$folder/run"
step "5/5 the comparison with CP2K"
answer=0
"$duality" compare "$folder/run" "$folder/reference/liquid" -o "$folder/report" --overwrite || answer=$?
[ "$answer" -le 1 ] || exit "$answer"
printf '\nThe report: %s\n' "$folder/report/report.html"
