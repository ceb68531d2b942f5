"""Periodic cells: widths, volume, the minimum image, the check of a cell, supercells and the form that OpenMM accepts.

A cell is an array of shape (3, 3), its rows the vectors a, b, c in nm; no order and no orientation is assumed, but for
OpenMM's form: a along x, b in the xy plane, and reduced, which means that a_x ≥ 2|b_x|, a_x ≥ 2|c_x| and b_y ≥ 2|c_y|,
with a_x, b_y and c_z above zero.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from openmm import unit
from openmm.app.internal.unitcell import reducePeriodicBoxVectors

from openmm_duality.bounds import DENSITY, LENGTH, WIDTH
from openmm_duality.errors import DualityError
from openmm_duality.geometry.arrays import FloatArray

WIDTH_TOLERANCE = 1e-6  # relative: what single precision leaves of a width
_ROUNDING = 1e-12  # nm; what rotation leaves of a zero, with which OpenMM would take a rectangular cell for a skew one


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
    """Displacements to the image that is nearest in fractional coordinates.

    A vector shorter than half the shortest width has all its fractional coordinates within ±1/2, so rounding finds it
    exactly, in any cell. A longer result may not be the shortest image of a triclinic cell: ask `shows_one_image`.

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


def shows_one_image(cutoff: float, cell: FloatArray | None) -> bool:
    """Whether an atom has at most one image of another, and none of its own, within a cutoff.

    Parameters
    ----------
    cutoff : float
        In nm.
    cell : array, shape (3, 3), or None
        In nm; a cutoff is too long beyond half its shortest width, give or take what single precision leaves of it.
    """
    return cell is None or 2.0 * cutoff <= float(widths(cell).min()) * (1.0 + WIDTH_TOLERANCE)


def check_cell(cell: FloatArray | None, n_atoms: int = 0) -> None:
    """Refuse cells, shape (3, 3) or (T, 3, 3) in nm, of which one is flat, too large, or too small for its atoms."""
    if cell is None:
        return
    cells = np.asarray(cell, dtype=np.float64)
    if cells.shape[-2:] != (3, 3):
        raise DualityError(f"the cell is {cells.tolist()}; expected three vectors in nm that span a volume")
    cells = cells.reshape(-1, 3, 3)
    finite = np.where(np.abs(cells) <= LENGTH, cells, 0.0)  # zero too for NaN, and then not wide enough
    faces = np.linalg.norm(np.cross(finite[:, [1, 2, 0]], finite[:, [2, 0, 1]]), axis=2).max(axis=1)
    volumes = np.abs(np.linalg.det(finite))
    right = (finite == cells).all(axis=(1, 2)) & (volumes > WIDTH * faces) & (volumes * DENSITY >= n_atoms)
    if not right.all():
        raise DualityError(
            f"the cell is {cells[~right][0].tolist()}; expected three vectors in nm that span a volume, none longer "
            f"than {LENGTH:g} nm, at least {WIDTH:g} nm between opposite faces, and at most {DENSITY:g} atoms per nm³"
        )


def supercell(
    positions: FloatArray, species: Sequence[str], cell: FloatArray | None, n: Sequence[int]
) -> tuple[FloatArray, tuple[str, ...], FloatArray]:
    """Copies of a periodic cell side by side; the atoms of one copy follow those of the other in the same order.

    Parameters
    ----------
    positions : array, shape (N, 3)
        In nm.
    species : sequence of str, length N
        The species of every atom.
    cell : array, shape (3, 3)
        In nm.
    n : three ints
        Number of copies along a, b and c.

    Returns
    -------
    tuple
        Positions, species and cell of the supercell.

    Raises
    ------
    DualityError
        If there is no cell, or `n` is not three numbers above zero.
    """
    if cell is None:
        raise DualityError("supercell: the structure has no cell, so it cannot be repeated; give one that is periodic")
    counts = np.asarray(n)
    if counts.shape != (3,) or not np.issubdtype(counts.dtype, np.integer) or counts.min() < 1:
        raise DualityError(f"supercell: expected three whole numbers of at least 1, got {n!r}")
    shifts = np.stack(np.meshgrid(*[np.arange(k) for k in counts], indexing="ij"), axis=-1).reshape(-1, 3) @ cell
    copies = (shifts[:, None, :] + positions[None, :, :]).reshape(-1, 3)
    return copies, tuple(species) * len(shifts), counts[:, None] * cell


def has_openmm_form(cell: FloatArray) -> bool:
    """Whether OpenMM accepts this cell, shape (3, 3) in nm, as it is."""
    (ax, ay, az), (bx, by, bz), (cx, cy, cz) = cell
    along = not (ay or az or bz) and min(ax, by, cz) > 0
    return bool(along and ax >= 2 * abs(bx) and ax >= 2 * abs(cx) and by >= 2 * abs(cy))


def openmm_form(cell: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Rotate a lattice and reduce its vectors to the form that OpenMM accepts.

    Parameters
    ----------
    cell : array, shape (3, 3)
        In nm; of either hand.

    Returns
    -------
    tuple of array, shape (3, 3)
        The cell in nm, and the rotation R (proper: nothing is mirrored); positions become ``positions @ R``. A cell
        that has the form already comes back as it is, with the unit matrix.

    Raises
    ------
    DualityError
        If the three vectors span no volume.
    """
    if has_openmm_form(cell):
        return cell, np.eye(3)
    if not volume(cell) > 1e-9 * np.prod(np.linalg.norm(cell, axis=1)):
        raise DualityError(
            f"the cell {cell.tolist()} nm spans no volume; expected three vectors that do not lie in one plane"
        )
    right = cell if np.linalg.det(cell) > 0 else -cell  # −a, −b, −c span the same lattice
    rotation, upper = np.linalg.qr(right.T)
    signs = np.sign(np.diag(upper))
    rotation, vectors = rotation * signs, (signs[:, None] * upper).T
    for _ in range(2):  # the second time for what rounding left beyond one half
        vectors = np.array(reducePeriodicBoxVectors(vectors).value_in_unit(unit.nanometer))
        vectors[np.abs(vectors) < _ROUNDING] = 0.0
    return vectors, rotation


def require_openmm_form(cell: FloatArray) -> None:
    """Refuse a cell that OpenMM would not accept.

    Parameters
    ----------
    cell : array, shape (3, 3)
        In nm.

    Raises
    ------
    DualityError
        Naming the cell and the form.
    """
    if not has_openmm_form(cell):
        raise DualityError(
            f"the cell {np.asarray(cell).tolist()} nm is not in the form that OpenMM wants: a along x, b in the xy "
            "plane, every vector reduced by the ones before it (a_x ≥ 2|b_x|, a_x ≥ 2|c_x|, b_y ≥ 2|c_y|). Positions "
            "must be rotated with the cell, so take both from read_start, which does it for frames and files"
        )
