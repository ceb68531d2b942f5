"""Periodic images written out as atoms, for a search that knows no boundaries."""

from __future__ import annotations

import numpy as np

from openmm_duality.errors import DualityError
from openmm_duality.geometry.arrays import FloatArray, IntArray
from openmm_duality.geometry.cells import widths

_MOST_IMAGES = 2e7  # to choose from, so that they do not fill the memory


def images_within(positions: FloatArray, cell: FloatArray, reach: float) -> tuple[IntArray, FloatArray]:
    """The atoms of a cell, wrapped into it, and all images that one of them may have within a reach.

    Parameters
    ----------
    positions : array, shape (N, 3)
        Wrapped or not.
    cell : array, shape (3, 3)
    reach : float
        In the unit of the positions and of the cell.

    Returns
    -------
    sources : array of int, shape (M,)
        The atom that each image is of: 0 … N − 1 for the atoms themselves, then others.
    shifts : array, shape (M, 3)
        The lattice vectors to add to the positions of the sources.

    Raises
    ------
    DualityError
        If there are too many images, as in a cell that has collapsed.
    """
    fractional = positions @ np.linalg.inv(cell)
    home = -np.floor(fractional)
    wrapped = fractional + home
    margin = reach / widths(cell)
    low, high = wrapped.min(axis=0) - margin, wrapped.max(axis=0) + margin
    most = np.floor(margin + np.ptp(wrapped, axis=0))
    if len(positions) * np.prod(2.0 * most + 1.0) > _MOST_IMAGES:
        raise DualityError(
            f"the cell is {1.0 / margin.max():.2g} times as wide as the losses reach, so that its {len(positions)} "
            f"atoms have more than {_MOST_IMAGES:.0e} images; has it collapsed under a barostat?"
        )
    steps = np.stack(np.meshgrid(*(np.arange(-k, k + 1.0) for k in most), indexing="ij"), axis=-1).reshape(-1, 3)
    steps = steps[steps.any(axis=1)]
    moved = wrapped + steps[:, None]
    step, atom = np.nonzero(((moved >= low) & (moved <= high)).all(axis=-1))
    lattice = np.concatenate([home, home[atom] + steps[step]])
    return np.concatenate([np.arange(len(positions)), atom]), lattice @ cell
