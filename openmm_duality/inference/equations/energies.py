"""Energies in a fit: one design row per frame, and a constant for every composition.

The zero of an energy is arbitrary, and the losses have no constants (the gauge), so the energies of each composition
have a column of their own that no regulariser touches.

Index suffixes: i agent, s neighbour slot, n radial function, a = (B, n) moment, p invariant.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from openmm_duality.errors import DualityError
from openmm_duality.geometry.arrays import FloatArray, IntArray
from openmm_duality.inference.equations.design import Design, quadratic_columns
from openmm_duality.inference.equations.targets import DataSet
from openmm_duality.invariants.contractions import invariants
from openmm_duality.invariants.moments import flat, moments_by_rank
from openmm_duality.invariants.neighbours import find_neighbours
from openmm_duality.invariants.radial import RadialBasis
from openmm_duality.units import MEV, MEV_PER_ANGSTROM

# an error of 1 meV per atom counts as one of 100 meV/Å in the forces, at weight one
_SCALE = 100.0 * MEV_PER_ANGSTROM / MEV


def composition(species: Sequence[str]) -> str:
    """Such as ``H128 O64``."""
    return " ".join(f"{kind}{number}" for kind, number in sorted(Counter(species).items()))


def energy_zeros(sets: Sequence[DataSet]) -> dict[str, float]:
    """The first energy (kJ/mol) of every composition whose frames have energies, which the targets are taken from.

    Raises
    ------
    DualityError
        If no set has energies beside its forces.
    """
    zeros: dict[str, float] = {}
    for s in sets:
        if s.frames.energies is not None and s.frames.forces is not None:
            zeros.setdefault(composition(s.frames.species), float(s.frames.energies[0]))
    if not zeros:
        raise DualityError(
            "energy_weight asks for energies in the fit, and no data set has energies beside forces; leave it at 0, or "
            "add the energies (CP2K's .ener file)"
        )
    return zeros


def energy_constants(zeros: Mapping[str, float], solutions: Sequence[FloatArray]) -> dict[str, float]:
    """The constant of every composition in kJ/mol, from the last columns of the solution."""
    constants = solutions[0][len(solutions[0]) - len(zeros) :]
    return {name: zero + float(c) for (name, zero), c in zip(zeros.items(), constants, strict=True)}


def energy_weight(relative: float, force_weights: FloatArray) -> float:
    """Weight of the squared energy error of a frame, in (mol/kJ)² beside force errors in units of mol nm/kJ.

    Parameters
    ----------
    relative : float
        `Settings.energy_weight`.
    force_weights : array, shape (N,)
        Of the squared force errors of the agents; where large forces count less, so does the energy.
    """
    return float(relative * 3.0 * force_weights.sum() * (_SCALE / len(force_weights)) ** 2)


def energy_row(
    design: Design, positions: FloatArray, cell: FloatArray | None, species_index: IntArray, constant: int
) -> FloatArray:
    """The sum of all losses per unit coefficient, shape (P,), for the one problem of `collective`.

    Parameters
    ----------
    design : Design
    positions : array, shape (N, 3)
        In nm.
    cell : array, shape (3, 3), or None
        In nm.
    species_index : array of int, shape (N,)
        Species index of every atom.
    constant : int
        Which of the constants the composition has.
    """
    layout = design.layout
    (problem,) = layout.problems
    tables = find_neighbours(positions, cell, species_index, layout.n_species, design.pair_basis.grid.cutoff)
    sums = np.stack(
        [design.pair_basis.evaluate(t.distances, species_index, b)[0].sum(axis=1) for b, t in enumerate(tables)], axis=1
    )
    columns = []
    for a, b in layout.pairs(problem):
        one = sums[species_index == a, b].sum(axis=0)
        columns.append(one if a == b else one + sums[species_index == b, a].sum(axis=0))

    def found(basis: RadialBasis, ranks: tuple[int, ...]) -> dict[int, FloatArray]:
        values = [basis.evaluate(t.distances, species_index, b)[0] for b, t in enumerate(tables)] if ranks else []
        return moments_by_rank(ranks, tables, values)

    fine = found(design.basis, layout.form.ranks)
    coarse = found(design.coarse, layout.form.all_ranks if layout.form.coupled else ())
    for a in problem:
        of_a = species_index == a
        for m in fine.values():
            here = flat(m[of_a]).transpose(1, 0, 2).reshape(layout.n_species * layout.n, -1)
            columns.append(quadratic_columns(0.5 * here @ here.T, layout.triangle))
        if layout.form.coupled:
            phi = invariants({rank: flat(m[of_a]) for rank, m in coarse.items()}, layout.form.coupled)
            columns.append(quadratic_columns(0.5 * phi.T @ phi, layout.coupled_triangle))
    columns.append(np.eye(layout.n_constants)[constant])
    return np.concatenate(columns)
