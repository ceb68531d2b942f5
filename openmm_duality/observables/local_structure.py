"""The neighbourhood of atoms in one frame: tetrahedral order and hydrogen bonds.

The tetrahedral order of an atom is q = 1 − 3/8 Σ_{j<k} (cos ψ_jk + 1/3)² over the six angles between its four nearest
neighbours: 1 in diamond, 0 on average for neighbours in random directions (Errington and Debenedetti, Nature 409, 318
(2001)). Neighbours are of the atom's own species, which is any but hydrogen.

Hydrogen bonds go by geometry: X–H···Y with X, Y of N, O, F in different molecules, X···Y below 3.5 Å and the angle
H–X···Y below 30° (Luzar and Chandler, Nature 379, 55 (1996)). Which X carries which H is found in the data.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from openmm_duality.geometry.arrays import FloatArray, IntArray
from openmm_duality.geometry.cells import minimum_image
from openmm_duality.geometry.pairs import pair_vectors_within
from openmm_duality.observables.bonds import Bonds
from openmm_duality.observables.curves import Histogram
from openmm_duality.observables.trajectory import counts, species_codes

NEIGHBOURS = 4
ORDER_BINS = np.linspace(-1.0, 1.0, 101)
ANGLE_BINS = np.linspace(0.0, 180.0, 91)  # degrees
_PAIRS = np.array(list(combinations(range(NEIGHBOURS), 2)))

DISTANCE = 0.35  # nm, X···Y of a hydrogen bond
ANGLE = 30.0  # degrees, H–X···Y
ELECTRONEGATIVE = ("N", "O", "F")


@dataclass(frozen=True)
class Frame:
    """One frame and its pairs within some distance, each once, found once for every analysis that needs them.

    Parameters
    ----------
    positions : array, shape (N, 3)
        In nm.
    cell : array, shape (3, 3), or None
        In nm.
    i, j : array of int, shape (P,)
        Atoms of the pairs; beyond half the width of the cell a pair appears once per image.
    r : array, shape (P,)
        Distances in nm.
    vectors : array, shape (P, 3)
        From i to j in nm.
    """

    positions: FloatArray
    cell: FloatArray | None
    i: IntArray
    j: IntArray
    r: FloatArray
    vectors: FloatArray

    def between(self, pairs: IntArray, ends: tuple[int, int] = (0, 1)) -> FloatArray:
        """Vectors between two columns of index tuples, shape (n, 3) in nm, by the minimum image."""
        a, b = pairs[:, ends[0]], pairs[:, ends[1]]
        return minimum_image(self.positions[b] - self.positions[a], self.cell)

    @staticmethod
    def of(positions: FloatArray, cell: FloatArray | None, reach: float) -> Frame:
        """The frame with its pairs within a distance in nm."""
        return Frame(positions, cell, *pair_vectors_within(positions, cell, reach))


class TetrahedralOrder:
    """Tetrahedral order and the angles behind it, for every species but hydrogen with five atoms or more.

    Parameters
    ----------
    species : tuple of str, length N
        The species of every atom.
    n_blocks : int
        Number of blocks.
    """

    def __init__(self, species: tuple[str, ...], n_blocks: int) -> None:
        number = counts(species)
        self.names = [name for name in number if name != "H" and number[name] > NEIGHBOURS]
        self._codes = [list(number).index(name) for name in self.names]
        self._code = species_codes(species)
        self.order = Histogram(self.names, ORDER_BINS, n_blocks)
        self.angles = Histogram([f"{name}-{name}-{name}" for name in self.names], ANGLE_BINS, n_blocks)

    def add(self, b: int, frame: Frame) -> None:
        """Count one frame."""
        for s, code in enumerate(self._codes):
            both = (self._code[frame.i] == code) & (self._code[frame.j] == code)
            cosines = nearest_cosines(frame.i[both], frame.j[both], frame.r[both], frame.vectors[both])
            if not len(cosines):
                continue
            q = 1 - 3 / 8 * ((cosines + 1 / 3) ** 2).sum(axis=1)
            self.order.add(b, q, np.full(len(q), s))
            degrees = np.degrees(np.arccos(np.clip(cosines.ravel(), -1, 1)))
            self.angles.add(b, degrees, np.full(len(degrees), s))


def nearest_cosines(i: IntArray, j: IntArray, r: FloatArray, vectors: FloatArray) -> FloatArray:
    """Cosines of the six angles between the four nearest neighbours of every atom that has four in these pairs.

    Parameters
    ----------
    i, j : array of int, shape (P,)
        Pairs, each once.
    r : array, shape (P,)
        In nm.
    vectors : array, shape (P, 3)
        From i to j in nm.

    Returns
    -------
    array, shape (n_atoms, 6)
    """
    centre, distance = np.concatenate([i, j]), np.concatenate([r, r])
    directions = np.concatenate([vectors, -vectors]) / distance[:, None]
    rows = np.lexsort((distance, centre))
    starts, sizes = np.unique(centre[rows], return_index=True, return_counts=True)[1:]
    nearest = rows[starts[sizes >= NEIGHBOURS, None] + np.arange(NEIGHBOURS)]
    u = directions[nearest]
    return np.asarray(np.einsum("npx,npx->np", u[:, _PAIRS[:, 0]], u[:, _PAIRS[:, 1]]))


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
        named = np.array(species)
        self._polar, self._hydrogen = np.isin(named, ELECTRONEGATIVE), named == "H"
        self.sums = np.zeros(n_blocks)
        self.take(bonds)

    def take(self, bonds: Bonds) -> None:
        """Go on with other bonds."""
        self._molecule = bonds.molecule
        both = np.concatenate([bonds.pairs, bonds.pairs[:, ::-1]])
        self._donors = both[self._polar[both[:, 0]] & self._hydrogen[both[:, 1]]]
        self._hydrogens = _table(self._donors, len(self._polar))
        self.molecules = len(np.unique(bonds.molecule[self._polar]))

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
    donors = donors[np.argsort(donors[:, 0], kind="stable")]
    number = np.bincount(donors[:, 0], minlength=n_atoms)
    table = np.full((n_atoms, int(number.max(initial=0))), -1, dtype=np.int64)
    place = np.arange(len(donors)) - np.repeat(np.cumsum(number) - number, number)
    table[donors[:, 0], place] = donors[:, 1]
    return table


def _cosine(a: FloatArray, b: FloatArray) -> FloatArray:
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.asarray(np.einsum("nx,nx->n", a, b) / lengths)
