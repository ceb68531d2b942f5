"""Regularisation by quadratic penalties on the coefficients, each with its own name and strength."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.inference.equations.layout import Group, Layout
from openmm_duality.invariants.radial import RadialBasis
from openmm_duality.losses.model import core_onsets

Strengths = Mapping[str, float]  # by the name of the penalty


@dataclass(frozen=True)
class Penalty:
    """Quadratic penalty cᵀAc − 2bᵀc, multiplied by a regularisation strength.

    Parameters
    ----------
    name : str
        Name under which the strength is chosen and saved.
    matrix : array, shape (P, P), or (P,) if diagonal
        The matrix A.
    rhs : array, shape (P,), optional
        The vector b; None for zero.
    relative : bool
        Whether A and b refer to the coefficients of columns scaled to unit mean square instead of to the coefficients
        themselves.
    normalised : bool
        Whether A, for scaled columns, is divided by the mean of the non-zero entries of its diagonal.
    """

    name: str
    matrix: FloatArray
    rhs: FloatArray | None = None
    relative: bool = False
    normalised: bool = False

    @classmethod
    def of_rows(cls, name: str, rows: FloatArray, targets: FloatArray, weights: FloatArray) -> Penalty:
        """Penalty Σ w (x·c − y)² of rows x, shape (R, P), with targets y and weights w, shape (R,)."""
        return cls(name, rows.T @ (weights[:, None] * rows), rows.T @ (weights * targets))

    def add(self, matrix: FloatArray, rhs: FloatArray, scale: FloatArray, strength: float) -> None:
        """Add the penalty to equations in scaled columns, in place.

        Parameters
        ----------
        matrix : array, shape (P, P)
        rhs : array, shape (P,)
        scale : array, shape (P,)
            Column scales: a coefficient is that of the scaled column divided by its scale.
        strength : float
        """
        units = np.ones_like(scale) if self.relative else scale
        diagonal = self.matrix.ndim == 1
        scaled = self.matrix / units**2 if diagonal else self.matrix / np.outer(units, units)
        if self.normalised:
            entries = scaled if diagonal else np.diag(scaled)
            penalised = entries > 0.0
            if not penalised.any():
                return
            strength = strength / entries[penalised].mean()
        if diagonal:
            matrix[np.diag_indices(len(matrix))] += strength * scaled
        else:
            matrix += strength * scaled
        if self.rhs is not None:
            rhs += strength * (self.rhs / units)


def ridge_penalty(size: int, n_constants: int = 0) -> Penalty:
    """Ridge on the coefficients of scaled columns, except for the last `n_constants` columns."""
    return Penalty("ridge", np.append(np.ones(size - n_constants), np.zeros(n_constants)), relative=True)


def curvature_penalty(layout: Layout, group: Group, basis: RadialBasis, shortest: FloatArray) -> Penalty:
    """Penalty on the curvature of the pair part: squared second differences of its spline coefficients (P-splines).

    Coefficients below the shortest distances do not count.

    Parameters
    ----------
    layout : Layout
    group : tuple of int
    basis : RadialBasis
        Radial functions of the pair part.
    shortest : array, shape (S, S)
        Shortest distances in the data, in nm.
    """
    size, n = layout.size(group), layout.n_pair
    onsets = core_onsets(shortest, basis.grid)
    matrix = np.zeros((size, size))
    for k, (a, b) in enumerate(layout.pairs(group)):
        first = basis.grid.below(float(onsets[a, b])) + 1
        curvatures = np.diff(basis.coefficients[a, b], n=2, axis=-1)[:, first:]
        matrix[k * n : (k + 1) * n, k * n : (k + 1) * n] = curvatures @ curvatures.T
    return Penalty("curvature", matrix, normalised=True)


def standard_penalties(layout: Layout, group: Group, basis: RadialBasis, shortest: FloatArray) -> tuple[Penalty, ...]:
    """Penalties of every inference: the curvature of the pair part, and a ridge on all but the energy constants."""
    ridge = ridge_penalty(layout.size(group), layout.n_constants)
    return curvature_penalty(layout, group, basis, shortest), ridge
