#!/usr/bin/env bash
# The numbers of docs/benchmarks.md: every form, back end and platform from 32 to 32,768 H2O, TIP3P, CP2K's network and
# CP2K's density functional theory, in one run; then docs/error-vs-cost.png.
#
#   bash scripts/benchmark.sh [FOLDER=runs/benchmark]
#
# About an hour and a half on two cores that have nothing else to do. SIZES may be set. Models that are in FOLDER already
# are used.
set -euo pipefail
# shellcheck source=scripts/common.sh
source "$(dirname "$0")/common.sh"
folder=${1:-$here/runs/benchmark}
programs cp2k cp2k-data openmpi-bin pocl-opencl-icd ocl-icd-libopencl1
environment "$here/.venv" torchforce
duality="$here/.venv/bin/openmm-duality"
mkdir -p "$folder"

models=()
model() { # NAME, then options of infer
    local file="$folder/$1.safetensors"
    shift
    [ -e "$file" ] || "$duality" infer "$here/examples/water.yaml" -o "$file" "$@"
    models+=("$file")
}
model quadratic --form quadratic
model moment --form moment
model coupled --form coupled
model channels --form channels
error_models=("${models[@]}")
# 32 H2O are 9.87 Å wide, so only a shorter cutoff fits them
model moment-4.9 --form moment --cutoff "4.9 angstrom"

"$duality" benchmark "${models[@]}" --sizes "${SIZES:-32,64,512,4096,32768}" --dft \
    --json "$folder/benchmark.json" -o "$folder/figures" --overwrite | tee "$folder/benchmark.txt"
"$here/.venv/bin/python" "$here/scripts/error_vs_cost.py" "${error_models[@]}"
