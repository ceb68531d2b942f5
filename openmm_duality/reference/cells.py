"""Periodic cells: widths, volume and the minimum image.

A cell is an array of shape (3, 3), its rows the vectors a, b, c in nm; no order and no orientation is assumed.
"""

from __future__ import annotations

import numpy as np

from openmm_duality.errors import DualityError
from openmm_duality.reference.frames import FloatArray


def volume(cell: FloatArray) -> float:
    """Volume of a cell.

    Parameters
    ----------
    cell : array, shape (3, 3)
        In nm.

    Returns
    -------
    float
        In nm³.
    """
    return float(abs(np.linalg.det(cell)))


def widths(cell: FloatArray) -> FloatArray:
    """Perpendicular widths of a cell: the distances between opposite faces.

    Parameters
    ----------
    cell : array, shape (3, 3)
        In nm.

    Returns
    -------
    array, shape (3,)
        In nm, across the faces that a, b and c join.
    """
    return np.asarray(1.0 / np.linalg.norm(np.linalg.inv(cell), axis=0), dtype=np.float64)


def minimum_image(displacements: FloatArray, cell: FloatArray | None) -> FloatArray:
    """Displacements moved to the image nearest in fractional coordinates.

    A vector shorter than half the shortest width has all its fractional coordinates within ±1/2, so rounding finds it
    exactly, in any cell. A longer result may not be the shortest image of a triclinic cell: ask `check_cutoff` first.

    Parameters
    ----------
    displacements : array, shape (..., 3)
        In nm.
    cell : array, shape (3, 3), or None
        In nm; None leaves the displacements as they are.

    Returns
    -------
    array, shape (..., 3)
        In nm.
    """
    if cell is None:
        return displacements
    shifts = np.round(displacements @ np.linalg.inv(cell))
    return np.asarray(displacements - shifts @ cell, dtype=np.float64)


def check_cutoff(cutoff: float, cell: FloatArray | None) -> None:
    """Refuse a cutoff for which the minimum image is not enough.

    Parameters
    ----------
    cutoff : float
        In nm.
    cell : array, shape (3, 3), or None
        In nm; without a cell every cutoff is allowed.

    Raises
    ------
    DualityError
        If the cutoff is beyond half the shortest width of the cell.
    """
    if cell is None:
        return
    shortest = float(widths(cell).min())
    if cutoff > 0.5 * shortest * (1.0 + 1e-9):
        raise DualityError(
            f"the cutoff {cutoff:.6g} nm is beyond half the shortest width of the cell ({shortest:.6g} nm), where an "
            f"atom would meet two images of one neighbour; take a cutoff of at most {0.5 * shortest:.6g} nm, or a "
            "larger cell"
        )
