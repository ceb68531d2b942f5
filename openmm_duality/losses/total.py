"""Energy, forces and virial of losses and their baseline together, as a System has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import openmm as mm

from openmm_duality.errors import DualityError
from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.losses.baseline import Baseline
from openmm_duality.losses.evaluator import evaluate_agents
from openmm_duality.losses.model import AgentLosses


def with_baseline(losses: AgentLosses, baseline: Baseline | mm.System | str | Path) -> AgentLosses:
    """The losses beside the System of their baseline for other atoms.

    Raises
    ------
    DualityError
        If they were inferred without a baseline, or beside charges, which are for any atoms.
    """
    if losses.baseline is None:
        raise DualityError(
            "these losses were inferred without a baseline, so none may act beside them; add forces of your own to the "
            "System instead"
        )
    given = Baseline.of(baseline)
    if losses.baseline.charges and given != losses.baseline:
        raise DualityError(f"these losses were inferred beside the charges {losses.baseline.text}, so no others act")
    return replace(losses, baseline=given)


def baseline_of_atoms(
    losses: AgentLosses, species: Sequence[str], cell: FloatArray | None, remedy: str = ""
) -> Baseline:
    """The baseline of losses that have one, for atoms with the masses that the losses give them; as `for_atoms`."""
    assert losses.baseline is not None
    return losses.baseline.for_atoms(species, losses.masses[losses.index_of(species)], cell, remedy)


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
    beside = baseline_of_atoms(losses, species, cell)
    energy, forces = beside.evaluate(positions, cell)
    if virial is not None and cell is not None:
        virial = virial + beside.virial(positions, cell)
    return found.energy + energy, found.forces + forces, virial
