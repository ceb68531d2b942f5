#!/usr/bin/env bash
# A short CP2K run of water that keeps every step: 64 H2O, committee network, NVE, 0.5 fs, positions and forces.
# The data for inference from accelerations; about 0.13 s per step on one core.
#
#   bash scripts/cp2k_every_step.sh [FOLDER=runs/water64-every-step] [STEPS=2000]
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
folder=${1:-$here/runs/water64-every-step}
steps=${2:-2000}
command -v cp2k.psmp >/dev/null || { echo "cp2k.psmp is not installed; on Debian: apt-get install cp2k cp2k-data" >&2; exit 2; }
[ ! -e "$folder" ] || { echo "$folder exists; remove it or name another folder" >&2; exit 2; }
mkdir -p "$folder"
# the last frame of the bundled reference run, in the format CP2K starts from
xzcat "$here/examples/water64-cnnp/water64-pos-1.xyz.xz" | tail -n 194 > "$folder/start.xyz"
sed -e 's/PROJECT .*/PROJECT water64/' \
    -e 's/COORD_FILE_NAME .*/COORD_FILE_NAME start.xyz/' \
    -e 's/ENSEMBLE NVT/ENSEMBLE NVE/' \
    -e "s/STEPS .*/STEPS $steps/" \
    -e '/&THERMOSTAT/,/&END THERMOSTAT/d' \
    -e '/&TRAJECTORY/,/&END FORCES$/s/MD [0-9]*/MD 1/' \
    "$here/examples/water64-cnnp/water64.inp" > "$folder/water64.inp"
cd "$folder"
OMP_NUM_THREADS=${OMP_NUM_THREADS:-2} cp2k.psmp -i water64.inp -o water64.out
rm -f water64-NNP-*.xyz water64-nnp-*.data
xz -T2 water64-pos-1.xyz water64-frc-1.xyz water64-1.ener
ls -l "$folder"
