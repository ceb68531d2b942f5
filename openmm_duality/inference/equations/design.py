"""Design rows: analytical derivatives of the forces and of the energy with respect to the coefficients.

The losses are linear in their coefficients, and so are forces and energy: one row per force component, one per energy.

Index suffixes: i agent, s neighbour slot, n radial function, a = (B, n) moment, m component of a rank, x Cartesian.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import numpy.typing as npt

from openmm_duality.geometry.arrays import FloatArray, IntArray
from openmm_duality.geometry.contacts import contacts
from openmm_duality.inference.equations.channel_rows import (
    InvariantRows,
    ProductRows,
    own_product_forces,
    product_forces,
)
from openmm_duality.inference.equations.layout import Group, Layout, Part, Triangle, joint_group
from openmm_duality.inference.equations.own_columns import WHOLE, OwnColumns
from openmm_duality.invariants.channels import Channels
from openmm_duality.invariants.contractions import invariants
from openmm_duality.invariants.moments import (
    flat,
    harmonics,
    moment_derivatives,
    moments,
    moments_by_rank,
    own_derivatives,
)
from openmm_duality.invariants.neighbours import NeighbourTable
from openmm_duality.invariants.radial import RadialBasis
from openmm_duality.losses.model import AgentLosses

Radial = tuple[FloatArray, FloatArray]  # values and slopes of radial functions, shape (N, J, n)


@dataclass(frozen=True)
class Design:
    """Builder of the design rows of a configuration from bases, channels and the layout of the columns."""

    layout: Layout
    pair_basis: RadialBasis
    basis: RadialBasis
    coarse: RadialBasis
    channels: tuple[Channels, ...] = ()

    @cached_property
    def invariant_rows(self) -> list[InvariantRows]:
        """Rows of the invariants of channels, by species."""
        return [InvariantRows(mine) for mine in self.channels]

    @cached_property
    def own_rows(self) -> list[InvariantRows]:
        """Rows of the invariants of channels that the last part has, by species."""
        part = self.layout.parts[-1]
        return [InvariantRows(mine.only(self.layout.invariants_of(part, a))) for a, mine in enumerate(self.channels)]

    @property
    def channel_rows(self) -> Sequence[ProductRows]:
        """Rows of the columns of channels, by species."""
        return self.invariant_rows

    @classmethod
    def of(cls, losses: AgentLosses, n_constants: int = 0) -> Design:
        """Design of the equations that the losses solve, with a given number of energy constants."""
        joint = len(losses.metadata.get("regularisation", ())) == 1
        sizes = (len(losses.species), losses.pair_basis.size, losses.basis.size, losses.coarse.size)
        n_invariants = tuple(len(mine.invariants) for mine in losses.channels)
        groups = joint_group(len(losses.species)) if joint else ()
        own_part = losses.metadata.get("settings", {}).get("own_part", WHOLE)  # as older models have it
        own = OwnColumns.of(own_part, losses.form, sizes[0], *sizes[2:], losses.channels)
        layout = Layout(losses.form, losses.gradient, *sizes, n_constants, n_invariants, own, groups)
        return cls(layout, losses.pair_basis, losses.basis, losses.coarse, losses.channels)

    def losses(
        self, solutions: Sequence[FloatArray], species: tuple[str, ...], masses: FloatArray, shortest: FloatArray
    ) -> AgentLosses:
        """Losses with the coefficients of solutions, by group, without walls, cores and metadata."""
        return AgentLosses(
            species=species,
            masses=masses,
            form=self.layout.form,
            gradient=self.layout.gradient,
            pair_basis=self.pair_basis,
            basis=self.basis,
            coarse=self.coarse,
            channels=self.channels,
            **self.layout.unpack(solutions),
            shortest=shortest,
            contacts=contacts(shortest, species),
            core_strength=np.zeros_like(shortest),
            wall_strength=np.zeros_like(shortest),
        )

    def force_rows(self, tables: list[NeighbourTable], species_index: IntArray) -> list[FloatArray]:
        """Rows of the forces on all agents, by group.

        Parameters
        ----------
        tables : list of NeighbourTable
            Neighbours within the cutoff of the bases, by species of the neighbour.
        species_index : array of int, shape (N,)
            Species of every atom.

        Returns
        -------
        list of arrays, shape (M, 3, P)
            Force in kJ/mol/nm per kJ/mol of coefficient on the M agents of the group's species in order of index, for
            its P columns.
        """
        layout, pair = self.layout, pair_forces(self.radial(self.pair_basis, tables, species_index), tables)
        ranks, coupled = layout.form.ranks, layout.form.coupled
        near = [table.within(self.basis.reach) for table in tables]
        fine = Moments.of(ranks or layout.form.channels, self.radial(self.basis, near, species_index), near)
        coarse_ranks = layout.form.all_ranks if coupled else ()
        coarse = Moments.of(coarse_ranks, self.radial(self.coarse, tables, species_index), tables)
        reactions = [partial(_add_reactions, layout, rank, fine, near, species_index) for rank in ranks]
        if coupled:
            reactions.append(partial(_add_coupled_reactions, layout, coarse, tables, species_index))
        contracted = [
            _by_part(layout, factors, add, species_index)
            for factors, add in zip(own_factors(layout, fine, coarse), reactions, strict=True)
        ]
        if self.channels:
            agents = [np.flatnonzero(species_index == a) for a in range(layout.n_species)]
            contracted.append([self._product_forces(part, agents, fine, near) for part in layout.parts])
        return [self._group_rows(group, pair, contracted, species_index) for group in layout.groups]

    def energy_row(self, tables: list[NeighbourTable], species_index: IntArray) -> FloatArray:
        """Row of the sum of all losses, shape (P,), for the single group of `collective` losses.

        Parameters
        ----------
        tables, species_index
            As for `force_rows`.
        """
        layout = self.layout
        (group,) = layout.groups
        sums = np.stack(
            [self.pair_basis.evaluate(t.distances, species_index, b)[0].sum(axis=1) for b, t in enumerate(tables)],
            axis=1,
        )
        columns = []
        for a, b in layout.pairs(layout.parts[0], group):
            column = sums[species_index == a, b].sum(axis=0)
            columns.append(column if a == b else column + sums[species_index == b, a].sum(axis=0))

        def moments_of(basis: RadialBasis, ranks: tuple[int, ...]) -> dict[int, FloatArray]:
            values = [basis.evaluate(t.distances, species_index, b)[0] for b, t in enumerate(tables)] if ranks else []
            return moments_by_rank(ranks, tables, values)

        fine = moments_of(self.basis, layout.form.ranks or layout.form.channels)
        coarse = moments_of(self.coarse, layout.form.all_ranks if layout.form.coupled else ())
        for a in group:
            of_a = species_index == a
            for rank in layout.form.ranks:
                here = flat(fine[rank][of_a]).transpose(1, 0, 2).reshape(layout.n_species * layout.n, -1)
                columns.append(quadratic_columns(0.5 * here @ here.T, layout.triangle))
            if layout.form.coupled:
                phi = invariants({rank: flat(m[of_a]) for rank, m in coarse.items()}, layout.form.coupled)
                columns.append(quadratic_columns(0.5 * phi.T @ phi, layout.coupled_triangle))
            if self.channels:
                mine = self.channels[a]
                tensors = mine.tensors(mine.channels({rank: flat(m[of_a]) for rank, m in fine.items()}))
                columns.append(mine.values(tensors).sum(axis=0))
        if layout.n_constants:
            columns.append(np.bincount(species_index, minlength=layout.n_constants).astype(np.float64))
        return np.concatenate(columns)

    def radial(self, basis: RadialBasis, tables: list[NeighbourTable], species_index: IntArray) -> list[Radial]:
        """Values and slopes of radial functions at the distances of each table."""
        return [basis.evaluate(table.distances, species_index, b) for b, table in enumerate(tables)]

    def _product_forces(
        self, part: Part, agents: list[IntArray], found: Moments, tables: list[NeighbourTable]
    ) -> list[FloatArray]:
        """Forces of the invariants of channels in one part by species of the agents, shape (N, 3, F)."""
        if not part.shared and self.channel_rows is self.invariant_rows:
            pairs = zip(self.own_rows, agents, strict=True)
            return [own_product_forces(rows, some, found.values, found.own) for rows, some in pairs]
        return [
            product_forces(rows, some, found.values, found.derivatives, tables, part.shared)
            for rows, some in zip(self.channel_rows, agents, strict=True)
        ]

    def _group_rows(
        self, group: Group, pair: FloatArray, contracted: list[list[list[FloatArray]]], species_index: IntArray
    ) -> FloatArray:
        """Rows of a group from those of the pair part and of the others, by contraction, part and species."""
        layout = self.layout
        columns = []
        for number, part in enumerate(layout.parts):
            for a, b in layout.pairs(part, group):
                block = np.zeros((len(species_index), 3, layout.n_pair))
                block[species_index == a] = pair[species_index == a, b]
                if part.symmetry:
                    block[species_index == b] = part.symmetry * pair[species_index == b, a]
                if part.shared:
                    block *= 2.0  # the loss of the neighbour contains the same function of the same distance
                columns.append(block)
            columns += [by_part[number][a] for a in group for by_part in contracted]
        columns.append(np.zeros((len(species_index), 3, layout.n_constants)))
        rows = np.concatenate(columns, axis=-1)
        return rows if len(layout.groups) == 1 else rows[np.isin(species_index, group)]


def pair_forces(radial: list[Radial], tables: list[NeighbourTable]) -> FloatArray:
    """Forces of the pair part, Σ_s f_n' u, shape (N, S, 3, n_p), from values and slopes of its functions by table."""
    pairs = zip(radial, tables, strict=True)
    return np.stack([np.matmul(table.directions.swapaxes(1, 2), slope) for (_, slope), table in pairs], axis=1)


