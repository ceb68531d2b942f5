#!/usr/bin/env bash
# One page that compares several models of water with CP2K: `coupled`, `moment` (also with an own part, `mutual`),
# `quadratic` (also the paper's, own losses), and flexible TIP3P. Infers, runs and compares; where CP2K is installed, it
# recomputes forces along the runs.
#
#   bash scripts/side_by_side.sh [FOLDER=runs/side-by-side] [PS=100]
#
# PS is the length of every run. DYNAMICS may be set to a DCD file of the reference with positions every 2 fs, beside its
# CP2K project and longer than the bundled 2.4 ps. About 15 minutes on two cores with 100 ps. A killed job resumes, and a
# longer PS goes on where a shorter one ended.
set -euo pipefail
# shellcheck source=scripts/common.sh
source "$(dirname "$0")/common.sh"
folder=${1:-$here/runs/side-by-side}
time=${2:-100}
environment "$here/.venv" torchforce
duality="$here/.venv/bin/openmm-duality"
data="$here/examples/water64-cnnp"
dynamics=${DYNAMICS:-$data/water64-dense.dcd}
mkdir -p "$folder"

step() { printf '\n== %s\n' "$*"; }

# run NAME INTEGRATOR FRICTION CONFIG, then options of infer
run() {
    local name=$1 integrator=$2 friction=$3 config=$4 answer=0
    shift 4
    step "$name"
    [ -e "$folder/$name.safetensors" ] || "$duality" infer "$config" "$@" -o "$folder/$name.safetensors" --overwrite
    "$duality" simulate "$folder/$name.safetensors" --start "$data" -o "$folder/$name" --time "$time ps" \
        --report "4 fs" --velocities --integrator "$integrator" --friction "$friction/ps" --platform CPU --seed 1 ||
        answer=$?
    [ "$answer" -le 1 ] || exit "$answer" # 1: it stopped itself, which the page tells
}

water="$here/examples/water.yaml"
run coupled nose-hoover 1 "$water" --form coupled
run moment nose-hoover 1 "$water" --form moment
run moment-mutual langevin 1 "$water" --form moment --gradient mutual
run quadratic nose-hoover 1 "$water" --form quadratic
run quadratic-own langevin 10 "$here/examples/water-own-losses.yaml"
step "tip3p"
"$here/.venv/bin/python" "$here/scripts/tip3p_run.py" -o "$folder/tip3p" --start "$data" --time "$time"

step "the page"
report="$folder/report-${time}ps"
options=(-o "$report" --dynamics "$dynamics" --every "2 fs" --band 1500 1800 --band 3000 4000 --overwrite)
! has_cp2k || options+=(--recompute "$here/examples/reference-small.yaml")
answer=0
others=("$folder"/{moment,moment-mutual,quadratic,quadratic-own,tip3p})
"$duality" compare "$folder/coupled" "$data" "${others[@]}" "${options[@]}" || answer=$?
[ "$answer" -le 1 ] || exit "$answer"
printf '\nThe page: %s\n' "$report/report.html"
