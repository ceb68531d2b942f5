"""Cells as OpenMM wants them: a along x, b in the xy plane, and reduced.

Reduced means that a_x ≥ 2|b_x|, a_x ≥ 2|c_x| and b_y ≥ 2|c_y|, with a_x, b_y and c_z above zero.
"""

from __future__ import annotations

import numpy as np
from openmm import unit
from openmm.app.internal.unitcell import reducePeriodicBoxVectors

from openmm_duality.errors import DualityError
from openmm_duality.reference.cells import volume
from openmm_duality.reference.frames import FloatArray

_NOTHING = 1e-12  # nm; what rotation leaves of a zero, with which OpenMM would take a rectangular cell for a skew one


def has_openmm_form(cell: FloatArray) -> bool:
    """Whether OpenMM takes this cell, shape (3, 3) in nm, as it is."""
    (ax, ay, az), (bx, by, bz), (cx, cy, cz) = cell
    along = not (ay or az or bz) and min(ax, by, cz) > 0
    return bool(along and ax >= 2 * abs(bx) and ax >= 2 * abs(cx) and by >= 2 * abs(cy))


def openmm_form(cell: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The same lattice, rotated and with the vectors that OpenMM wants.

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
        vectors[np.abs(vectors) < _NOTHING] = 0.0
    return vectors, rotation


def require_openmm_form(cell: FloatArray) -> None:
    """Refuse a cell that OpenMM would not take.

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
