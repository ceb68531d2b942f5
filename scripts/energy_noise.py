"""Noise of the energy in single precision, as the acceptance test of a Monte Carlo barostat has it.

python scripts/energy_noise.py MODEL [--backend fused] [--copies 8] [--moves 12]

A frame of `water64-cnnp` is repeated, its atoms are displaced by 2 pm, and the box is scaled at random, by 0.03 % of
its edges. The error E(single) − E(double) has a part that is linear in the volume: rounded coefficients are those of
another potential, and the part acts as a pressure, which is printed. What is left of it is noise: that of a difference
of two energies is √2 times its standard deviation.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

import openmm_duality as duality
from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.geometry.cells import supercell
from openmm_duality.losses import AgentLosses
from openmm_duality.lowering.fused.losses import FusedLosses
from openmm_duality.units import MEGAPASCAL

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
Energy = Callable[[FloatArray, FloatArray], float]
KT = 8.314462618e-3 * 300.0  # kJ/mol


def fused_energy(losses: AgentLosses, species: Sequence[str], precision: str) -> Energy:
    """The sum of losses of positions and a box, by the fused kernel."""
    compute = FusedLosses(losses, species, precision)
    return lambda positions, cell: compute(positions, cell)[0]


def torchscript_energy(losses: AgentLosses, species: Sequence[str], precision: str) -> Energy:
    """The same by the TorchScript module."""
    import torch

    from openmm_duality.lowering.torchscript import compile_losses

    module = compile_losses(losses, species, precision)
    return lambda positions, cell: float(module(torch.tensor(positions), torch.tensor(cell))[0])


def main() -> None:
    """Print the noise."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--backend", choices=("fused", "torchscript"), default="fused")
    parser.add_argument("--copies", type=int, default=8, help="of 64 H2O along every axis")
    parser.add_argument("--moves", type=int, default=12)
    options = parser.parse_args()
    losses, frames = AgentLosses.load(options.model), duality.read(EXAMPLES / "water64-cnnp")
    positions, species, cell = supercell(frames.positions[500], frames.species, frames.cell(500), 3 * (options.copies,))
    rng = np.random.default_rng(0)
    positions = positions + rng.normal(scale=0.002, size=positions.shape)
    energy_of = fused_energy if options.backend == "fused" else torchscript_energy
    single, double = (energy_of(losses, species, precision) for precision in ("single", "double"))
    scales = 1.0 + 3e-4 * rng.normal(size=options.moves)
    errors = np.array([single(k * positions, k * cell) - double(k * positions, k * cell) for k in scales])
    volumes = np.linalg.det(cell) * scales**3
    changes = volumes - volumes.mean()
    slope = np.polyfit(changes, errors, 1)[0]
    left = errors - errors.mean() - slope * changes
    noise = np.sqrt(2.0 * np.sum(left**2) / (options.moves - 2)) / KT
    print(f"{len(species)} atoms: energy differences have a noise of {noise:.4f} kT (standard deviation);")
    print(f"rounded coefficients act as a pressure of {-slope / MEGAPASCAL:.3f} MPa")


if __name__ == "__main__":
    main()
