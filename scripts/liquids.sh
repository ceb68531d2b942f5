#!/usr/bin/env bash
# Liquids of molecules, and ions: CP2K makes the reference, losses are inferred from it, run for 20 ps, and compared.
#
#   bash scripts/liquids.sh [FOLDER=runs/liquids] [SYSTEM …=methanol salt-water methanol-xtb]
#
# methanol: 32 CH3OH by a classical force field; salt-water: 1 mol/l of NaCl by another; methanol-xtb: frames of methanol
# labelled by tight binding. docs/any-system.md says what came of them. Needs CP2K (installed by apt where that is
# allowed); half an hour each. A killed job resumes.
set -euo pipefail
# shellcheck source=scripts/common.sh
source "$(dirname "$0")/common.sh"
folder=${1:-$here/runs/liquids}
[ $# -gt 0 ] && shift
systems=("$@")
[ ${#systems[@]} -gt 0 ] || systems=(methanol salt-water methanol-xtb)
programs cp2k cp2k-data
environment "$here/.venv" torchforce
duality="$here/.venv/bin/openmm-duality"
mkdir -p "$folder"

# stopped CODE: goes on where a run stopped itself (exit code 1), so that its report says so
stopped() { [ "$1" -eq 1 ] || exit "$1"; }
step() { printf '\n== %s\n' "$*"; }

# data SYSTEM: the data sets of an inference
data() {
    case $1 in
        methanol)
            echo "  - {path: methanol/liquid, name: liquid, every: 6}"
            echo "  - {path: methanol/distorted, weight: 0.2, max_force: 15 eV/angstrom}"
            echo "  - {path: methanol/hot, name: hot, weight: 0.5, gap: 0.1}"
            ;;
        salt-water)
            echo "  - {path: salt-water/solution, name: solution, every: 48}"
            echo "  - {path: salt-water/brine, name: brine, every: 4}"
            echo "  - {path: salt-water/distorted, weight: 0.2, max_force: 15 eV/angstrom, every: 3}"
            echo "  - {path: salt-water/hot, name: hot, weight: 0.5, gap: 0.1, every: 3}"
            ;;
        methanol-xtb)
            echo "  - {path: methanol-xtb/liquid, name: liquid}"
            echo "  - {path: methanol-xtb/distorted, weight: 0.2, max_force: 15 eV/angstrom}"
            echo "  - {path: methanol-xtb/close, weight: 0.2, max_force: 15 eV/angstrom}"
            echo "  - {path: methanol-xtb/hot, name: hot, weight: 0.5}"
            ;;
    esac
}

for system in "${systems[@]}"; do
    place="$folder/$system"
    model="$place.safetensors"
    configuration="$here/examples/$system.yaml"
    case $system in
        methanol)
            liquid=$place/liquid compared=$place/liquid options=() configuration="$here/examples/methanol-classical.yaml"
            ;;
        salt-water) liquid=$place/solution compared=$place/solution options=() ;;
        methanol-xtb) liquid=$place/liquid compared=$place/dynamics options=(--supercell 2 2 2) ;; # of 8 CH3OH
        *) echo "$system: expected methanol, salt-water or methanol-xtb" && exit 2 ;;
    esac
    step "$system, 1/5: the reference (CP2K)"
    "$duality" reference "$configuration" -o "$place" || {
        [ $? -eq 1 ] && echo "Some frames were refused: atoms were too close for CP2K."
    }
    "$duality" inspect "$liquid"
    step "$system, 2/5: the losses, in closed form"
    { printf 'form: channels\nsize: small\ncutoff: 6 angstrom\ndata:\n'; data "$system"; } > "$place-infer.yaml"
    [ -e "$model" ] || "$duality" infer "$place-infer.yaml" -o "$model" --json "$place-infer.json" --overwrite \
        || stopped $?
    step "$system, 3/5: their errors on the last 20 %, which inference has not seen"
    "$duality" evaluate "$model" "$liquid" --held-out --json "$place-evaluate.json" --overwrite
    step "$system, 4/5: learning dynamics, 20 ps at 300 K, and 10 ps at constant energy"
    options+=(--start "$liquid" --platform CPU --temperature 300)
    "$duality" simulate "$model" "${options[@]}" --time "20 ps" --friction 1/ps --seed 1 -o "$place-run" || stopped $?
    "$duality" simulate "$model" "${options[@]}" --time "10 ps" --integrator verlet --seed 2 -o "$place-nve" || stopped $?
    step "$system, 5/5: the comparison with CP2K"
    answer=0
    "$duality" compare "$place-run" "$compared" -o "$place-report" --overwrite || answer=$?
    [ "$answer" -le 1 ] || exit "$answer"
    printf '\nThe report: %s\n' "$place-report/report.html"
done
