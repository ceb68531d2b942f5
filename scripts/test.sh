#!/usr/bin/env bash
# The tests: all of them with the dependencies `torchforce`, and those of what uses OpenMM with `pythonforce`.
#
#   bash scripts/test.sh [pytest arguments]
#
# Makes the two virtual environments, and installs CP2K and PoCL (OpenCL on the CPU) by apt where it may.
set -euo pipefail
# shellcheck source=scripts/common.sh
source "$(dirname "$0")/common.sh"
cd "$here"
programs cp2k cp2k-data openmpi-bin pocl-opencl-icd ocl-icd-libopencl1 xz-utils
environment "$here/.venv-torchforce" torchforce,test,docs
environment "$here/.venv-pythonforce" pythonforce,openmm-ml,test & # while the first one is at work
other=$!

echo "== ruff and mypy"
.venv-torchforce/bin/ruff check .
.venv-torchforce/bin/ruff format --check .
.venv-torchforce/bin/mypy

echo "== the site"
bash scripts/docs.sh .venv-torchforce
wait "$other"

export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
parallel=(-n auto --dist worksteal) # as many processes as cores; who is done takes from who is not
echo "== tests with the dependencies torchforce"
.venv-torchforce/bin/python -m pytest "${parallel[@]}" --durations=8 "$@"
echo "== tests with the dependencies pythonforce"
[ $# -gt 0 ] || set -- tests/lowering/test_{backends,devices,fused_backends,load_system,particles}.py \
    tests/dynamics/test_{barostats,integrators,mixed_systems,systems}.py tests/integrations/test_openmm_ml.py \
    tests/test_readme.py # what the two sets do not share
.venv-pythonforce/bin/python -m pytest "${parallel[@]}" --durations=8 "$@"
