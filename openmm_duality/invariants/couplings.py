"""Couplings of harmonics: C_abM such that Σ_ab C_abM x_a y_b is a tensor of rank L, of tensors of ranks l1 and l2.

They are the integrals of products of three harmonics over the sphere (Gaunt coefficients), scaled to Σ C² = 1, so that
they do not depend on the order of the three. They are zero unless l1 + l2 + L is even.

Index suffixes: a, b, M components of ranks l1, l2, L; p point on the sphere.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.invariants.harmonics import HIGHEST_RANK, solid_harmonics


def can_couple(first: int, second: int, rank: int) -> bool:
    """Whether tensors of two ranks have a product of a third rank that is not a pseudotensor."""
    if not 0 <= min(first, second, rank) <= max(first, second, rank) <= HIGHEST_RANK:
        return False
    return abs(first - second) <= rank <= first + second and (first + second + rank) % 2 == 0


@cache
def coupling(first: int, second: int, rank: int) -> FloatArray:
    """C_abM of ranks l1, l2 and L up to 3 that couple, shape (2 l1 + 1, 2 l2 + 1, 2 L + 1)."""
    weights, points = _sphere()
    a, b, c = (_harmonics(order, points) for order in (first, second, rank))
    integrals = np.einsum("p,pa,pb,pm->abm", weights, a, b, c)
    # equal couplings are equal to the last bit, and none is almost zero
    return np.ascontiguousarray(np.round(integrals / np.linalg.norm(integrals), 14))


@cache
def _sphere() -> tuple[FloatArray, FloatArray]:
    """Weights, shape (p,), and points, shape (p, 3), of a rule that is exact for products of three harmonics."""
    degree = 3 * HIGHEST_RANK
    z, weights = np.polynomial.legendre.leggauss(degree // 2 + 1)
    angles = 2.0 * np.pi * np.arange(degree + 1) / (degree + 1)
    height, angle = (grid.ravel() for grid in np.meshgrid(z, angles, indexing="ij"))
    width = np.sqrt(1.0 - height**2)
    points = np.stack([width * np.cos(angle), width * np.sin(angle), height], axis=1)
    return np.repeat(weights, degree + 1) / (2.0 * (degree + 1)), points


def _harmonics(rank: int, points: FloatArray) -> FloatArray:
    return np.stack([np.broadcast_to(y, len(points)) for y in solid_harmonics(rank, *points.T)], axis=1)
