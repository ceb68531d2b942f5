#!/usr/bin/env bash
# The main job: from a CP2K run of water to learning dynamics in OpenMM, and back to the comparison.
#
#   bash scripts/water.sh [FOLDER=runs/water]
#
# Makes a virtual environment on the first call. About two minutes on two cores after that; a killed job resumes.
# Where CP2K is installed, it recomputes the forces of some frames of the run.
set -euo pipefail
# shellcheck source=scripts/common.sh
source "$(dirname "$0")/common.sh"
folder=${1:-$here/runs/water}
environment "$here/.venv" torchforce
duality="$here/.venv/bin/openmm-duality"
data="$here/examples/water64-cnnp"
model="$folder/water.safetensors"

step() { printf '\n== %s\n' "$*"; }

step "1/5 the reference: CP2K, 64 H2O"
"$duality" inspect "$data"
step "2/5 the losses of oxygen and hydrogen, in closed form"
[ -e "$model" ] || "$duality" infer "$here/examples/water.yaml" -o "$model" --json "$folder/infer.json" --overwrite
step "3/5 their errors on the last 20 % of the reference, which inference has not seen"
"$duality" evaluate "$model" "$data" --held-out --json "$folder/evaluate.json" --overwrite
step "4/5 learning dynamics of 64 H2O: 20 ps at 300 K on the CPU platform, in a weak heat bath"
"$duality" simulate "$model" --start "$data" --time "20 ps" --temperature 300 --friction 1/ps --report "4 fs" --velocities \
    --platform CPU --seed 1 -o "$folder/run"
step "5/5 the comparison with CP2K"
options=(--dynamics "$data/water64-dense.dcd" --band 1500 1800 --band 3000 4000) # its last 2.4 ps, every 2 fs
! has_cp2k || options+=(--recompute "$here/examples/reference-small.yaml")
answer=0
"$duality" compare "$folder/run" "$data" "${options[@]}" -o "$folder/report" --overwrite || answer=$?
[ "$answer" -le 1 ] || exit "$answer"
printf '\nThe trajectory (DCD): %s\nThe report:           %s\n' "$folder/run/trajectory.dcd" "$folder/report/report.html"
[ "$answer" -eq 0 ] || echo "The run differs from CP2K by more than the errors allow: the report says where."
