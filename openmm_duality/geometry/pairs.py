"""Distances between atoms, in all periodic images."""

from __future__ import annotations

import numpy as np

from openmm_duality.geometry.arrays import FloatArray, IntArray


def pairs_within(
    positions: FloatArray, cell: FloatArray | None, cutoff: float
) -> tuple[IntArray, IntArray, FloatArray]:
    """Every pair of atoms within a cutoff, once, in any cell and for any cutoff.

    Parameters
    ----------
    positions : array, shape (N, 3)
        In nm.
    cell : array, shape (3, 3), or None
        In nm.
    cutoff : float
        In nm; beyond half the width of the cell a pair appears once per image.

    Returns
    -------
    tuple of arrays, each of shape (P,)
        First atoms, second atoms, and distances in nm.
    """
    # Imported here, not above: vesin imports torch where it finds it, and importing this package must not.
    import vesin

    box = np.zeros((3, 3)) if cell is None else cell
    i, j, d = vesin.NeighborList(cutoff=float(cutoff), full_list=False).compute(
        points=np.ascontiguousarray(positions), box=box, periodic=cell is not None, quantities="ijd"
    )
    return i.astype(np.int64), j.astype(np.int64), d
