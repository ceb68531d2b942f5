"""Molecules found in the data: nobody tells which atoms are bonded.

A pair of species is bonded when its distances have a gap behind the first peak and every atom keeps its number of
neighbours inside that gap. So O–H in water is bonded; O–O is not (no gap, and the number of neighbours fluctuates).
H–H in water has a gap too, but every pair inside it is in one molecule already through the shorter O–H bonds, so it
says nothing new and is left out. Ions of a crystal keep their neighbours and are found to be one large molecule.

Index suffixes: t frame, i atom, r grid of distances, b neighbour species.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations_with_replacement

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_matrix, csgraph

from openmm_duality.reference.cells import minimum_image
from openmm_duality.reference.distances import pairs_within
from openmm_duality.reference.frames import FloatArray, Frames, IntArray, evenly_spaced

BondLengths = dict[tuple[str, str], float]
BoolArray = npt.NDArray[np.bool_]

_SEARCH = 0.35  # nm; no covalent bond of a molecule is longer
_STEP = 0.0025  # nm, of the grid of distances
_WINDOW = 4  # steps: a gap is judged over 0.01 nm
_FRAMES = 50  # evenly spaced; more do not sharpen the gap
_ATOMS = 20_000  # in all frames together; bounds the memory for large systems
_SPARSE = 0.01  # of the pairs inside may lie in the window
_UNSTEADY = 0.03  # of the neighbours inside may be one too many or too few
_IMPLIED = 0.99  # of the pairs inside are in one molecule already
_MANY_FRAMES = 10  # from here on, an atom's own usual number of neighbours is known


def bond_lengths(frames: Frames) -> BondLengths:
    """The longest bond of every pair of species that is bonded: the first minimum of the pair distances.

    Parameters
    ----------
    frames : Frames
        At most 50 frames, evenly spaced, are looked at (fewer of large systems). One is enough for a liquid.

    Returns
    -------
    dict
        From the pair of species, in alphabetical order, to a length in nm, in the middle of the gap. Empty where
        there are no molecules, as in argon or a molten salt.
    """
    sample = frames[_spread(frames)]
    candidates: BondLengths = {}
    for pair in combinations_with_replacement(frames.kinds, 2):
        length = _gap(*_neighbour_counts(sample, *pair))
        if length is not None:
            candidates[pair] = length
    lengths: BondLengths = {}
    for pair in sorted(candidates, key=lambda p: candidates[p]):
        if not _implied(sample, lengths, pair, candidates[pair]):
            lengths[pair] = candidates[pair]
    return lengths


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
        As `bond_lengths` gives them, in nm.

    Returns
    -------
    array of int, shape (n_bonds, 2)
        The smaller index first, in ascending order.
    """
    if not lengths:
        return np.empty((0, 2), dtype=np.int64)
    kinds, number = np.unique(np.asarray(species), return_inverse=True)
    longest = np.zeros((len(kinds), len(kinds)))
    for (a, b), length in lengths.items():
        longest[np.ix_(kinds == a, kinds == b)] = longest[np.ix_(kinds == b, kinds == a)] = length
    i, j, d = pairs_within(positions, cell, max(lengths.values()))
    bonded = (d < longest[number[i], number[j]]) & (i != j)
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
    return _components(bonded_pairs(positions, species, cell, lengths), len(species))


