"""Real solid harmonics, scaled so that Σ_m Y_m(u) Y_m(v) = P_l(u·v) for unit vectors u and v.

It is written with operators alone, so that arrays, tensors and values of generated code go through it. The gradients
follow from it: they are linear in the harmonics of the next lower degree, ∂_x Y_m = Σ_k C_mxk Y_k.

Index suffixes: m component of rank l (2l + 1 of them), k component of rank l − 1, x Cartesian, p point.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, reduce
from operator import add
from typing import Any

import numpy as np

from openmm_duality.geometry.arrays import FloatArray

HIGHEST_RANK = 3
# points at which the harmonics of rank l − 1 are linearly independent, by l
_POINTS = {1: np.eye(1, 3), 2: np.eye(3), 3: np.array([[1, 0, 0], [0, 0, 1], [1, 1, 0], [0, 1, 1], [1, 0, 1]])}
_STEP = 2.0**-100  # imaginary; its square vanishes in double precision, and as a power of two it cancels exactly


def solid_harmonics(rank: int, x: Any, y: Any, z: Any) -> list[Any]:
    """The 2l + 1 homogeneous polynomials of degree l = 0…3; of degree 0 the number 1.0.

    Raises
    ------
    ValueError
        If the rank is higher.
    """
    if rank == 0:
        return [1.0]
    if rank == 1:
        return [x, y, z]
    if rank == 2:
        s = 3.0**0.5
        return [s * x * y, s * y * z, s * z * x, 0.5 * s * (x * x - y * y), 0.5 * (2.0 * z * z - x * x - y * y)]
    if rank == 3:
        a, b, c = (5.0 / 8.0) ** 0.5, 15.0**0.5, (3.0 / 8.0) ** 0.5
        return [
            a * y * (3.0 * x * x - y * y),
            b * x * y * z,
            c * y * (4.0 * z * z - x * x - y * y),
            0.5 * z * (2.0 * z * z - 3.0 * x * x - 3.0 * y * y),
            c * x * (4.0 * z * z - x * x - y * y),
            0.5 * b * z * (x * x - y * y),
            a * x * (x * x - 3.0 * y * y),
        ]
    raise ValueError(f"rank {rank}: harmonics are there for 0 to {HIGHEST_RANK}")


def contracted_gradient(rank: int, w: Sequence[Any], x: Any, y: Any, z: Any, *, onto: Sequence[Any] = ()) -> list[Any]:
    """Σ_m w_m ∂Y_m along x, y and z, for l = 1…3, added onto three terms, if there are any."""
    return combined_gradient(rank, w, solid_harmonics(rank - 1, x, y, z), onto=onto)


def combined_gradient(rank: int, w: Sequence[Any], lower: Sequence[Any], *, onto: Sequence[Any] = ()) -> list[Any]:
    """Σ_mk w_m C_mxk of anything given for the harmonics of degree l − 1, such as their sums over neighbours."""
    gradient = []
    for axis, of_axis in enumerate(gradient_matrix(rank).swapaxes(0, 1)):  # [m, k]
        terms = list(onto[axis : axis + 1])
        for k, column in enumerate(of_axis.T.tolist()):
            weights = [c * w[m] for m, c in enumerate(column) if c]
            if weights:
                terms.append(reduce(add, weights) * lower[k])
        gradient.append(reduce(add, terms))
    return gradient


@cache
def gradient_matrix(rank: int) -> FloatArray:
    """C_mxk of l = 1…3, shape (2l + 1, 3, 2l − 1)."""
    points = _POINTS[rank]
    lower = _at(rank - 1, points)  # [k, p]
    # the derivative of a polynomial of real coefficients is the imaginary part by an imaginary step
    gradients = np.array([_at(rank, points + 1j * _STEP * axis).imag / _STEP for axis in np.eye(3)])  # [x, m, p]
    matrix = np.moveaxis(gradients @ np.linalg.inv(lower), 0, 1)
    matrix[np.abs(matrix) < 1e-12] = 0.0
    return np.ascontiguousarray(matrix)


def _at(rank: int, points: Any) -> Any:
    return np.array([np.broadcast_to(y, len(points)) for y in solid_harmonics(rank, *points.T)])
