"""How the four nearest neighbours of an atom stand around it.

The tetrahedral order of an atom is q = 1 − 3/8 Σ_{j<k} (cos ψ_jk + 1/3)² over the six angles between its four nearest
neighbours: 1 in diamond, 0 on average for neighbours in random directions (Errington and Debenedetti, Nature 409, 318
(2001)). Neighbours are of the atom's own species, which is any but hydrogen.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

from openmm_duality.geometry.arrays import FloatArray, IntArray
from openmm_duality.observables.curves import Distribution, Histogram
from openmm_duality.observables.neighbours import Frame
from openmm_duality.observables.trajectory import counts, species_codes

NEIGHBOURS = 4
ORDER_BINS = np.linspace(-1.0, 1.0, 101)
ANGLE_BINS = np.linspace(0.0, 180.0, 91)  # degrees
_PAIRS = np.array(list(combinations(range(NEIGHBOURS), 2)))


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
        self.names = [kind for kind in number if kind != "H" and number[kind] > NEIGHBOURS]
        self._codes = [list(number).index(kind) for kind in self.names]
        self._code = species_codes(species)
        self.order = Histogram(self.names, ORDER_BINS, n_blocks)
        self.angles = Histogram([f"{kind}-{kind}-{kind}" for kind in self.names], ANGLE_BINS, n_blocks)

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

    def distributions(self, group: IntArray) -> tuple[dict[str, Distribution], dict[str, Distribution]]:
        """Order by species and angles by triple of species, in coarser blocks."""
        return self.order.distributions(group), self.angles.distributions(group)


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
