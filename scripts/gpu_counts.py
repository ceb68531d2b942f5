"""Operations of a step of the TorchScript back end, and how often the processor waits for a GPU, counted on the CPU.

python scripts/gpu_counts.py MODEL [--copies 1,2,4]

The boxes are copies of 64 H2O along every axis. Atoms are taken together as on a GPU. An operation is a launch of one
kernel or a few; one that needs a number from the GPU, or whose result has a size that is not known beforehand, waits
for all that was begun. The box and a flag for positions that are no numbers are one more message in each step. Where
the CPU counts (`bincount`), a GPU does not wait.
"""

from __future__ import annotations

import argparse
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

import openmm_duality as duality
from openmm_duality.geometry.cells import supercell
from openmm_duality.losses import AgentLosses
from openmm_duality.lowering import torch_neighbours, torchscript

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
WAITING = ("aten::_local_scalar_dense", "aten::nonzero", "aten::bincount", "aten::repeat_interleave")
VIEWS = ("slice", "select", "expand", "view", "t", "transpose", "permute", "unsqueeze", "squeeze", "unbind", "alias",
         "detach", "diagonal", "_unsafe_view", "split")  # fmt: skip


class Counting(TorchDispatchMode):
    """Counts the operations of torch that compute."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = Counter[str]()

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        name = function._schema.name
        known = name == "aten::repeat_interleave" and (options or {}).get("output_size") is not None
        on_cpu = name == "aten::_local_scalar_dense" and arguments[0].numel() == 1 and arguments[0].dim() == 0
        if not known and name.removeprefix("aten::") not in VIEWS:
            self.calls["number" if on_cpu else name] += 1
        return function(*arguments, **(options or {}))


def main() -> None:
    """Print a line for every size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--copies", default="1,2,4")
    given = parser.parse_args()
    losses, frames = AgentLosses.load(given.model), duality.read(EXAMPLES / "water64-cnnp")
    chunk = (torch_neighbours.CHUNK_ON_DEVICE,) * 2
    torchscript.find_pairs = partial(torch_neighbours.find_pairs, chunks=chunk)  # as it is called on a GPU
    for copies in map(int, given.copies.split(",")):
        positions, species, cell = supercell(frames.positions[500], frames.species, frames.cell(500), 3 * (copies,))
        module = torchscript.LossesModule(losses, species, "single")
        module.chunks = (torchscript.CHUNK_ON_DEVICE,) * 2
        counting = Counting()
        with torch.no_grad(), counting:
            module(torch.tensor(positions), torch.tensor(cell))
        sizes = {name.removeprefix("aten::"): counting.calls[name] for name in WAITING if counting.calls[name]}
        print(
            f"{len(species)} atoms: {counting.calls.total()} operations; waits for sizes: {sizes or 'none'}; ", end=""
        )
        print(f"numbers read, those of the box on the CPU among them: {counting.calls['number']}", flush=True)


if __name__ == "__main__":
    main()
