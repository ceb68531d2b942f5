"""Moments M^l = Σ_j f_n(r) Y^l(u) of each agent, and the solid harmonics Y^l in them.

Index suffixes: i agent, s neighbour slot, n radial function, m component of rank l (2l + 1 of them), x Cartesian.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.invariants.neighbours import NeighbourTable

HIGHEST_RANK = 3


def harmonics(rank: int, u: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Real solid harmonics of a unit vector, scaled so that Σ_m Y_m(u) Y_m(v) = P_l(u·v), and their gradients.

    Parameters
    ----------
    rank : int
        l = 0…3.
    u : array, shape (…, 3)
        Unit vectors.

    Returns
    -------
    y : array, shape (…, 2l + 1)
    dy : array, shape (…, 2l + 1, 3)
        Gradient of the homogeneous polynomial of degree l, taken at u.
    """
    x, y, z = u[..., 0], u[..., 1], u[..., 2]
    one, zero = np.ones_like(x), np.zeros_like(x)
    if rank == 0:
        return one[..., None], np.zeros((*u.shape[:-1], 1, 3))
    if rank == 1:
        return u, np.broadcast_to(np.eye(3), (*u.shape, 3))
    if rank == 2:
        s = np.sqrt(3.0)
        values = [s * x * y, s * y * z, s * z * x, 0.5 * s * (x * x - y * y), 0.5 * (2 * z * z - x * x - y * y)]
        gradients = [
            [s * y, s * x, zero],
            [zero, s * z, s * y],
            [s * z, zero, s * x],
            [s * x, -s * y, zero],
            [-x, -y, 2 * z],
        ]
    elif rank == 3:
        a, b, c = np.sqrt(5 / 8), np.sqrt(15.0), np.sqrt(3 / 8)
        values = [
            a * y * (3 * x * x - y * y),
            b * x * y * z,
            c * y * (4 * z * z - x * x - y * y),
            0.5 * z * (2 * z * z - 3 * x * x - 3 * y * y),
            c * x * (4 * z * z - x * x - y * y),
            0.5 * b * z * (x * x - y * y),
            a * x * (x * x - 3 * y * y),
        ]
        gradients = [
            [6 * a * x * y, 3 * a * (x * x - y * y), zero],
            [b * y * z, b * x * z, b * x * y],
            [-2 * c * x * y, c * (4 * z * z - x * x - 3 * y * y), 8 * c * y * z],
            [-3 * x * z, -3 * y * z, 0.5 * (6 * z * z - 3 * x * x - 3 * y * y)],
            [c * (4 * z * z - 3 * x * x - y * y), -2 * c * x * y, 8 * c * x * z],
            [b * x * z, -b * y * z, 0.5 * b * (x * x - y * y)],
            [3 * a * (x * x - y * y), -6 * a * x * y, zero],
        ]
    else:
        raise ValueError(f"rank {rank}: harmonics are implemented for ranks 0 to {HIGHEST_RANK}")
    return np.stack(values, axis=-1), np.stack([np.stack(g, axis=-1) for g in gradients], axis=-2)


def moments(f: FloatArray, y: FloatArray) -> FloatArray:
    """Moments M[i, n, m] = Σ_s f[i, s, n] Y[i, s, m], shape (N, n, 2l + 1)."""
    return np.asarray(np.matmul(f.swapaxes(-1, -2), y), dtype=np.float64)


def moments_by_rank(
    ranks: Iterable[int], tables: Sequence[NeighbourTable], values: Sequence[FloatArray]
) -> dict[int, FloatArray]:
    """Moments of all agents, arrays of shape (N, S, n, 2l + 1) by rank.

    Parameters
    ----------
    ranks : iterable of int
    tables : sequence of NeighbourTable, length S
    values : sequence of arrays, length S, of shape (N, J, n)
        Values of the radial functions for each table.
    """
    return {
        rank: np.stack(
            [moments(f, harmonics(rank, table.directions)[0]) for table, f in zip(tables, values, strict=True)], axis=1
        )
        for rank in ranks
    }


def flat(m: FloatArray) -> FloatArray:
    """Flatten the middle axes of moments (N, S, n, 2l + 1) into one index a = (B, n)."""
    return m.reshape(len(m), m.shape[1] * m.shape[2], m.shape[3])


def derivative_factors(
    rank: int, f: FloatArray, df: FloatArray, distances: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Radial factors g = f′ − l f/r and h = f/r of the derivative of a moment.

    With q the displacement, ∂(f Y_m)/∂q_x = g Y_m u_x + h ∂_x Y_m, where ∂_x Y_m is the gradient of the homogeneous
    polynomial (see `harmonics`).

    Returns
    -------
    g, h : arrays, shape (N, J, n)
        Factors in 1/nm.
    """
    h = f / distances[..., None]
    return df - rank * h, h
