"""Design rows of the invariants of channels: the forces of t_p·t_q, summed over the agents of a species.

Index suffixes: i agent, s neighbour slot, f scalar product, n radial function, c component of a tensor, x Cartesian.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np

from openmm_duality.geometry.arrays import FloatArray, IntArray
from openmm_duality.inference.equations.channel_kernel import LANES, ScalarProducts
from openmm_duality.invariants.channels import Channels, Tensors
from openmm_duality.invariants.couplings import coupling
from openmm_duality.invariants.neighbours import NeighbourTable

Derivatives = Mapping[int, Sequence[FloatArray]]  # ∂M/∂(q_j − q_i), (N, 3, n, J, 2l + 1), by rank and neighbour species

_CHUNK = 5e5  # numbers in the largest intermediate array: few, so that it stays in the cache


class ProductRows(Protocol):
    """Scalar products of tensors made of the moments of agents of one species."""

    products: ScalarProducts

    def values(self, moments: Tensors) -> FloatArray:
        """All rows of agents with given moments (n, S·n, 2l + 1) by rank, shape (n, R)."""

    def set_derivatives(self, out: FloatArray, agents: IntArray, derivatives: Derivatives) -> None:
        """Set the derivatives, shape (i, c, s x), of the given rows of agents by displacements of their neighbours."""


class InvariantRows:
    """The invariants of one agent species; the rows are the components of its channels and of their products.

    Parameters
    ----------
    channels : Channels
    """

    def __init__(self, channels: Channels) -> None:
        self.channels = channels
        self.first = np.cumsum([0, *(2 * channels.ranks + 1)])  # row of every tensor
        n, n_given = channels.n_channels, int(self.first[channels.n_channels])
        terms = [row for x in range(len(channels.products)) for row in product_terms(channels, x, self.first)]
        p, q = channels.invariants.T
        starts = np.stack([self.first[p], self.first[q], 2 * channels.ranks[p] + 1], axis=1)
        self.products = ScalarProducts(n_given, terms, starts)
        assert n_given == sum(2 * rank + 1 for rank in channels.ranks[:n])

    def values(self, moments: Tensors) -> FloatArray:
        """All rows of agents, shape (n, R)."""
        return self.of_tensors(self.channels.tensors(self.channels.channels(moments)))

    def of_tensors(self, tensors: Tensors) -> FloatArray:
        """All rows, from tensors by rank, shape (n, R)."""
        return rows_of_tensors(self.channels, tensors, self.first, self.products.n_rows)

    def set_derivatives(self, out: FloatArray, agents: IntArray, derivatives: Derivatives) -> None:
        """Set the derivatives, shape (i, c, s x), of the components of channels."""
        row = 0
        for rank, w in self.channels.mixing.items():
            stop, column = row + len(w) * (2 * rank + 1), 0
            mixed = out[:, row:stop].reshape(len(agents), len(w), 2 * rank + 1, out.shape[2]).swapaxes(1, 2)
            for b, k in enumerate(derivatives[rank]):
                flat = by_component(k[agents])
                n, width = flat.shape[2:]
                np.matmul(w[:, b * n : (b + 1) * n], flat, out=mixed[..., column : column + width])
                column += width
            row = stop


def by_component(k: FloatArray) -> FloatArray:
    """Derivatives (i, x, n, s, m) of moments in the order (i, m, n, s x)."""
    return k.transpose(0, 4, 2, 3, 1).reshape(len(k), k.shape[4], k.shape[2], -1)


def product_terms(channels: Channels, x: int, first: IntArray) -> list[FloatArray]:
    """Terms (row of one, row of the other, factor) of every component of a product, given the row of every tensor."""
    p, q, rank = map(int, channels.products[x])
    return coupling_terms(int(first[p]), int(first[q]), (int(channels.ranks[p]), int(channels.ranks[q]), rank))


def coupling_terms(one: int, other: int, ranks: tuple[int, int, int]) -> list[FloatArray]:
    """Terms (row of one, row of the other, factor) of every component of the product of two tensors."""
    c = coupling(*ranks)
    found = []
    for m in range(c.shape[2]):
        a, b = np.nonzero(c[:, :, m])
        found.append(np.stack([one + a, other + b, c[a, b, m]], axis=1))
    return found


def rows_of_tensors(channels: Channels, tensors: Tensors, first: IntArray, n_rows: int) -> FloatArray:
    """Components of tensors (n, number of the rank, 2l + 1) by rank, each tensor from its row on, shape (n, n_rows)."""
    rows = np.zeros((len(next(iter(tensors.values()))), n_rows))
    for rank, t in tensors.items():
        of_rank = np.flatnonzero(channels.ranks[: len(first)] == rank)
        rows[:, first[of_rank][:, None] + np.arange(2 * rank + 1)] = t[:, : len(of_rank)]
    return rows


def product_forces(
    rows: ProductRows,
    agents: IntArray,
    moments: Tensors,
    derivatives: Derivatives,
    tables: Sequence[NeighbourTable],
    collective: bool,
) -> FloatArray:
    """Forces per unit coefficient of every scalar product, shape (N, 3, F).

    Parameters
    ----------
    rows : ProductRows
        Of the species.
    agents : array of int
        Agents of the species.
    moments : mapping of int to array, shape (N, S·n, 2l + 1)
        Moments of all agents by rank.
    derivatives : mapping of int to sequence of arrays, shape (N, 3, n, J, 2l + 1)
        ∂M/∂(q_j − q_i) by rank and neighbour species.
    tables : sequence of NeighbourTable
    collective : bool
        Whether forces on the neighbours are included.
    """
    n_atoms, products = len(tables[0].indices), rows.products
    out = products.derivatives_by(3 * n_atoms + 1)  # the last row takes what is not wanted
    stop = 3 + 3 * sum(t.indices.shape[1] for t in tables)
    width = -(-stop // LANES) * LANES
    to_agent = -np.tile(np.eye(3), (stop // 3 - 1, 1))
    for chunk in _chunks(agents, width * products.n_given):
        by_coordinate = np.zeros((len(chunk), products.n_given, width))  # of the agent, then of its neighbours
        rows.set_derivatives(by_coordinate[:, :, 3:stop], chunk, derivatives)
        by_coordinate[:, :, :3] = by_coordinate[:, :, 3:stop] @ to_agent
        neighbours = np.concatenate([t.indices[chunk] for t in tables], axis=1)
        targets = np.full((len(chunk), width), 3 * n_atoms)
        targets[:, :3] = 3 * chunk[:, None] + np.arange(3)
        if collective:
            targets[:, 3:stop] = (3 * neighbours[..., None] + np.arange(3)).reshape(len(chunk), -1)
        values = rows.values({rank: m[chunk] for rank, m in moments.items()})
        products.subtract_derivatives(values, by_coordinate, targets, out)
    return out[:-1, : len(products)].reshape(n_atoms, 3, -1)


def own_product_forces(
    rows: InvariantRows, agents: IntArray, moments: Tensors, own: Mapping[int, FloatArray]
) -> FloatArray:
    """The same on the agents of the species alone, shape (N, 3, F), from −∂M/∂q_i, shape (N, 3, S·n, 2l + 1)."""
    n_atoms = len(next(iter(own.values())))
    coordinates = 3 * agents[:, None] + np.arange(3)
    return product_slopes(rows, agents, moments, own, coordinates, 3 * n_atoms).reshape(n_atoms, 3, -1)


def channel_strains(
    rows: InvariantRows, agents: IntArray, moments: Tensors, strained: Mapping[int, FloatArray]
) -> FloatArray:
    """Derivatives of the invariants by a strain, summed over agents, per unit coefficient, shape (6, F).

    Parameters
    ----------
    rows, agents, moments
        As for `product_slopes`.
    strained : mapping of int to array, shape (N, 6, S·n, 2l + 1)
        Their derivatives by the components of the strain.
    """
    return product_slopes(rows, agents, moments, strained, np.tile(np.arange(6), (len(agents), 1)), 6)


def product_slopes(
    rows: InvariantRows,
    agents: IntArray,
    moments: Tensors,
    slopes: Mapping[int, FloatArray],
    coordinates: IntArray,
    size: int,
) -> FloatArray:
    """Slopes of all invariants by some coordinates, summed over agents where these share them, shape (size, F).

    Parameters
    ----------
    rows : InvariantRows
        Of the species.
    agents : array of int, shape (n,)
        Agents of the species.
    moments : mapping of int to array, shape (N, S·n, 2l + 1)
        Moments of all agents by rank.
    slopes : mapping of int to array, shape (N, W, S·n, 2l + 1)
        Their slopes by W coordinates of each agent.
    coordinates : array of int, shape (n, W)
        Their numbers, below `size`.
    size : int
    """
    width = coordinates.shape[1]
    out = rows.products.derivatives_by(size + 1)  # the last row takes what is not wanted
    by_coordinate = np.zeros((len(agents), rows.products.n_given, -(-width // LANES) * LANES))
    first = 0
    for rank, w in rows.channels.mixing.items():
        mixed = np.matmul(w, slopes[rank][agents]).reshape(len(agents), width, len(w) * (2 * rank + 1))
        by_coordinate[:, first : first + mixed.shape[2], :width] = mixed.swapaxes(1, 2)
        first += mixed.shape[2]
    targets = np.full((len(agents), by_coordinate.shape[2]), size)
    targets[:, :width] = coordinates
    values = rows.values({rank: m[agents] for rank, m in moments.items()})
    rows.products.subtract_derivatives(values, by_coordinate, targets, out)
    return -out[:size, : len(rows.products)]


def _chunks(agents: IntArray, size: int) -> Iterator[IntArray]:
    width = max(1, int(_CHUNK / max(size, 1)))
    for begin in range(0, len(agents), width):
        yield agents[begin : begin + width]
