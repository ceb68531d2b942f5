"""Molecules: bonds by distance, their connected components, unwrapped positions and net forces."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.sparse import coo_matrix, csgraph

from openmm_duality.geometry.arrays import FloatArray, IntArray
from openmm_duality.geometry.cells import minimum_image
from openmm_duality.geometry.pairs import pairs_within

BondLengths = dict[tuple[str, str], float]
"""From a pair of species, in alphabetical order, to the longest bond in nm."""


def bonded_pairs(
    positions: FloatArray, species: Sequence[str], cell: FloatArray | None, lengths: BondLengths
) -> IntArray:
    """The pairs of atoms closer than the bond length of their species.

    Parameters
    ----------
    positions : array, shape (N, 3)
        In nm.
    species : sequence of str, length N
        The species of every atom.
    cell : array, shape (3, 3), or None
        In nm.
    lengths : dict
        The longest bond of every pair of species that is bonded, in nm.

    Returns
    -------
    array of int, shape (n_bonds, 2)
        The smaller index first, in ascending order.
    """
    if not lengths:
        return np.empty((0, 2), dtype=np.int64)
    distinct, index = np.unique(np.asarray(species), return_inverse=True)
    longest = np.zeros((len(distinct), len(distinct)))
    for (a, b), length in lengths.items():
        longest[np.ix_(distinct == a, distinct == b)] = longest[np.ix_(distinct == b, distinct == a)] = length
    i, j, d = pairs_within(positions, cell, max(lengths.values()))
    bonded = (d < longest[index[i], index[j]]) & (i != j)
    pairs = np.stack([np.minimum(i, j), np.maximum(i, j)], axis=1)[bonded]
    return np.asarray(np.unique(pairs, axis=0), dtype=np.int64).reshape(-1, 2)


def find_molecules(
    positions: FloatArray, species: Sequence[str], cell: FloatArray | None, lengths: BondLengths
) -> list[IntArray]:
    """The molecules of one configuration: atoms connected by bonds.

    Parameters
    ----------
    positions, species, cell, lengths
        As for `bonded_pairs`.

    Returns
    -------
    list of arrays of int
        The atoms of every molecule in ascending order; molecules in the order of their first atoms. An atom without
        bonds is a molecule of its own.
    """
    return components(bonded_pairs(positions, species, cell, lengths), len(species))


def make_whole(positions: FloatArray, bonds: IntArray, cell: FloatArray | None) -> FloatArray:
    """Positions with every molecule unwrapped: each atom next to the one it is bonded to.

    The first atom of every molecule stays where it is.

    Parameters
    ----------
    positions : array, shape (N, 3)
        In nm.
    bonds : array of int, shape (n_bonds, 2)
        As `bonded_pairs` gives them.
    cell : array, shape (3, 3), or None
        In nm; bonds must be shorter than half its shortest width.

    Returns
    -------
    array, shape (N, 3)
        In nm.
    """
    if cell is None or not len(bonds):
        return positions.copy()
    n = len(positions)
    heads = np.array([atoms[0] for atoms in components(bonds, n)])
    # Atom n is a root that joins the first atoms of all molecules, so that one search visits them all.
    edges = np.concatenate([bonds, np.stack([heads, np.full_like(heads, n)], axis=1)])
    graph = coo_matrix((np.ones(len(edges)), edges.T), shape=(n + 1, n + 1)).tocsr()
    depth, parent = csgraph.dijkstra(graph, directed=False, unweighted=True, indices=n, return_predecessors=True)
    whole = positions.copy()
    for level in range(2, int(depth[np.isfinite(depth)].max()) + 1):
        atoms = np.flatnonzero(depth[:n] == level)
        whole[atoms] = whole[parent[atoms]] + minimum_image(positions[atoms] - positions[parent[atoms]], cell)
    return whole


def molecular_forces(forces: FloatArray, molecules: Sequence[IntArray]) -> FloatArray:
    """The net force on every molecule.

    Parameters
    ----------
    forces : array, shape (..., N, 3)
        In kJ/mol/nm.
    molecules : sequence of arrays of int
        The atoms of every molecule; every atom in one of them.

    Returns
    -------
    array, shape (..., n_molecules, 3)
        In kJ/mol/nm.
    """
    starts = np.cumsum([0, *(len(atoms) for atoms in molecules[:-1])])
    sums = np.add.reduceat(forces[..., np.concatenate(molecules), :], starts, axis=-2)
    return np.asarray(sums, dtype=np.float64)


def component_labels(bonds: IntArray, n: int) -> IntArray:
    """Index of the connected component of each of n atoms, from bonds of shape (n_bonds, 2)."""
    graph = coo_matrix((np.ones(len(bonds)), bonds.T), shape=(n, n))
    return np.asarray(csgraph.connected_components(graph, directed=False)[1], dtype=np.int64)


def components(bonds: IntArray, n: int) -> list[IntArray]:
    """The atoms of every connected component of n atoms, in the order of their first atoms."""
    label = component_labels(bonds, n)
    first, sizes = np.unique(label, return_index=True, return_counts=True)[1:]
    members = np.split(np.argsort(label, kind="stable"), np.cumsum(sizes)[:-1])
    return [members[m].astype(np.int64) for m in np.argsort(first)]
