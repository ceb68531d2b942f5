"""Design rows: the force on every agent per unit coefficient, analytically.

A loss is linear in its coefficients, and so is the force; one row per agent and component.

Index suffixes: i agent, s neighbour slot, n radial function, a = (B, n) moment, m component of a rank, x Cartesian.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from openmm_duality.inference.layout import FloatArray, IntArray, Layout
from openmm_duality.invariants.moments import derivative_factors, harmonics, moments
from openmm_duality.invariants.neighbours import NeighbourTable, find_neighbours
from openmm_duality.invariants.radial import RadialBasis


@dataclass(frozen=True)
class Design:
    """Makes the rows of a configuration from the two bases and the layout of the columns."""

    layout: Layout
    pair_basis: RadialBasis
    basis: RadialBasis

    def rows(self, positions: FloatArray, cell: FloatArray | None, kinds: IntArray) -> list[FloatArray]:
        """The rows of every problem.

        Parameters
        ----------
        positions : array, shape (N, 3)
            In nm.
        cell : array, shape (3, 3), or None
            In nm.
        kinds : array of int, shape (N,)
            Species index of every atom.

        Returns
        -------
        list of arrays, shape (M, 3, P)
            Force in kJ/mol/nm per kJ/mol of coefficient; the M agents of the problem's species in order of index
            (all N of them under `collective`), P its columns.
        """
        cutoff = self.pair_basis.grid.cutoff
        tables = find_neighbours(positions, cell, kinds, self.layout.n_species, cutoff)
        pair = self._pair_forces(tables, kinds)
        radial = [self.basis.evaluate(table.distances, kinds, b) for b, table in enumerate(tables)]
        contracted = [self._contraction_forces(rank, tables, radial, kinds) for rank in self.layout.form.ranks]
        return [self._problem_rows(problem, pair, contracted, kinds) for problem in self.layout.problems]

    def _problem_rows(
        self, problem: tuple[int, ...], pair: FloatArray, contracted: list[list[FloatArray]], kinds: IntArray
    ) -> FloatArray:
        layout = self.layout
        collective = layout.gradient == "collective"
        columns = []
        for a, b in layout.pairs(problem):
            block = np.zeros((len(kinds), 3, layout.n_pair))
            block[kinds == a] = pair[kinds == a, b]
            if collective:
                block[kinds == b] = pair[kinds == b, a]
                block *= 2.0  # the neighbour's loss holds the same function of the same distance
            columns.append(block)
        columns += [by_species[a] for a in problem for by_species in contracted]
        rows = np.concatenate(columns, axis=-1)
        return rows if collective else rows[kinds == problem[0]]

    def _pair_forces(self, tables: list[NeighbourTable], kinds: IntArray) -> FloatArray:
        """Σ_s f_n' u, shape (N, S, 3, n_p)."""
        forces = []
        for b, table in enumerate(tables):
            _, slope = self.pair_basis.evaluate(table.distances, kinds, b)
            forces.append(np.matmul(table.directions.swapaxes(1, 2), slope))
        return np.stack(forces, axis=1)

    def _contraction_forces(
        self, rank: int, tables: list[NeighbourTable], radial: list[tuple[FloatArray, FloatArray]], kinds: IntArray
    ) -> list[FloatArray]:
        """Force per unit W^l_Aab for every species A, arrays of shape (N, 3, S·n (S·n + 1)/2)."""
        n, width = self.basis.size, self.layout.n_species * self.basis.size
        derivatives, blocks = [], []
        for table, (f, df) in zip(tables, radial, strict=True):
            y, dy = harmonics(rank, table.directions)
            blocks.append(moments(f, y))
            derivatives.append(_moment_derivatives(rank, f, df, table, y, dy))
        m = np.concatenate(blocks, axis=1)
        own = np.concatenate([k.sum(axis=3) for k in derivatives], axis=2)  # (N, 3, S·n, 2l + 1)
        rows, columns = self.layout.triangle
        result = []
        for a in range(self.layout.n_species):
            product = np.zeros((len(kinds), 3, width, width))
            of_a = kinds == a
            product[of_a] = own[of_a] @ m[of_a, None].swapaxes(-1, -2)
            if self.layout.gradient == "collective":
                for b in range(self.layout.n_species):
                    # agents of species b as neighbours of agents of species a
                    of_b = kinds == b
                    k = derivatives[a][of_b]
                    around = m[tables[a].indices[of_b]].swapaxes(2, 3)  # (M, J, 2l + 1, S·n)
                    inner = k.shape[3] * k.shape[4]
                    reaction = k.reshape(len(k), 3 * n, inner) @ around.reshape(len(k), inner, width)
                    product[of_b, :, b * n : (b + 1) * n] += (-1) ** rank * reaction.reshape(len(k), 3, n, width)
            product += product.swapaxes(-1, -2)
            product[..., np.arange(width), np.arange(width)] *= 0.5
            result.append(product[..., rows, columns])
        return result


def _moment_derivatives(
    rank: int, f: FloatArray, df: FloatArray, table: NeighbourTable, y: FloatArray, dy: FloatArray
) -> FloatArray:
    """K[i, x, n, s, m] = ∂(f_n Y_m)/∂(q_j − q_i)_x for the neighbour in slot s."""
    g, h = derivative_factors(rank, f, df, table.distances)
    along = (y[..., None] * table.directions[..., None, :]).transpose(0, 3, 1, 2)[:, :, None]
    k = g.transpose(0, 2, 1)[:, None, :, :, None] * along
    if rank:
        k += h.transpose(0, 2, 1)[:, None, :, :, None] * dy.transpose(0, 3, 1, 2)[:, :, None]
    return np.asarray(k)