@dataclass(frozen=True)
class Moments:
    """Moments of all agents and their derivatives, by rank.

    Parameters
    ----------
    values : dict of int to array, shape (N, S·n, 2l + 1)
    own : dict of int to array, shape (N, 3, S·n, 2l + 1)
        Derivatives −∂M/∂q_i with respect to the agent's own position.
    derivatives : dict of int to list of arrays, shape (N, 3, n, J, 2l + 1)
        K[i, x, n, s, m] = ∂(f_n Y_m)/∂(q_j − q_i)_x for the neighbour in slot s, by neighbour species; empty if only
        the own derivatives are wanted.
    """

    values: dict[int, FloatArray]
    own: dict[int, FloatArray]
    derivatives: dict[int, list[FloatArray]]

    @classmethod
    def of(
        cls, ranks: tuple[int, ...], radial: list[Radial], tables: list[NeighbourTable], only_own: bool = False
    ) -> Moments:
        """Moments of radial functions, from their values and slopes by table."""
        by_table = list(zip(radial, tables, strict=True))
        values, own = {}, {}
        derivatives: dict[int, list[FloatArray]] = {}
        for rank in ranks:
            blocks = [moments(f, harmonics(rank, table.directions)[0]) for (f, _), table in by_table]
            values[rank] = np.concatenate(blocks, axis=1)
            if only_own:
                summed = [own_derivatives(rank, *f, table) for f, table in by_table]
            else:
                derivatives[rank] = [moment_derivatives(rank, *f, table) for f, table in by_table]
                summed = [k.sum(axis=3) for k in derivatives[rank]]
            own[rank] = np.concatenate(summed, axis=2)
        return cls(values, own, derivatives)


