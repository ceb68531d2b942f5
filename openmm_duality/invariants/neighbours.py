"""Neighbours of each agent within the cutoff, in one padded table per neighbour species.

Index suffixes: i agent, s slot of a neighbour, x Cartesian.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from openmm_duality.geometry.arrays import FloatArray, IntArray
from openmm_duality.geometry.cells import check_cell
from openmm_duality.geometry.pairs import pair_vectors_within

CLOSEST = 2e-4  # of the cutoff; shorter distances count as this, so that losses and forces are finite at any distance


@dataclass(frozen=True)
class NeighbourTable:
    """Neighbours of one species around each of N agents, padded to the largest number J of neighbours.

    In a cell narrower than twice the cutoff an atom is the neighbour of an agent once per image, an agent its own.

    Parameters
    ----------
    indices : array of int, shape (N, J)
        Index of the neighbour; in empty slots, which are at the cutoff, that of the agent itself.
    displacements : array, shape (N, J, 3)
        q_j − q_i in nm, to the image that is the neighbour.
    distances : array, shape (N, J)
        Distances in nm; in empty slots the cutoff, where every radial function is zero.
    """

    indices: IntArray
    displacements: FloatArray
    distances: FloatArray

    @cached_property
    def directions(self) -> FloatArray:
        """Unit vectors u from agents to neighbours, shape (N, J, 3)."""
        return self.displacements / self.distances[..., None]

    def of(self, agents: IntArray) -> NeighbourTable:
        """Table of some of the agents."""
        return NeighbourTable(self.indices[agents], self.displacements[agents], self.distances[agents])

    def within(self, distance: float) -> NeighbourTable:
        """Table of the neighbours nearer than a distance in nm, with as few slots as they need."""
        near = self.distances < distance
        wanted = int(near.sum(axis=1).max(initial=0))
        if wanted == near.shape[1]:
            return self
        slots = np.argsort(~near, axis=1, kind="stable")[:, :wanted]  # the near ones, in their order, come first
        rows = np.arange(len(near))[:, None]
        return NeighbourTable(self.indices[rows, slots], self.displacements[rows, slots], self.distances[rows, slots])

    def displaced(self, shifts: FloatArray) -> NeighbourTable:
        """Table with displacements changed by shifts, which broadcast to (N, J, 3), in nm."""
        displacements = self.displacements + shifts
        return NeighbourTable(self.indices, displacements, np.linalg.norm(displacements, axis=-1))


def find_neighbours(
    positions: FloatArray, cell: FloatArray | None, species_index: IntArray, n_species: int, cutoff: float
) -> list[NeighbourTable]:
    """Find all neighbours within the cutoff, one `NeighbourTable` per neighbour species.

    Parameters
    ----------
    positions : array, shape (N, 3)
        Positions in nm, wrapped or not.
    cell : array, shape (3, 3), or None
        Rows are the cell vectors in nm; None without periodic boundaries.
    species_index : array of int, shape (N,)
        Species of each atom, 0 … n_species − 1.
    cutoff : float
        Cutoff radius in nm.

    Raises
    ------
    DualityError
        If the vectors of the cell span no volume.
    """
    check_cell(cell)
    i, j, distances, displacements = pair_vectors_within(positions, cell, cutoff, full_list=True)
    return neighbour_tables(i, j, distances, displacements, species_index[j], len(positions), n_species, cutoff)


def neighbour_tables(
    i: IntArray,
    j: IntArray,
    distances: FloatArray,
    displacements: FloatArray,
    species_of_j: IntArray,
    n_agents: int,
    n_species: int,
    cutoff: float,
) -> list[NeighbourTable]:
    """Sort pairs into one `NeighbourTable` per neighbour species.

    Parameters
    ----------
    i, j : array of int, shape (P,)
        Agents, in increasing order, and their neighbours.
    distances : array, shape (P,)
        In nm.
    displacements : array, shape (P, 3)
        q_j − q_i in nm.
    species_of_j : array of int, shape (P,)
        Species of the neighbours.
    n_agents, n_species : int
    cutoff : float
        Distance in the empty slots, in nm.
    """
    distances = np.maximum(distances, CLOSEST * cutoff)
    return [
        _padded(i[chosen], j[chosen], displacements[chosen], distances[chosen], n_agents, cutoff)
        for chosen in (species_of_j == b for b in range(n_species))
    ]


def _padded(
    i: IntArray, j: IntArray, displacements: FloatArray, distances: FloatArray, n_atoms: int, cutoff: float
) -> NeighbourTable:
    counts = np.bincount(i, minlength=n_atoms)
    slot = np.arange(len(i)) - np.repeat(np.cumsum(counts) - counts, counts)
    shape = (n_atoms, int(counts.max(initial=0)))
    table = NeighbourTable(
        indices=np.repeat(np.arange(n_atoms)[:, None], shape[1], axis=1),
        displacements=np.tile(np.array([cutoff, 0.0, 0.0]), (*shape, 1)),
        distances=np.full(shape, cutoff),
    )
    table.indices[i, slot] = j
    table.displacements[i, slot] = displacements
    table.distances[i, slot] = distances
    return table
