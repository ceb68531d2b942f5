#!/usr/bin/env bash
# Forces and cost of a step on a GPU machine that reaches no registry: what is missing there is carried as wheels.
#
#   bash scripts/gpu.sh pack WHEELS [PYTHON=3.12]   # where there is a registry; PYTHON is the version over there
#   bash scripts/gpu.sh run WHEELS FOLDER MODEL…    # over there: forces.json, benchmark.json and figures in FOLDER
#
# 31 MB for OpenMM with its CUDA platform, mdtraj, ase and vesin. The machine needs a Python that has torch built for
# CUDA 13, numpy, scipy, click, jinja2, matplotlib, pyyaml, safetensors and tqdm; $PYTHON names it, python3 by default.
# openmm-torch cannot be carried (its wheels need another torch), so losses run through PythonForce, unless it was built
# over there. SIZES and PLATFORM may be set.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
usage() { sed -n '2,5s/^# \{0,1\}//p' "$0" >&2; exit 2; }
[ $# -ge 2 ] || usage
verb=$1 wheels=$2
shift 2

pack() {
    local version=${1:-3.12} platforms=()
    for glibc in 34 31 28 27 24 17; do platforms+=(--platform "manylinux_2_${glibc}_x86_64"); done
    "${PYTHON:-python3}" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
        --implementation cp --python-version "$version" "${platforms[@]}" --dest "$wheels" \
        "openmm>=8.6.1,<8.7" "OpenMM-CUDA-13>=8.6.1,<8.7" mdtraj ase vesin
    du -ch "$wheels"/*.whl
}

run() {
    [ $# -ge 2 ] || usage
    local folder=$1 python=${PYTHON:-python3} platform=${PLATFORM:-CUDA} site
    shift
    site=$(mktemp -d)
    # shellcheck disable=SC2064  # the folder of now is meant
    trap "rm -rf '$site'" EXIT
    "$python" -m pip install --quiet --disable-pip-version-check --no-index --no-deps --no-compile --target "$site" \
        "$wheels"/*.whl
    # OpenMM's CUDA plug-in looks for the libraries of CUDA in a folder beside its own; torch brought them
    local nvidia
    nvidia=$("$python" -c 'from importlib.util import find_spec as f; print(*f("nvidia").submodule_search_locations if f("nvidia") else "")')
    [ -z "$nvidia" ] || ln -s "$nvidia" "$site/nvidia"
    export PYTHONPATH="$site:$here"
    mkdir -p "$folder"
    "$python" "$here/scripts/platform_forces.py" "$@" --platform "$platform" -o "$folder/forces.json"
    "$python" -m openmm_duality.cli benchmark "$@" --platform "$platform" --sizes "${SIZES:-64,512,4096,32768}" \
        --json "$folder/benchmark.json" --overwrite -o "$folder"
}

case $verb in
    pack) pack "$@" ;;
    run) run "$@" ;;
    *) usage ;;
esac
