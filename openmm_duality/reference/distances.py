"""Distances between atoms, in all periodic images."""

from __future__ import annotations

from itertools import combinations_with_replacement

import numpy as np
from tqdm import tqdm

from openmm_duality.reference.cells import widths
from openmm_duality.reference.frames import FloatArray, Frames, IntArray

_FIRST_SEARCH = 0.3  # nm; doubled until every pair of species is found


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


def shortest_distances(frames: Frames, progress: bool = True) -> dict[tuple[str, str], float]:
    """The shortest distance of every pair of species that occurs in the frames.

    Parameters
    ----------
    frames : Frames
        At least one frame.
    progress : bool
        Whether to show a bar when it takes more than a few seconds.

    Returns
    -------
    dict
        From the pair of species, in alphabetical order, to nm. A pair is absent where it cannot occur: one atom of a
        species in a cell that is not periodic, or further apart than the search reaches (the size of the cell or of
        the molecule).
    """
    kinds = frames.kinds
    number = np.searchsorted(kinds, frames.species)
    shortest = np.full((len(kinds), len(kinds)), np.inf)
    order = np.sort([(a, b) for a, b in combinations_with_replacement(range(len(kinds)), 2)])
    for t in tqdm(range(len(frames)), desc="distances", delay=3.0, disable=None if progress else True, leave=False):
        cell = frames.cell(t)
        reach = float(np.ptp(frames.positions[t], axis=0).max() * 2 if cell is None else widths(cell).max())
        # What earlier frames have shown bounds the search from above: a longer distance cannot lower it.
        known = shortest[np.isfinite(shortest)]
        cutoff = min(max([_FIRST_SEARCH, *known]), max(reach, 1e-3))
        while True:
            i, j, d = pairs_within(frames.positions[t], cell, cutoff)
            a, b = np.minimum(number[i], number[j]), np.maximum(number[i], number[j])
            np.minimum.at(shortest, (a, b), d)
            if np.isfinite(shortest[order[:, 0], order[:, 1]]).all() or cutoff >= reach:
                break
            cutoff = min(2 * cutoff, reach)
    return {(kinds[a], kinds[b]): float(shortest[a, b]) for a, b in order if np.isfinite(shortest[a, b])}
