"""The evaluator: moments M, the polynomial H(M), its adjoint G = ∂H/∂M, forces from G over the same pairs.

The NumPy home of the computation, in double precision; the lowerings are held against it.

Index suffixes: i agent, s neighbour slot, a = (B, n) moment, m component of a rank, x Cartesian.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from openmm_duality.invariants.moments import derivative_factors, harmonics, moments
from openmm_duality.invariants.neighbours import NeighbourTable, find_neighbours
from openmm_duality.losses.model import AgentLosses, FloatArray, IntArray


@dataclass(frozen=True)
class Evaluation:
    """What the losses say of one configuration.

    Parameters
    ----------
    losses : array, shape (N,)
        H_A(φ^i) of every agent in kJ/mol.
    forces : array, shape (N, 3)
        In kJ/mol/nm, by the gradient of the model.
    """

    losses: FloatArray
    forces: FloatArray

    @property
    def energy(self) -> float:
        """The sum of the losses in kJ/mol: a potential under `collective`, information under `agent`."""
        return float(self.losses.sum())


def evaluate_agents(
    losses: AgentLosses, positions: FloatArray, species: Sequence[str], cell: FloatArray | None = None
) -> Evaluation:
    """Losses and forces of one configuration.

    Parameters
    ----------
    losses : AgentLosses
    positions : array, shape (N, 3)
        In nm.
    species : sequence of str, length N
    cell : array, shape (3, 3), or None
        Rows are the cell vectors in nm.

    Raises
    ------
    DualityError
        If a species is unknown or the cutoff too long for the cell.
    """
    kinds = losses.index_of(species)
    tables = find_neighbours(positions, cell, kinds, len(losses.species), losses.cutoff)
    radial = [losses.basis.evaluate(table.distances, kinds, b) for b, table in enumerate(tables)]
    own, adjoints = _contractions(losses, kinds, tables, radial)
    forces = np.zeros_like(positions)
    for b, table in enumerate(tables):
        u = table.directions
        value, slope = losses.pair_potentials.evaluate(table.distances, kinds, b)
        own += value[..., 0].sum(axis=1)
        gradient = slope * u  # ∂H_i/∂(q_j − q_i)
        for rank, adjoint in adjoints.items():
            gradient += _pair_gradient(rank, adjoint[:, b], table, u, radial[b])
        forces += gradient.sum(axis=1)
        if losses.gradient == "collective":
            np.subtract.at(forces, table.indices, gradient)
    return Evaluation(own, forces)


def _contractions(
    losses: AgentLosses, kinds: IntArray, tables: list[NeighbourTable], radial: list[tuple[FloatArray, FloatArray]]
) -> tuple[FloatArray, dict[int, FloatArray]]:
    """½ Σ_l M^l W^l M^l of every agent, and the adjoints G^l = W^l M^l as arrays of shape (N, S, n, 2l + 1)."""
    n_atoms, n_species, n = len(kinds), len(losses.species), losses.basis.size
    own = np.zeros(n_atoms)
    adjoints = {}
    for rank in losses.form.ranks:
        m = np.concatenate(
            [moments(f, harmonics(rank, t.directions)[0]) for t, (f, _) in zip(tables, radial, strict=True)], axis=1
        )
        g = np.empty_like(m)
        for a in range(n_species):
            g[kinds == a] = losses.weights[rank][a] @ m[kinds == a]
        own += 0.5 * np.einsum("iam,iam->i", m, g)
        adjoints[rank] = g.reshape(n_atoms, n_species, n, 2 * rank + 1)
    return own, adjoints


def _pair_gradient(
    rank: int, adjoint: FloatArray, table: NeighbourTable, u: FloatArray, radial: tuple[FloatArray, FloatArray]
) -> FloatArray:
    """Σ_nm G_nm ∂(f_n Y_m)/∂(q_j − q_i), shape (N, J, 3)."""
    g, h = derivative_factors(rank, *radial, table.distances)
    y, dy = harmonics(rank, u)
    along = np.einsum("ism,ism->is", g @ adjoint, y)
    across = np.einsum("ism,ismx->isx", h @ adjoint, dy)
    return np.asarray(along[..., None] * u + across)
