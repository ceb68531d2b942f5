"""Energy, forces and virial of losses and their baseline together, as a System has them."""

from __future__ import annotations

from collections.abc import Sequence

from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.losses.evaluator import evaluate_agents
from openmm_duality.losses.model import AgentLosses


def evaluate_total(
    losses: AgentLosses,
    positions: FloatArray,
    species: Sequence[str],
    cell: FloatArray | None = None,
    with_virial: bool = False,
) -> tuple[float, FloatArray, FloatArray | None]:
    """Energy in kJ/mol, forces (N, 3) in kJ/mol/nm and virial of the losses and, where there is one, of their baseline.

    The virial W = −∂E/∂ε in kJ/mol, shape (3, 3), is None unless it is wanted, or where losses have no potential or
    there is no cell. Parameters and errors are those of `evaluate_agents`, `Baseline.evaluate` and `Baseline.virial`.
    """
    found = evaluate_agents(losses, positions, species, cell)
    virial = found.virial if with_virial else None
    if losses.baseline is None:
        return found.energy, found.forces, virial
    energy, forces = losses.baseline.evaluate(positions, cell)
    if virial is not None and cell is not None:
        virial = virial + losses.baseline.virial(positions, cell)
    return found.energy + energy, found.forces + forces, virial
