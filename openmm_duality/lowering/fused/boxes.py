"""Nearest images in code, and the box as the kernels read it.

The box and everything else that is a length is in units of the grid spacing of the radial functions.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.machine_code.code import DOUBLE, Code, Value


def kind_of(box: FloatArray | None) -> str:
    """Kind of a box: ``open``, ``orthorhombic`` (vectors along the axes) or ``triclinic``."""
    if box is None:
        return "open"
    return "orthorhombic" if np.count_nonzero(box - np.diag(np.diag(box))) == 0 else "triclinic"


def packed(box: FloatArray | None) -> FloatArray:
    """The box vectors, then their inverse, in rows of four; edges in one row where the box is orthorhombic."""
    rows = np.zeros((6, 4))
    kind = kind_of(box)
    if box is not None and kind == "orthorhombic":
        rows[0, :3] = np.diag(box)
        rows[1, :3] = 1.0 / np.diag(box)
    elif box is not None:
        rows[:3, :3] = box
        rows[3:, :3] = np.linalg.inv(box)
    return rows


def nearest_image(code: Code, kind: str) -> Callable[[Value], Value]:
    """Writes the nearest image of a displacement (x, y, z, 0); exact below half the shortest width of the box."""
    box = code.array("box", DOUBLE)
    if kind == "open":
        return lambda d: d
    rows = [box.vector(4 * k, 4) for k in range(6)]
    if kind == "orthorhombic":
        return lambda d: d - code.intrinsic("rint", d * rows[1]) * rows[0]

    def nearest(d: Value) -> Value:
        fractional = d.lane(0) * rows[3] + d.lane(1) * rows[4] + d.lane(2) * rows[5]
        shift = code.intrinsic("rint", fractional)
        return d - shift.lane(0) * rows[0] - shift.lane(1) * rows[1] - shift.lane(2) * rows[2]

    return nearest


def nearest_images(code: Code, kind: str, lanes: int) -> Callable[[list[Value]], list[Value]]:
    """Writes the nearest images of many displacements, their x, y and z in one vector each."""
    box = code.array("box", DOUBLE)
    if kind == "open":
        return lambda d: d
    if kind == "orthorhombic":
        edges, inverse = ([code.spread(box[4 * row + c], lanes) for c in range(3)] for row in range(2))
        return lambda d: [x - code.intrinsic("rint", x * i) * e for x, e, i in zip(d, edges, inverse, strict=True)]
    rows, columns = ([[box[4 * (first + row) + c] for c in range(3)] for row in range(3)] for first in (0, 3))

    def nearest(d: list[Value]) -> list[Value]:
        shift = [
            code.intrinsic("rint", d[0] * columns[0][k] + d[1] * columns[1][k] + d[2] * columns[2][k]) for k in range(3)
        ]
        return [d[c] - shift[0] * rows[0][c] - shift[1] * rows[1][c] - shift[2] * rows[2][c] for c in range(3)]

    return nearest