def molecules_of(frames: Frames, lengths: BondLengths | None = None) -> list[IntArray]:
    """The molecules of a set of frames: atoms connected by pairs that are bonded in more than half of the frames.

    So a frame in which a bond is stretched beyond its usual length does not break the molecule.

    Parameters
    ----------
    frames : Frames
        At most 50 frames, evenly spaced, are looked at (fewer of large systems).
    lengths : dict, optional
        In nm; found in the frames themselves by default.

    Returns
    -------
    list of arrays of int
        As for `find_molecules`.
    """
    lengths = bond_lengths(frames) if lengths is None else lengths
    n = frames.n_atoms
    sample = _spread(frames)
    found = [bonded_pairs(frames.positions[t], frames.species, frames.cell(t), lengths) for t in sample]
    keys, times = np.unique(np.concatenate([pairs[:, 0] * n + pairs[:, 1] for pairs in found]), return_counts=True)
    usual = keys[times > 0.5 * len(sample)]
    return _components(np.stack([usual // n, usual % n], axis=1), n)


def make_whole(positions: FloatArray, bonds: IntArray, cell: FloatArray | None) -> FloatArray:
    """Positions in which no molecule is cut by the cell: every atom is put next to the one it is bonded to.

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
    heads = np.array([atoms[0] for atoms in _components(bonds, n)])
    # Atom n is a root that joins the first atoms of all molecules, so that one search visits them all.
    edges = np.concatenate([bonds, np.stack([heads, np.full_like(heads, n)], axis=1)])
    graph = coo_matrix((np.ones(len(edges)), edges.T), shape=(n + 1, n + 1)).tocsr()
    depth, before = csgraph.dijkstra(graph, directed=False, unweighted=True, indices=n, return_predecessors=True)
    whole = positions.copy()
    for level in range(2, int(depth[np.isfinite(depth)].max()) + 1):
        atoms = np.flatnonzero(depth[:n] == level)
        whole[atoms] = whole[before[atoms]] + minimum_image(positions[atoms] - positions[before[atoms]], cell)
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
    together = np.add.reduceat(forces[..., np.concatenate(molecules), :], starts, axis=-2)
    return np.asarray(together, dtype=np.float64)


def _spread(frames: Frames) -> IntArray:
    count = int(np.clip(_ATOMS // frames.n_atoms, 1, _FRAMES))
    return evenly_spaced(len(frames), count)


def component_labels(bonds: IntArray, n: int) -> IntArray:
    """The number of the connected part that each of n atoms is in, from bonds of shape (n_bonds, 2)."""
    graph = coo_matrix((np.ones(len(bonds)), bonds.T), shape=(n, n))
    return np.asarray(csgraph.connected_components(graph, directed=False)[1], dtype=np.int64)


def _components(bonds: IntArray, n: int) -> list[IntArray]:
    label = component_labels(bonds, n)
    first, sizes = np.unique(label, return_index=True, return_counts=True)[1:]
    parts = np.split(np.argsort(label, kind="stable"), np.cumsum(sizes)[:-1])
    return [parts[m].astype(np.int64) for m in np.argsort(first)]


def _neighbour_counts(frames: Frames, a: str, b: str) -> tuple[list[IntArray], BoolArray]:
    """For both ends of the pair, the number of neighbours closer than every r, shape (T, N_species, R); distances seen.

    The second array, shape (R,), says where at least one distance lies below r.
    """
    grid = round(_SEARCH / _STEP)
    species = np.array(frames.species)
    counts = np.zeros((2, len(frames), frames.n_atoms, grid), dtype=np.int64)
    for t in range(len(frames)):
        i, j, d = pairs_within(frames.positions[t], frames.cell(t), _SEARCH)
        r = np.minimum((d / _STEP).astype(np.int64), grid - 1)
        for x, y in ((i, j), (j, i)):
            chosen = (species[x] == a) & (species[y] == b)
            np.add.at(counts[0, t], (x[chosen], r[chosen]), 1)
            np.add.at(counts[1, t], (y[chosen], r[chosen]), 1)
    inside = counts.cumsum(axis=-1)
    ends = [inside[0][:, species == a], inside[1][:, species == b]]
    return ends, ends[0].any(axis=(0, 1))


def _gap(ends: list[IntArray], seen: BoolArray) -> float | None:
    """The middle of the first gap behind which all atoms keep their number of neighbours, or None."""
    inside = ends[0].sum(axis=(0, 1)).astype(np.float64)
    if not seen.any():
        return None
    half = _WINDOW // 2
    window = np.full(len(inside), np.inf)
    window[half:-half] = inside[_WINDOW:] - inside[:-_WINDOW]
    unsteady = np.minimum.reduce([_unsteadiness(end) for end in ends])
    good = seen & (window <= _SPARSE * inside) & (unsteady <= _UNSTEADY)
    if not good.any():
        return None
    first = int(np.argmax(good))
    behind = np.flatnonzero(~good[first:])
    last = first + int(behind[0]) - 1 if len(behind) else len(good) - 1 - half
    run = np.arange(first, last + 1)
    # The emptiest place; where a whole stretch is empty, its middle.
    emptiest = run[window[run] == window[run].min()]
    return float((0.5 * (emptiest[0] + emptiest[-1]) + 1) * _STEP)


def _unsteadiness(inside: IntArray) -> FloatArray:
    """Neighbours too many or too few, as a fraction of all, at every r; `inside` has shape (T, N, R).

    The expected number is the usual one (the median) of the species or, with many frames, of the atom itself.
    """
    total = np.maximum(inside.sum(axis=(0, 1)), 1)
    fractions = [np.abs(inside - np.median(inside, axis=(0, 1))).sum(axis=(0, 1)) / total]
    if len(inside) >= _MANY_FRAMES:
        fractions.append(np.abs(inside - np.median(inside, axis=0)).sum(axis=(0, 1)) / total)
    return np.asarray(np.minimum.reduce(fractions), dtype=np.float64)


def _implied(frames: Frames, shorter: BondLengths, pair: tuple[str, str], length: float) -> bool:
    if not shorter:
        return False
    same = total = 0
    for t in range(len(frames)):
        label = np.empty(frames.n_atoms, dtype=np.int64)
        for m, atoms in enumerate(find_molecules(frames.positions[t], frames.species, frames.cell(t), shorter)):
            label[atoms] = m
        pairs = bonded_pairs(frames.positions[t], frames.species, frames.cell(t), {pair: length})
        same += int((label[pairs[:, 0]] == label[pairs[:, 1]]).sum())
        total += len(pairs)
    return total == 0 or same >= _IMPLIED * total
