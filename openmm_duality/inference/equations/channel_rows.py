"""Design rows of the invariants of channels: the forces of t_p·t_q, summed over the agents of a species.

Index suffixes: i agent, s neighbour slot, f invariant, n radial function, c component of a channel, x Cartesian.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from openmm_duality.geometry.arrays import FloatArray, IntArray
from openmm_duality.inference.equations.channel_kernel import LANES, InvariantDerivatives
from openmm_duality.invariants.channels import Channels, Tensors
from openmm_duality.invariants.neighbours import NeighbourTable

_CHUNK = 2e7  # numbers in the largest intermediate array


def channel_forces(
    kernel: InvariantDerivatives,
    agents: IntArray,
    moments: Tensors,
    derivatives: Mapping[int, Sequence[FloatArray]],
    tables: Sequence[NeighbourTable],
    collective: bool,
) -> FloatArray:
    """Forces per unit coefficient of every invariant, shape (N, 3, F).

    Parameters
    ----------
    kernel : InvariantDerivatives
        Of the channels of the species.
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
    n_atoms, channels = len(tables[0].indices), kernel.channels
    out = np.zeros((len(channels.invariants), 3 * n_atoms + 1))  # the last column takes what is not wanted
    width = 3 + 3 * sum(t.indices.shape[1] for t in tables)
    for chunk in _chunks(agents, -(-width // LANES) * LANES * kernel.n_components):
        own = channels.channels({rank: m[chunk] for rank, m in moments.items()})
        by_neighbour = _channel_derivatives(channels, chunk, derivatives)
        padding = np.zeros((len(chunk), kernel.n_components, -width % LANES))
        by_agent = -by_neighbour.reshape(*by_neighbour.shape[:2], -1, 3).sum(axis=2)
        neighbours = np.concatenate([t.indices[chunk] for t in tables], axis=1)
        columns = np.full((len(chunk), width + padding.shape[2]), 3 * n_atoms)
        columns[:, :3] = 3 * chunk[:, None] + np.arange(3)
        if collective:
            columns[:, 3:width] = (3 * neighbours[..., None] + np.arange(3)).reshape(len(chunk), -1)
        by_coordinate = np.concatenate([by_agent, by_neighbour, padding], axis=2)
        kernel.add(channels.tensors(own), by_coordinate, columns, out)
    return out[:, :-1].T.reshape(n_atoms, 3, -1)


def channel_strains(
    kernel: InvariantDerivatives, agents: IntArray, moments: Tensors, strained: Mapping[int, FloatArray]
) -> FloatArray:
    """Derivatives of the invariants by a strain, summed over agents, per unit coefficient, shape (6, F).

    Parameters
    ----------
    kernel : InvariantDerivatives
        Of the channels of the species.
    agents : array of int
        Agents of the species.
    moments : mapping of int to array, shape (N, S·n, 2l + 1)
        Moments of all agents by rank.
    strained : mapping of int to array, shape (N, 6, S·n, 2l + 1)
        Their derivatives by the components of the strain.
    """
    channels = kernel.channels
    out = np.zeros((len(channels.invariants), 7))  # the last column takes what is not wanted
    by_strain = np.zeros((len(agents), kernel.n_components, LANES))
    first = 0
    for rank, w in channels.mixing.items():
        mixed = np.matmul(w, strained[rank][agents]).reshape(len(agents), 6, len(w) * (2 * rank + 1))
        by_strain[:, first : first + mixed.shape[2], :6] = mixed.swapaxes(1, 2)
        first += mixed.shape[2]
    columns = np.tile(np.minimum(np.arange(LANES), 6), (len(agents), 1))
    own = channels.channels({rank: m[agents] for rank, m in moments.items()})
    kernel.add(channels.tensors(own), by_strain, columns, out)
    return -out[:, :6].T


def _chunks(agents: IntArray, size: int) -> Iterator[IntArray]:
    width = max(1, int(_CHUNK / max(size, 1)))
    for begin in range(0, len(agents), width):
        yield agents[begin : begin + width]


def _channel_derivatives(
    channels: Channels, agents: IntArray, derivatives: Mapping[int, Sequence[FloatArray]]
) -> FloatArray:
    """Derivatives of the components of channels by the displacements, shape (i, c, s x)."""
    blocks = []
    for rank, w in channels.mixing.items():
        n = derivatives[rank][0].shape[2]
        mixed = []
        for b, k in enumerate(derivatives[rank]):
            here = k[agents].transpose(0, 2, 4, 3, 1)  # (i, n, m, s, x)
            flattened = np.ascontiguousarray(here).reshape(len(agents), n, -1)
            found = np.matmul(w[:, b * n : (b + 1) * n], flattened)
            mixed.append(found.reshape(len(agents), len(w) * (2 * rank + 1), -1))
        blocks.append(np.concatenate(mixed, axis=2))
    return np.concatenate(blocks, axis=1)