@dataclass(frozen=True)
class Factors:
    """Factors of the products that a block of coefficients multiplies, and their derivatives.

    Parameters
    ----------
    slopes : array, shape (N, 3, Q, M)
        Derivatives −∂/∂q_i by the agent's own position.
    values : array, shape (N, M, Q)
    triangles : sequence of tuple of arrays of int
        Entries of the upper triangle of the products (Q, Q) that have columns, by part.
    """

    slopes: FloatArray
    values: FloatArray
    triangles: Sequence[Triangle]


def own_factors(layout: Layout, fine: Moments, coarse: Moments) -> list[Factors]:
    """Factors of the contractions of every rank, moments, and of the coupling, its invariants."""
    contracted, coupled = zip(*(layout.triangles_of(part) for part in layout.parts), strict=True)
    found = [Factors(fine.own[r], fine.values[r].swapaxes(-1, -2), contracted) for r in layout.form.ranks]
    if layout.form.coupled:
        pairs = np.triu_indices(layout.n_species * layout.n_coarse)
        slopes = [coarse.own[0][..., 0]]
        for rank in layout.form.coupled:
            t = coarse.own[rank] @ coarse.values[rank][:, None].swapaxes(-1, -2)
            slopes.append((t + t.swapaxes(-1, -2))[..., pairs[0], pairs[1]])
        phi = invariants(coarse.values, layout.form.coupled)
        found.append(Factors(np.concatenate(slopes, axis=-1)[..., None], phi[:, None], coupled))
    return found


