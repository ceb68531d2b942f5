"""Evaluation of losses, forces and virial: moments M, the polynomial H(M), its adjoint G = ∂H/∂M, forces from G.

This is the NumPy reference implementation in double precision, with which the OpenMM back ends are compared.

Index suffixes: i agent, s neighbour slot, a = (B, n) moment, m component of a rank, x Cartesian.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from openmm_duality.errors import DualityError
from openmm_duality.geometry.arrays import FloatArray, IntArray
from openmm_duality.invariants import contractions
from openmm_duality.invariants.harmonics import gradient_matrix
from openmm_duality.invariants.moments import (
    derivative_factors,
    flat,
    harmonic_values,
    harmonics,
    moments,
    moments_by_rank,
)
from openmm_duality.invariants.neighbours import NeighbourTable, find_neighbours
from openmm_duality.losses.forms import require_potential_energy
from openmm_duality.losses.model import AgentLosses
from openmm_duality.units import stress_from_virial

_DESCRIBING = 6  # channels of a rank that describe a local environment


@dataclass(frozen=True)
class Evaluation:
    """Losses, forces and virial of one configuration.

    Parameters
    ----------
    losses : array, shape (N,)
        H_A(φ^i) of each agent in kJ/mol; under `mutual` its shared part.
    forces : array, shape (N, 3)
        Forces in kJ/mol/nm, according to the gradient of the model.
    virial : array, shape (3, 3), or None
        W = −∂E/∂ε in kJ/mol, positive under compression: the change of the energy E with a homogeneous strain ε of
        positions and cell, Σ (q_j − q_i) ⊗ F over all pairs and their images. None for losses without a potential.
    """

    losses: FloatArray
    forces: FloatArray
    virial: FloatArray | None = None

    @property
    def energy(self) -> float:
        """Sum of the losses in kJ/mol: the potential energy under `collective`, else only informative."""
        return float(self.losses.sum())


def evaluate_agents(
    losses: AgentLosses, positions: FloatArray, species: Sequence[str], cell: FloatArray | None = None
) -> Evaluation:
    """Evaluate the losses and forces of one configuration.

    Parameters
    ----------
    losses : AgentLosses
    positions : array, shape (N, 3)
        Positions in nm.
    species : sequence of str, length N
    cell : array, shape (3, 3), or None
        Rows are the cell vectors in nm.

    Raises
    ------
    DualityError
        If a species is unknown, or the vectors of the cell span no volume.
    """
    return LocalEnvironments.of(losses, positions, species, cell).evaluate(losses)


def evaluate_stress(
    losses: AgentLosses, positions: FloatArray, species: Sequence[str], cell: FloatArray | None
) -> FloatArray:
    """Evaluate the stress σ = (1/V) ∂E/∂ε of one configuration, without its kinetic part, shape (3, 3).

    It is in kJ/mol/nm³ and, as in ASE, positive under tension (`units.stress_from_virial`).

    Parameters
    ----------
    losses, positions, species, cell
        As for `evaluate_agents`.

    Raises
    ------
    DualityError
        If the losses have no potential energy, there is no cell, or as for `evaluate_agents`.
    """
    require_potential_energy(losses.gradient, "a stress")
    if cell is None:
        raise DualityError("a stress needs a periodic cell, and this configuration has none")
    virial = evaluate_agents(losses, positions, species, cell).virial
    assert virial is not None
    return stress_from_virial(virial, abs(float(np.linalg.det(cell))))


@dataclass(frozen=True)
class LocalEnvironments:
    """Local environments of one configuration, common to all losses with the same bases.

    Parameters
    ----------
    species_index : array of int, shape (N,)
        Species index of each agent.
    tables : list of NeighbourTable
        Neighbour tables by species of the neighbour.
    radial : list of (values, slopes), arrays of shape (N, J, n + n_c)
        Radial functions of the moments at the distances of each table.
    moments : dict of int to array, shape (N, S, n + n_c, 2l + 1)
        Moments by rank.
    """

    species_index: IntArray
    tables: list[NeighbourTable]
    radial: list[tuple[FloatArray, FloatArray]]
    moments: dict[int, FloatArray]

    @classmethod
    def of(
        cls, losses: AgentLosses, positions: FloatArray, species: Sequence[str], cell: FloatArray | None = None
    ) -> LocalEnvironments:
        """Build the local environments of a configuration; parameters and errors as for `evaluate_agents`."""
        species_index = losses.index_of(species)
        tables = find_neighbours(positions, cell, species_index, len(losses.species), losses.cutoff)
        return cls.of_tables(losses, species_index, tables)

    @classmethod
    def of_tables(cls, losses: AgentLosses, species_index: IntArray, tables: list[NeighbourTable]) -> LocalEnvironments:
        """Build the local environments of agents of given species (N,) from their neighbour tables."""
        radial = [losses.moment_basis.evaluate(table.distances, species_index, b) for b, table in enumerate(tables)]
        return cls(
            species_index, tables, radial, moments_by_rank(losses.form.descriptor_ranks, tables, [f for f, _ in radial])
        )

    def evaluate(self, losses: AgentLosses) -> Evaluation:
        """Evaluate losses that have the bases of these environments."""
        every = [losses] if losses.own is None else [losses, losses.own_part]
        found, adjoints = polynomials(every, self.species_index, self.moments)
        forces, virial = np.zeros((len(self.species_index), 3)), np.zeros((3, 3))
        for b, table in enumerate(self.tables):
            value, gradient, sums = self.gradients(every, adjoints, b)
            found += value.sum(axis=1)
            forces += sums
            if losses.has_reactions:
                np.subtract.at(forces, table.indices, gradient)
            if losses.has_potential:
                virial -= gradient.reshape(-1, 3).T @ table.displacements.reshape(-1, 3)
        return Evaluation(found, forces, virial if losses.has_potential else None)

    def moved(self, losses: AgentLosses, b: int, shift: FloatArray) -> LocalEnvironments:
        """The same with all neighbours of a species displaced from their agents by a vector (3,), in nm.

        The moments are those of the environments themselves.
        """
        tables, radial = list(self.tables), list(self.radial)
        tables[b] = self.tables[b].displaced(shift)
        radial[b] = losses.moment_basis.evaluate(tables[b].distances, self.species_index, b)
        return replace(self, tables=tables, radial=radial)

    def pair_gradients(
        self, losses: AgentLosses, adjoints: Mapping[int, FloatArray], b: int
    ) -> tuple[FloatArray, FloatArray]:
        """Pair potentials (N, J), and gradients ∂H_i/∂(q_j − q_i) (N, J, 3), for the neighbours of a species."""
        value, gradient, _ = self.gradients([losses], [adjoints], b)
        return value, gradient

    def gradients(
        self, every: Sequence[AgentLosses], adjoints: Sequence[Mapping[int, FloatArray]], b: int
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Pair potentials and gradients of the first losses, and the sums over the neighbours of all, shape (N, 3).

        Of an own part only the sums are wanted: ∂Y is linear in the harmonics of the next lower rank, which are summed
        first.
        """
        table, u = self.tables[b], self.tables[b].directions
        (value, slope), *more = (one.pair_potentials.evaluate(table.distances, self.species_index, b) for one in every)
        gradient = slope * u
        along, across = more[0][1][..., 0] if more else slope[..., 0], np.zeros((len(u), 3))
        for rank in every[0].form.all_ranks:
            g, h = derivative_factors(rank, *self.radial[b], table.distances)
            y, dy = harmonics(rank, u)
            adjoint, own = (one[rank][:, b] for one in (adjoints[0], adjoints[-1]))
            gradient += np.einsum("ism,ism->is", g @ adjoint, y)[..., None] * u
            gradient += np.einsum("ism,ismx->isx", h @ adjoint, dy)
            if more and own.any():
                along += np.einsum("ism,ism->is", g @ own, y)
                if rank:
                    lower = own.swapaxes(1, 2) @ moments(h, harmonic_values(rank - 1, u))
                    across += np.tensordot(lower, gradient_matrix(rank), axes=((1, 2), (0, 2)))
        sums = gradient.sum(axis=1)
        return value[..., 0], gradient, sums + (along[:, None] @ u)[:, 0] + across if more else sums


