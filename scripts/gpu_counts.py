"""Operations of a step of the TorchScript back end, and how often the processor waits for a GPU, counted without one.

python scripts/gpu_counts.py MODEL [--copies 1,2,4]

The boxes are copies of 64 H2O along every axis, on an emulated GPU (`tests/lowering/emulated_gpu.py`). An operation is
a launch of one kernel or a few. The processor waits for a copy to the GPU or from it, and for a number or the size of a
result. Positions are on the GPU, as openmm-torch gives them on CUDA, or on the CPU, as in PythonForce.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

import openmm_duality as duality
from openmm_duality.geometry.cells import supercell
from openmm_duality.losses import AgentLosses
from openmm_duality.lowering.torchscript import LossesModule

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Print two lines for every size."""
    sys.path.insert(0, str(ROOT))
    from tests.lowering.emulated_gpu import OnGPU, emulated_gpu, to_gpu

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--copies", default="1,2,4")
    given = parser.parse_args()
    losses, frames = AgentLosses.load(given.model), duality.read(ROOT / "examples" / "water64-cnnp")
    for copies in map(int, given.copies.split(",")):
        positions, species, cell = supercell(frames.positions[500], frames.species, frames.cell(500), 3 * (copies,))
        module = to_gpu(LossesModule(losses, species, "single"))
        for where in ("GPU", "CPU"):
            arguments = [torch.tensor(positions), torch.tensor(cell)]
            with emulated_gpu() as gpu:
                module(*(map(OnGPU, arguments) if where == "GPU" else arguments))
            waits = ", ".join(f"{count} {name}" for name, count in gpu.waits.items())
            counts = f"{gpu.operations} operations, {gpu.waits.total()} waits ({waits})"
            print(f"{len(species)} atoms, positions on the {where}: {counts}", flush=True)


if __name__ == "__main__":
    main()
