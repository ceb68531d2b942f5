#!/usr/bin/env bash
# Liquids of molecules, and ions: CP2K makes the reference, losses are inferred from it, run for 20 ps, and compared.
#
#   bash scripts/liquids.sh [FOLDER=runs/liquids] [SYSTEM …=methanol salt-water methanol-xtb]
#
# methanol: 32 CH3OH by a classical force field; salt-water: 1 mol/l of NaCl by another; methanol-xtb: frames of methanol
# labelled by tight binding. Needs CP2K (installed by apt where that is allowed); half an hour each. A killed job resumes.
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

step() { printf '\n== %s\n' "$*"; }

# data SYSTEM: the data sets of an inference
data() {
    case $1 in
        methanol)
            echo "  - {path: methanol/liquid, name: liquid, every: 16}"
            echo "  - {path: methanol/distorted, weight: 0.2}"
            echo "  - {path: methanol/hot, name: hot, weight: 0.5, gap: 0.1}"
            ;;
        salt-water)
            echo "  - {path: salt-water/solution, name: solution, every: 32}"
            echo "  - {path: salt-water/brine, name: brine, every: 3}"
            echo "  - {path: salt-water/distorted, weight: 0.2, every: 2}"
            echo "  - {path: salt-water/hot, name: hot, weight: 0.5, every: 2, gap: 0.1}"
            ;;
        methanol-xtb)
            echo "  - {path: methanol-xtb/liquid, name: liquid}"
            echo "  - {path: methanol-xtb/distorted, weight: 0.2}"
            echo "  - {path: methanol-xtb/hot, name: hot, weight: 0.5}"
            ;;
    esac
}

# reference CONFIGURATION NAME: carried out in the folder, where a configuration finds the data of others
reference() {
    cp "$here/examples/$1" "$folder/$1"
    (cd "$folder" && "$duality" reference "$1" -o "$2") || {
        [ $? -eq 1 ] && echo "Some of the frames were refused, which matters little." # atoms too close for CP2K
    }
}

for system in "${systems[@]}"; do
    model="$folder/$system.safetensors"
    step "$system, 1/5: the reference (CP2K)"
    [ "$system" = salt-water ] || reference methanol-classical.yaml methanol
    [ "$system" = methanol ] || reference "$system.yaml" "$system"
    configuration="$folder/$system.yaml"
    first=$(data "$system" | sed -n '1s/.*path: \([^,]*\),.*/\1/p') # the liquid
    "$duality" inspect "$folder/$first"
    step "$system, 2/5: the losses, in closed form"
    { printf 'form: channels\ncutoff: 6 angstrom\ndata:\n'; data "$system"; } > "$folder/$system-infer.yaml"
    [ -e "$model" ] || "$duality" infer "$folder/$system-infer.yaml" -o "$model" --json "$folder/$system-infer.json" --overwrite
    step "$system, 3/5: their errors on the last 20 %, which inference has not seen"
    "$duality" evaluate "$model" "$folder/$first" --held-out --json "$folder/$system-evaluate.json" --overwrite
    step "$system, 4/5: learning dynamics, 20 ps at 300 K, and 10 ps at constant energy"
    options=(--start "$folder/$first" --platform CPU --temperature 300)
    "$duality" simulate "$model" "${options[@]}" --time "20 ps" --friction 1/ps --report "10 fs" --seed 1 -o "$folder/$system-run"
    "$duality" simulate "$model" "${options[@]}" --time "10 ps" --integrator verlet --seed 2 -o "$folder/$system-nve"
    step "$system, 5/5: the comparison with CP2K"
    answer=0
    "$duality" compare "$folder/$system-run" "$folder/$first" -o "$folder/$system-report" --overwrite || answer=$?
    [ "$answer" -le 1 ] || exit "$answer"
    printf '\nThe report: %s\n' "$folder/$system-report/report.html"
done