def polynomial(
    losses: AgentLosses, species_index: IntArray, found: Mapping[int, FloatArray]
) -> tuple[FloatArray, dict[int, FloatArray]]:
    """Evaluate H(M) without its pair part, shape (N,), and the adjoints G = ∂H/∂M by rank, as `polynomials` does."""
    own, (adjoints,) = polynomials([losses], species_index, found)
    return own, adjoints


def polynomials(
    every: Sequence[AgentLosses], species_index: IntArray, found: Mapping[int, FloatArray]
) -> tuple[FloatArray, list[dict[int, FloatArray]]]:
    """Evaluate H(M) of the first losses without its pair part, shape (N,), and the adjoints ∂H/∂M of all by rank.

    Parameters
    ----------
    every : sequence of AgentLosses
        With the same form, bases and channels.
    species_index : array of int, shape (N,)
    found : mapping of int to array, shape (N, S, n + n_c, 2l + 1)
        Moments by rank, of the functions of `basis`, then of `coarse`; the adjoints have the same shapes.
    """
    losses = every[0]
    n, s = losses.basis.size, len(losses.species)
    own = np.zeros(len(species_index))
    result = [{rank: np.zeros_like(m) for rank, m in found.items()} for _ in every]
    for a in range(s):
        of_a = species_index == a
        fine = {rank: flat(m[of_a, :, :n]) for rank, m in found.items()}
        if losses.form.coupled:
            coarse = {rank: flat(m[of_a, :, n:]) for rank, m in found.items()}
            phi = contractions.invariants(coarse, losses.form.coupled)
        if losses.form.channels:
            mixed = losses.channels[a].channels(fine)
            tensors = losses.channels[a].tensors(mixed)
        for one, adjoints in zip(every, result, strict=True):
            terms: list[tuple[FloatArray, FloatArray]] = []  # x and g = ∂H/∂x of homogeneous quadratic parts ½ x·g
            for rank in losses.form.ranks:
                g = one.weights[rank][a] @ fine[rank]
                terms.append((fine[rank], g))
                adjoints[rank][of_a, :, :n] = g.reshape(len(g), s, n, 2 * rank + 1)
            if losses.form.coupled:
                g_phi = phi @ one.couplings[a]
                terms.append((phi, g_phi))
                for rank, g in contractions.adjoints(coarse, losses.form.coupled, g_phi).items():
                    adjoints[rank][of_a, :, n:] = g.reshape(len(g), s, losses.coarse.size, 2 * rank + 1)
            if losses.form.channels:
                slopes = {rank: slopes_of(one.channel_matrices[a][rank], t) for rank, t in tensors.items()}
                terms += [(t, slopes[rank]) for rank, t in tensors.items()]
                for rank, g in losses.channels[a].adjoints(mixed, slopes).items():
                    adjoints[rank][of_a, :, :n] = g.reshape(len(g), s, n, 2 * rank + 1)
            if one is losses:
                own[of_a] = 0.5 * sum((x * g).sum(axis=tuple(range(1, x.ndim))) for x, g in terms)
                own[of_a] -= one.channels_alone[a] if losses.form.channels else 0.0
    return own, result


