"""Energy, forces and virial of losses and their baseline together, as a System has them."""

from __future__ import annotations

from collections.abc import Sequence

from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.losses.evaluator import evaluate_agents
from openmm_duality.losses.model import AgentLosses


def total_forces(
    losses: AgentLosses, positions: FloatArray, species: Sequence[str], cell: FloatArray | None = None
) -> tuple[float, FloatArray]:
    """Energy in kJ/mol and forces (N, 3) in kJ/mol/nm of the losses and, where there is one, of their baseline.

    Parameters and errors are those of `evaluate_agents` and of `Baseline.evaluate`.
    """
    found = evaluate_agents(losses, positions, species, cell)
    if losses.baseline is None:
        return found.energy, found.forces
    energy, forces = losses.baseline.evaluate(positions, cell)
    return found.energy + energy, found.forces + forces


def total_virial(losses: AgentLosses, positions: FloatArray, species: Sequence[str], cell: FloatArray) -> FloatArray:
    """The virial W = −∂E/∂ε in kJ/mol, shape (3, 3), of losses with a potential and their baseline.

    Parameters and errors are those of `evaluate_agents` and of `Baseline.virial`.
    """
    found = evaluate_agents(losses, positions, species, cell).virial
    assert found is not None
    return found if losses.baseline is None else found + losses.baseline.virial(positions, cell)