def _by_part(
    layout: Layout, factors: Factors, add_reactions: Callable[[int, FloatArray], None], species_index: IntArray
) -> list[list[FloatArray]]:
    """Force columns of each part, then of each species A, arrays of shape (N, 3, Q (Q + 1)/2).

    Parameters
    ----------
    layout : Layout
    factors : Factors
    add_reactions : callable
        Adds the reactions to agents of a species to products (N, 3, Q, Q).
    species_index : array of int, shape (N,)
    """
    found: list[list[FloatArray]] = [[] for _ in layout.parts]
    for a in range(layout.n_species):
        of_a = species_index == a
        product = np.zeros((len(species_index), 3, *[factors.values.shape[-1]] * 2))
        product[of_a] = factors.slopes[of_a] @ factors.values[of_a, None]
        by_part = list(zip(found, layout.parts, factors.triangles, strict=True))
        for columns, part, triangle in reversed(by_part):  # the own part comes first
            if part.shared:
                add_reactions(a, product)
            last = part is layout.parts[0]
            columns.append(quadratic_columns(product if last else product.copy(), triangle))
    return found


def _add_reactions(
    layout: Layout,
    rank: int,
    found: Moments,
    tables: list[NeighbourTable],
    species_index: IntArray,
    a: int,
    product: FloatArray,
) -> None:
    """Add the derivatives of the contractions of agents of species A by the positions of their neighbours."""
    n, m = layout.n, found.values[rank]
    for b in range(layout.n_species):
        # agents of species b as neighbours of agents of species a
        of_b = species_index == b
        k = found.derivatives[rank][a][of_b]
        around = m[tables[a].indices[of_b]].swapaxes(2, 3)  # (M, J, 2l + 1, S·n)
        inner = k.shape[3] * k.shape[4]
        reaction = k.reshape(len(k), 3 * n, inner) @ around.reshape(len(k), inner, m.shape[1])
        product[of_b, :, b * n : (b + 1) * n] += (-1) ** rank * reaction.reshape(len(k), 3, n, m.shape[1])


def _add_coupled_reactions(
    layout: Layout,
    found: Moments,
    tables: list[NeighbourTable],
    species_index: IntArray,
    a: int,
    product: FloatArray,
) -> None:
    """The same of the products of coupled invariants."""
    phi = invariants(found.values, layout.form.coupled)
    for b in range(layout.n_species):
        of_b = species_index == b
        around = _neighbour_slopes(layout, found, a, b, tables[a].indices[of_b], of_b)
        slopes = around.reshape(*around.shape[:2], 3 * phi.shape[1]).swapaxes(1, 2)
        reaction = slopes @ phi[tables[a].indices[of_b]]
        product[of_b] += reaction.reshape(len(around), *product.shape[1:])


def _neighbour_slopes(
    layout: Layout, found: Moments, a: int, b: int, indices: IntArray, of_b: npt.NDArray[np.bool_]
) -> FloatArray:
    """Derivatives −∂φ_p(j)/∂q_i for agents i of species b and neighbours j of species a, shape (M, J, 3, Q)."""
    n, width = layout.n_coarse, layout.n_species * layout.n_coarse
    block = slice(b * n, (b + 1) * n)
    pairs = np.triu_indices(width)
    shape = (*indices.shape, 3)
    sums = np.zeros((*shape, width))
    sums[..., block] = found.derivatives[0][a][of_b][..., 0].transpose(0, 3, 1, 2)
    blocks = [sums]
    for rank in layout.form.coupled:
        k = found.derivatives[rank][a][of_b].transpose(0, 3, 1, 2, 4)  # (M, J, 3, n, 2l + 1)
        m = found.values[rank][indices][:, :, None].swapaxes(-1, -2)
        t = np.zeros((*shape, width, width))
        t[..., block, :] = (-1) ** rank * (k @ m)
        blocks.append((t + t.swapaxes(-1, -2))[..., pairs[0], pairs[1]])
    return np.concatenate(blocks, axis=-1)


def quadratic_columns(product: FloatArray, triangle: Triangle) -> FloatArray:
    """Columns of ½ Σ_pq C_pq φ_p φ_q, C symmetric, from products (…, Q, Q) of the derivatives of φ_p with φ_q."""
    diagonal = np.arange(product.shape[-1])
    product += product.swapaxes(-1, -2)
    product[..., diagonal, diagonal] *= 0.5
    return np.asarray(product[..., triangle[0], triangle[1]])
