"""Hydrogen bonds by geometry: X–H···Y with X, Y of N, O, F in different molecules, X···Y below 3.5 Å and the angle
H–X···Y below 30° (Luzar and Chandler, Nature 379, 55 (1996)). Which X carries which H is found in the data.
"""

from __future__ import annotations

import numpy as np

from openmm_duality.geometry.arrays import FloatArray, IntArray
from openmm_duality.observables.bonds import Bonds
from openmm_duality.observables.neighbours import Frame

DISTANCE = 0.35  # nm, X···Y
ANGLE = 30.0  # degrees, H–X···Y
ELECTRONEGATIVE = ("N", "O", "F")


class HydrogenBonds:
    """Number of hydrogen bonds that a molecule takes part in, as donor or acceptor.

    Parameters
    ----------
    species : tuple of str, length N
        The species of every atom.
    bonds : Bonds
        Which hydrogen is bonded to what.
    n_blocks : int
        Number of blocks.
    """

    def __init__(self, species: tuple[str, ...], bonds: Bonds, n_blocks: int) -> None:
        kind = np.array(species)
        self._molecule = bonds.molecule
        self._polar = np.isin(kind, ELECTRONEGATIVE)
        both = np.concatenate([bonds.pairs, bonds.pairs[:, ::-1]])
        self._donors = both[self._polar[both[:, 0]] & (kind[both[:, 1]] == "H")]
        self._hydrogens = _table(self._donors, len(species))
        self.molecules = len(np.unique(bonds.molecule[self._polar]))
        self.sums = np.zeros(n_blocks)

    @property
    def possible(self) -> bool:
        """Whether there is any donor."""
        return len(self._donors) > 0

    def add(self, b: int, frame: Frame) -> None:
        """Count the hydrogen bonds per molecule of one frame, each for both its ends."""
        self.sums[b] += 2 * len(self.find(frame)) / self.molecules

    def find(self, frame: Frame) -> IntArray:
        """The hydrogen bonds of one frame as atoms X, H, Y, shape (n, 3)."""
        i, j = frame.i, frame.j
        near = (frame.r < DISTANCE) & self._polar[i] & self._polar[j] & (self._molecule[i] != self._molecule[j])
        x, y = np.concatenate([i[near], j[near]]), np.concatenate([j[near], i[near]])
        towards = np.concatenate([frame.vectors[near], -frame.vectors[near]])
        found = [np.empty((0, 3), dtype=np.int64)]
        for column in self._hydrogens.T:
            has = column[x] >= 0
            triples = np.stack([x[has], column[x[has]], y[has]], axis=1)
            arms = frame.between(triples)
            found.append(triples[_cosine(arms, towards[has]) > np.cos(np.radians(ANGLE))])
        return np.concatenate(found)


def _table(donors: IntArray, n_atoms: int) -> IntArray:
    """The hydrogens of every atom, shape (N, most), filled up with -1."""
    most = int(np.bincount(donors[:, 0]).max()) if len(donors) else 0
    table = np.full((n_atoms, most), -1, dtype=np.int64)
    for x, h in donors.tolist():
        table[x, np.argmax(table[x] < 0)] = h
    return table


def _cosine(a: FloatArray, b: FloatArray) -> FloatArray:
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.asarray(np.einsum("nx,nx->n", a, b) / lengths)
