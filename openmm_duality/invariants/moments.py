"""Moments M^l = Σ_j f_n(r) Y^l(u) of each agent, in NumPy.

Index suffixes: i agent, s neighbour slot, n radial function, m component of rank l (2l + 1 of them), x Cartesian.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.invariants.harmonics import gradient_matrix, solid_harmonics
from openmm_duality.invariants.neighbours import NeighbourTable

# components of a symmetric strain: xx, yy, zz, yz, xz, xy
STRAINS = (np.array([0, 1, 2, 1, 0, 0]), np.array([0, 1, 2, 2, 2, 1]))


def harmonics(rank: int, u: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Harmonics of unit vectors, and the gradients of their homogeneous polynomials there.

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
    """
    y = harmonic_values(rank, u)
    if rank == 0:
        return y, np.zeros((*u.shape[:-1], 1, 3))
    matrix = gradient_matrix(rank).transpose(2, 0, 1)  # [k, m, x]
    return y, (harmonic_values(rank - 1, u) @ matrix.reshape(len(matrix), -1)).reshape(*y.shape, 3)


def harmonic_values(rank: int, u: FloatArray) -> FloatArray:
    """Harmonics of vectors u (…, 3), shape (…, 2l + 1)."""
    components = np.broadcast_arrays(u[..., 0], *solid_harmonics(rank, u[..., 0], u[..., 1], u[..., 2]))[1:]
    return np.stack(components, axis=-1)


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
    found = {}
    for rank in ranks:
        blocks = [moments(f, harmonic_values(rank, t.directions)) for t, f in zip(tables, values, strict=True)]
        found[rank] = np.stack(blocks, axis=1)
    return found


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


def moment_derivatives(rank: int, f: FloatArray, df: FloatArray, table: NeighbourTable) -> FloatArray:
    """Derivatives K[i, x, n, s, m] = ∂(f_n Y_m)/∂(q_j − q_i)_x for the neighbour in slot s.

    Parameters
    ----------
    rank : int
    f, df : array, shape (N, J, n)
        Radial functions and their slopes (1/nm) at the distances of the table.
    table : NeighbourTable
    """
    y, dy = harmonics(rank, table.directions)
    g, h = derivative_factors(rank, f, df, table.distances)
    along = (y[..., None] * table.directions[..., None, :]).transpose(0, 3, 1, 2)[:, :, None]
    k = g.transpose(0, 2, 1)[:, None, :, :, None] * along
    if rank:
        k += h.transpose(0, 2, 1)[:, None, :, :, None] * dy.transpose(0, 3, 1, 2)[:, :, None]
    return np.asarray(k)


def own_derivatives(rank: int, f: FloatArray, df: FloatArray, table: NeighbourTable) -> FloatArray:
    """Their sums over the neighbours, −∂M/∂q_i, shape (N, 3, n, 2l + 1); parameters as for `moment_derivatives`."""
    y, dy = harmonics(rank, table.directions)
    g, h = derivative_factors(rank, f, df, table.distances)
    flat = (*y.shape[:2], 3 * y.shape[2])  # there may be no neighbours
    along = (y[..., None] * table.directions[..., None, :]).reshape(flat)
    summed = g.swapaxes(1, 2) @ along
    if rank:
        summed += h.swapaxes(1, 2) @ dy.reshape(flat)
    return summed.reshape(*summed.shape[:2], -1, 3).transpose(0, 3, 1, 2)


def strain_of(table: NeighbourTable) -> FloatArray:
    """Products u_x (q_j − q_i)_y, the change of a distance with the components of a strain, shape (N, J, 6)."""
    return np.asarray(table.directions[..., STRAINS[0]] * table.displacements[..., STRAINS[1]])


def strain_derivatives(rank: int, f: FloatArray, df: FloatArray, table: NeighbourTable) -> FloatArray:
    """Derivatives ∂M/∂ε by a homogeneous strain, shape (N, 6, n, 2l + 1); parameters as for `moment_derivatives`.

    The moment changes as ∂M/∂(q_j − q_i)_x times (q_j − q_i)_y. Off the
    diagonal this is a shear, and a shear is a strain and a rotation, to which invariants are blind.
    """
    y, dy = harmonics(rank, table.directions)
    g, h = derivative_factors(rank, f, df, table.distances)
    flat = (*y.shape[:2], 6 * y.shape[2])
    along = (y[..., None] * strain_of(table)[..., None, :]).reshape(flat)
    summed = g.swapaxes(1, 2) @ along
    if rank:
        across = dy[..., STRAINS[0]] * table.displacements[..., None, STRAINS[1]]
        summed += h.swapaxes(1, 2) @ across.reshape(flat)
    return summed.reshape(*summed.shape[:2], -1, 6).transpose(0, 3, 1, 2)
