"""Pairs of atoms within a distance, in all periodic images: the one wrapper of vesin.

The order of the pairs is vesin's. Atoms closer than the cutoff to their own images are pairs too.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from openmm_duality.geometry.arrays import FloatArray, IntArray


def pairs_within(
    positions: FloatArray, cell: FloatArray | None, cutoff: float
) -> tuple[IntArray, IntArray, FloatArray]:
    """Every pair of atoms within a cutoff, once, in any cell and for any cutoff.

    Parameters
    ----------
    positions : array, shape (N, 3)
        In nm, wrapped or not.
    cell : array, shape (3, 3), or None
        Rows are the cell vectors in nm; None without periodic boundaries.
    cutoff : float
        In nm; beyond half the width of the cell a pair appears once per image.

    Returns
    -------
    tuple of arrays, each of shape (P,)
        First atoms, second atoms, and distances in nm.
    """
    i, j, d = _search(positions, cell, cutoff, "ijd")
    return i.astype(np.int64), j.astype(np.int64), d


def pair_vectors_within(
    positions: FloatArray, cell: FloatArray | None, cutoff: float, *, full_list: bool = False
) -> tuple[IntArray, IntArray, FloatArray, FloatArray]:
    """Pairs as `pairs_within` finds them, with their vectors.

    Parameters
    ----------
    positions, cell, cutoff
        As for `pairs_within`.
    full_list : bool
        Whether every pair comes twice, as i, j and as j, i; the list is then sorted by the first atom.

    Returns
    -------
    tuple of arrays, of shapes (P,), (P,), (P,) and (P, 3)
        First atoms, second atoms, distances in nm, and vectors from the first to the second atom in nm.
    """
    i, j, d, vectors = _search(positions, cell, cutoff, "ijdD", full_list)
    return i.astype(np.int64), j.astype(np.int64), d, vectors


def _search(
    positions: FloatArray, cell: FloatArray | None, cutoff: float, quantities: str, full_list: bool = False
) -> Any:
    # Imported here, not above: vesin imports torch where it finds it, and importing this package must not.
    import vesin

    box = np.zeros((3, 3)) if cell is None else cell
    return vesin.NeighborList(cutoff=float(cutoff), full_list=full_list, sorted=full_list).compute(
        points=np.ascontiguousarray(positions), box=box, periodic=cell is not None, quantities=quantities
    )
