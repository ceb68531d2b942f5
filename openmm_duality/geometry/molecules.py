"""Molecules: bonds by distance, their connected components, unwrapped positions and net forces."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.sparse import coo_matrix, csgraph

from openmm_duality.geometry.arrays import BoolArray, FloatArray, IntArray
from openmm_duality.geometry.bonding import BondLengths, longest_bonds
from openmm_duality.geometry.cells import minimum_image
from openmm_duality.geometry.pairs import pair_vectors_within, pairs_within

_SAME_PLACE = 1e-6  # nm, give or take what rounding leaves
_TENTH = 0.071  # nm: a bond longer by this has a tenth of the order (Pauling, J. Am. Chem. Soc. 69, 542 (1947))


def bonded_pairs(
    positions: FloatArray, species: Sequence[str], cell: FloatArray | None, lengths: BondLengths
) -> IntArray:
    """The pairs of atoms closer than the bond length of their species, and the nearest ones of atoms without those.

    The latter up to the longest bond (see `longest_bonds`), or where the orders of several longer ones add up to that
    of the longest. So a bond that is stretched is still one, and a proton half-way between two oxygens is bonded.

    Parameters
    ----------
    positions : array, shape (N, 3)
        In nm.
    species : sequence of str, length N
        The species of every atom.
    cell : array, shape (3, 3), or None
        In nm.
    lengths : dict
        The bond length of every pair of species that is bonded, in nm.

    Returns
    -------
    array of int, shape (n_bonds, 2)
        The smaller index first, in ascending order.
    """
    if not lengths:
        return np.empty((0, 2), dtype=np.int64)
    longest = longest_bonds(lengths)
    index, below = length_matrix(species, lengths)
    _, reach = length_matrix(species, longest)
    i, j, d = pairs_within(positions, cell, max(longest.values()) + _TENTH)
    near = np.flatnonzero((reach[index[i], index[j]] > 0.0) & (i != j))
    near = near[np.argsort(d[near], kind="stable")]
    i, j, d = i[near], j[near], d[near]
    order = 10.0 ** ((reach[index[i], index[j]] - d) / _TENTH)  # in units of that of the longest bond
    ends = np.concatenate([i, j])
    total = np.bincount(ends, np.tile(order, 2), len(species))
    chosen = d < below[index[i], index[j]]
    alone = np.ones(len(species), dtype=bool)
    alone[i[chosen]] = alone[j[chosen]] = False
    # in the order of the distances, so that the first pair of an atom is the nearest
    number, first = np.arange(len(i)), np.full(len(species), len(i))
    np.minimum.at(first, ends, np.tile(number, 2))
    alone &= total >= 1.0
    chosen |= (alone[i] & (first[i] == number)) | (alone[j] & (first[j] == number))
    pairs = np.stack([np.minimum(i, j), np.maximum(i, j)], axis=1)[chosen]
    return np.asarray(np.unique(pairs, axis=0), dtype=np.int64).reshape(-1, 2)


def length_matrix(species: Sequence[str], lengths: BondLengths) -> tuple[IntArray, FloatArray]:
    """Species index of every atom, shape (N,), and the lengths by pair of them, shape (S, S), 0 where there is none."""
    distinct, index = np.unique(np.asarray(species), return_inverse=True)
    matrix = np.zeros((len(distinct), len(distinct)))
    for (a, b), length in lengths.items():
        matrix[np.ix_(distinct == a, distinct == b)] = matrix[np.ix_(distinct == b, distinct == a)] = length
    return index.astype(np.int64), matrix


def in_networks(
    positions: FloatArray, species: Sequence[str], cell: FloatArray | None, lengths: BondLengths
) -> BoolArray:
    """Whether each atom is in a network: connected by bonds to periodic images of itself, as in a crystal.

    Parameters
    ----------
    positions, species, cell, lengths
        As for `bonded_pairs`.

    Returns
    -------
    array of bool, shape (N,)
    """
    found = np.zeros(len(species), dtype=bool)
    if cell is None or not lengths:
        return found
    i, j, vectors = _bonded(positions, species, cell, lengths)
    pairs, first = np.unique(np.stack([i, j], axis=1), axis=0, return_index=True)
    label = component_labels(pairs, len(species))
    whole = _unwrapped(positions, pairs, vectors[first])
    # a bond that does not join the atoms where the others have put them goes around the cell
    around = np.linalg.norm(whole[j] - whole[i] - vectors, axis=1) > _SAME_PLACE
    found[np.unique(label[i[around]])] = True
    return np.asarray(found[label])


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
    return _unwrapped(positions, bonds, minimum_image(positions[bonds[:, 1]] - positions[bonds[:, 0]], cell))


def _bonded(
    positions: FloatArray, species: Sequence[str], cell: FloatArray | None, lengths: BondLengths
) -> tuple[IntArray, IntArray, FloatArray]:
    """Bonds of all images, once each: first atoms, second atoms, and the vectors between them."""
    index, longest = length_matrix(species, lengths)
    i, j, d, vectors = pair_vectors_within(positions, cell, max(lengths.values()))
    bonded = d < longest[index[i], index[j]]
    return i[bonded], j[bonded], vectors[bonded]


def _unwrapped(positions: FloatArray, bonds: IntArray, vectors: FloatArray) -> FloatArray:
    """Positions in which every atom is where one of its bonds, shape (n_bonds, 2), puts it by its vector."""
    n = len(positions)
    heads = np.array([atoms[0] for atoms in components(bonds, n)])
    # Atom n is a root that joins the first atoms of all molecules, so that one search visits them all.
    edges = np.concatenate([bonds, np.stack([heads, np.full_like(heads, n)], axis=1)])
    graph = coo_matrix((np.ones(len(edges)), edges.T), shape=(n + 1, n + 1)).tocsr()
    depth, parent = csgraph.dijkstra(graph, directed=False, unweighted=True, indices=n, return_predecessors=True)
    ends = np.concatenate([bonds, bonds[:, ::-1]])
    order = np.lexsort(ends.T)  # by the second atom, then by the first
    keys, along = (ends @ np.array([1, n]))[order], np.concatenate([vectors, -vectors])[order]
    whole = positions.copy()
    for level in range(2, int(depth[np.isfinite(depth)].max()) + 1):
        atoms = np.flatnonzero(depth[:n] == level)
        whole[atoms] = whole[parent[atoms]] + along[np.searchsorted(keys, parent[atoms] + n * atoms)]
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
