"""Bonds followed from frame to frame, with hysteresis, where atoms may change their partners.

A bond is made at a distance at which it is certain and broken only beyond the longest one that covalent radii allow, so
that a vibration neither makes nor breaks it. An atom of a terminal species, as hydrogen in water, has one bond at a
time: it goes over to another partner that is nearer by a margin than the one it has, so that a proton that rattles
half-way between two oxygens stays with the one it came from.

Index suffixes: i atom, p pair.
"""

from __future__ import annotations

from collections.abc import Sequence, Set

import numpy as np

from openmm_duality.geometry.arrays import BoolArray, FloatArray, IntArray
from openmm_duality.geometry.bonding import BondLengths, covalent_limit, longest_bonds
from openmm_duality.geometry.molecules import length_matrix
from openmm_duality.geometry.pairs import pairs_within

MARGIN = 0.02  # nm, by which another partner has to be nearer
_CERTAIN = 1.25 / 1.4  # of the longest bond: 1.25 times the sum of the covalent radii


def certain_lengths(lengths: BondLengths) -> BondLengths:
    """Distance in nm below which a new bond is made: the bond length, but at most 1.25 times the covalent radii."""
    limits = {pair: covalent_limit(pair) for pair in lengths}
    return {
        pair: length if (limit := limits[pair]) is None else min(length, _CERTAIN * limit)
        for pair, length in lengths.items()
    }


class BondTracker:
    """Bonds of one frame after the other.

    Parameters
    ----------
    species : sequence of str, length N
        The species of every atom.
    lengths : dict
        The bond length of every pair of species that is bonded, in nm.
    terminal : set of str
        Species whose atoms have one bond at a time.
    """

    def __init__(self, species: Sequence[str], lengths: BondLengths, terminal: Set[str]) -> None:
        certain = certain_lengths(lengths)
        broken = {pair: max(length, certain[pair] / _CERTAIN) for pair, length in longest_bonds(lengths).items()}
        self._index, self._first = length_matrix(species, lengths)
        self._certain, self._broken = (length_matrix(species, of)[1] for of in (certain, broken))
        self._reach = max(broken.values(), default=0.0)
        self._terminal = np.isin(np.asarray(species), sorted(terminal))
        self._held: IntArray | None = None

    def update(self, positions: FloatArray, cell: FloatArray | None) -> IntArray:
        """The bonds of the next frame.

        Parameters
        ----------
        positions : array, shape (N, 3)
            In nm, wrapped or not.
        cell : array, shape (3, 3), or None
            In nm.

        Returns
        -------
        array of int, shape (n_bonds, 2)
            The smaller index first, in ascending order.
        """
        n = len(self._index)
        keys, d = self._candidates(positions, cell)
        i, j = np.divmod(keys, n)
        a, b = self._index[i], self._index[j]
        held = np.zeros(len(keys), dtype=bool) if self._held is None else np.isin(keys, self._held)
        below = self._first if self._held is None else self._certain
        preference = d - MARGIN * held
        bonded = self._chosen(i, j, preference, held | (d < below[a, b]))
        # what has no bond left takes the nearest partner that is free, up to the longest bond
        full = self._terminal.copy()
        full[np.setdiff1d(np.arange(n), np.concatenate([i[bonded], j[bonded]]))] = False
        alone = np.ones(n, dtype=bool)
        alone[i[bonded]] = alone[j[bonded]] = False
        free = (alone[i] | alone[j]) & ~full[i] & ~full[j]
        nearest = np.full(n, np.inf)
        for end in (i, j):
            np.minimum.at(nearest, end[free], d[free])
        free &= (alone[i] & (d == nearest[i])) | (alone[j] & (d == nearest[j]))
        bonded = self._chosen(i, j, preference, bonded | free)
        self._held = keys[bonded]
        return np.stack([i[bonded], j[bonded]], axis=1)

    def _candidates(self, positions: FloatArray, cell: FloatArray | None) -> tuple[IntArray, FloatArray]:
        """Pairs that may be bonded, by the nearest image, as i N + j with i < j in ascending order; distances in nm."""
        if not self._reach:
            return np.empty(0, dtype=np.int64), np.empty(0)
        i, j, d = pairs_within(positions, cell, self._reach)
        near = (d <= self._broken[self._index[i], self._index[j]]) & (i != j)
        i, j, d = i[near], j[near], d[near]
        keys = np.minimum(i, j) * len(self._index) + np.maximum(i, j)
        order = np.lexsort((d, keys))
        unique, first = np.unique(keys[order], return_index=True)
        return unique, d[order][first]

    def _chosen(self, i: IntArray, j: IntArray, preference: FloatArray, bonded: BoolArray) -> BoolArray:
        """Of these bonds those that are the nearest ones of their terminal atoms, shape (P,)."""
        best = np.full(len(self._index), np.inf)
        for end in (i, j):
            ends = bonded & self._terminal[end]
            np.minimum.at(best, end[ends], preference[ends])
        own = [~self._terminal[end] | (preference <= best[end]) for end in (i, j)]
        return np.asarray(bonded & own[0] & own[1])