def slopes_of(matrix: FloatArray, tensors: FloatArray) -> FloatArray:
    """w t of tensors (N, T, 2l + 1) of one rank by their symmetric matrix (T, T), of which an own part has little."""
    used = matrix.any(axis=0)
    if used.all():
        return np.asarray(matrix @ tensors)
    slopes = np.zeros_like(tensors)
    slopes[:, used] = matrix[np.ix_(used, used)] @ tensors[:, used]
    return slopes


def describe_environments(losses: AgentLosses, found: Mapping[int, FloatArray], species_index: IntArray) -> FloatArray:
    """Descriptors of the local environments of agents, shape (N, P) (see `contractions.environment_descriptors`).

    They are made of the moments of `losses.basis`, for a form with channels of its leading channels, so that their
    number does not grow with the number of species.

    Parameters
    ----------
    losses : AgentLosses
    found : mapping of int to array, shape (N, S, n + n_c, 2l + 1)
        Moments by rank.
    species_index : array of int, shape (N,)
    """
    if not losses.channels:
        return contractions.environment_descriptors(found, losses.basis.size)
    described = {rank: np.zeros((len(m), 1, _DESCRIBING, m.shape[-1])) for rank, m in found.items()}
    for a, mine in enumerate(losses.channels):
        of_a = species_index == a
        for rank, channels in mine.channels({rank: flat(m[of_a]) for rank, m in found.items()}).items():
            leading = channels[:, :_DESCRIBING]
            described[rank][of_a, 0, : leading.shape[1]] = leading
    return contractions.environment_descriptors(described, _DESCRIBING)
