"""The pairs of atoms of one frame, found once for every analysis that needs them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from openmm_duality.geometry.arrays import FloatArray, IntArray
from openmm_duality.geometry.cells import minimum_image


@dataclass(frozen=True)
class Frame:
    """One frame and its pairs within the reach of the search, each once.

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


class Finder:
    """Finds the pairs within a distance.

    Parameters
    ----------
    reach : float
        In nm.
    """

    def __init__(self, reach: float) -> None:
        import vesin  # imports torch where it is installed, which importing this package must not

        self._list = vesin.NeighborList(cutoff=float(reach), full_list=False)

    def __call__(self, positions: FloatArray, cell: FloatArray | None) -> Frame:
        """The frame with its pairs."""
        box = np.zeros((3, 3)) if cell is None else cell
        i, j, r, vectors = self._list.compute(
            points=np.ascontiguousarray(positions), box=box, periodic=cell is not None, quantities="ijdD"
        )
        return Frame(positions, cell, i.astype(np.int64), j.astype(np.int64), r, vectors)
