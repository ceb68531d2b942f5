"""Regularisation by quadratic penalties on the coefficients, each with its own name and strength.

The data leave functions undetermined below the shortest distances and in gaps between shells. There the prior decides:
functions are smooth, so that their curvature changes slowly, and a wall is continued with its slope and curvature.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.inference.equations.layout import Group, Layout
from openmm_duality.invariants.radial import RadialBasis
from openmm_duality.losses.cores import core_onsets

Strengths = Mapping[str, float]  # by the name of the penalty
Blocks = tuple[tuple[int, FloatArray], ...]  # first column and matrix of every block

# the curvature comes first: of strengths with the same held-out error, the smoothest functions are the best elsewhere
GRIDS: Mapping[str, Sequence[float]] = {
    "curvature": (1e-6, 1e-4, 1e-2, 1.0),
    "ridge": (1e-13, 1e-11, 1e-9, 1e-7, 1e-5),
}
# weaker curvatures gain a few per cent on held-out frames and lose all below the shortest distances of the data
CHANNEL_GRIDS: Mapping[str, Sequence[float]] = {
    "curvature": (1e-6, 3e-6, 1e-5, 3e-5),
    "ridge": (1e-7, 1e-6, 1e-5, 1e-4, 1e-3),  # the weakest that does: with stronger ones runs were less safe
}
TOLERANCE = 0.005  # of the held-out error, for a stronger regularisation
CHANNEL_TOLERANCE = 0.05  # the same: what a stronger curvature costs there it gains outside the data
DELTA_GRIDS: Mapping[str, Sequence[float]] = {
    "ridge": tuple(10.0**k for k in range(-9, 3)),
    "curvature": (1e-7, 1e-4, 1e-1),
}

ROTAMERS = "rotamers"
ROTAMER_GRID = (0.0, 1e-4, 1e-3, 3e-3, 1e-2, 3e-2)
ROTAMER_TOLERANCE = 0.05  # of the held-out error, for the same reason

SEPARATIONS = "separations"

PUMP, NET_FORCE, NET_TORQUE, WORK = SYMMETRIES = ("pump", "net-force", "net-torque", "work")

_AT_ONCE = 64  # rows of the matrix of a penalty

# strength of the curvature penalty of the many-body part relative to that of the pair part, each normalised
_MANY_BODY_SHARE = 1e-3


@dataclass(frozen=True)
class Penalty:
    """Quadratic penalty cᵀAc − 2bᵀc, multiplied by a regularisation strength.

    Parameters
    ----------
    name : str
        Name under which the strength is chosen and saved.
    matrix : array, shape (P, P), or (P,) if diagonal, or tuple of (first column, square array)
        The matrix A, or the blocks on its diagonal that are not zero.
    rhs : array, shape (P,), optional
        The vector b; None for zero.
    relative : bool
        Whether A and b refer to the coefficients of columns scaled to unit mean square instead of to the coefficients
        themselves.
    normalised : bool
        Whether A, for scaled columns, is divided by the mean of the non-zero entries of its diagonal.
    share : float
        Factor on the strength.
    """

    name: str
    matrix: FloatArray | Blocks
    rhs: FloatArray | None = None
    relative: bool = False
    normalised: bool = False
    share: float = 1.0

    @classmethod
    def of_rows(cls, name: str, size: int, parts: Iterable[tuple[FloatArray, FloatArray]]) -> Penalty:
        """Penalty Σ (x·c − y)², the mean over parts with rows x, shape (R, p), and targets y, shape (R,).

        The rows are those of the last p of `size` coefficients.
        """
        gram: FloatArray | float = 0.0
        rhs: FloatArray | float = 0.0
        number = 0
        for rows, targets in parts:
            gram, rhs, number = gram + rows.T @ rows, rhs + rows.T @ targets, number + 1
        return cls.of_last(name, size, np.asarray(gram) / number, np.asarray(rhs) / number)

    @classmethod
    def of_last(cls, name: str, size: int, matrix: FloatArray, rhs: FloatArray) -> Penalty:
        """Penalty on the last p of `size` coefficients, with a matrix (p, p) and a right-hand side (p,)."""
        first = size - len(rhs)
        return cls(name, ((first, matrix),), np.concatenate([np.zeros(first), rhs]))

    @property
    def blocks(self) -> Blocks:
        """The blocks of the matrix."""
        return self.matrix if isinstance(self.matrix, tuple) else ((0, self.matrix),)

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
        units, strength = np.ones_like(scale) if self.relative else scale, self.share * strength
        blocks = self.blocks
        columns = [slice(first, first + len(block)) for first, block in blocks]
        if self.normalised:
            entries = [
                (np.diag(block) if block.ndim == 2 else block) / units[here] ** 2
                for here, (_, block) in zip(columns, blocks, strict=True)
            ]
            penalised = np.concatenate([*entries, np.zeros(0)])
            penalised = penalised[penalised > 0.0]
            if not len(penalised):
                return
            strength = strength / penalised.mean()
        for here, (_, block) in zip(columns, blocks, strict=True):
            if block.ndim == 2:
                of_block, mine = matrix[here, here], units[here]
                for first in range(0, len(block), _AT_ONCE):  # so that temporary arrays stay in the caches
                    rows = slice(first, first + _AT_ONCE)
                    added = block[rows] * (strength / mine)
                    added /= mine[rows, None]
                    of_block[rows] += added
            else:
                matrix[np.diag_indices(len(matrix))] += strength * block / units**2
        if self.rhs is not None:
            rhs += strength * (self.rhs / units)


def ridge_penalty(size: int, n_constants: int = 0) -> Penalty:
    """Ridge on the coefficients of scaled columns, except for the last `n_constants` columns."""
    return Penalty("ridge", np.append(np.ones(size - n_constants), np.zeros(n_constants)), relative=True)


def pair_curvature_penalty(layout: Layout, group: Group, basis: RadialBasis, shortest: FloatArray) -> Penalty:
    """Penalty on changes of the curvature of the pair part: squared third differences of its spline coefficients.

    Parameters
    ----------
    layout : Layout
    group : tuple of int
    basis : RadialBasis
        Radial functions of the pair part.
    shortest : array, shape (S, S)
        Shortest distances in the data, in nm; coefficients below the onsets of the cores do not count.
    """
    blocks = [
        (first + k * layout.n_pair, _radial_products(basis, shortest, a, b)[0])
        for part, first in layout.first_columns(group)
        for k, (a, b) in enumerate(layout.pairs(part, group))
    ]
    return Penalty("curvature", tuple(blocks), normalised=True)


def many_body_curvature_penalty(layout: Layout, group: Group, basis: RadialBasis, shortest: FloatArray) -> Penalty:
    """Penalty on changes of the curvature of the contracted moments, in either distance of Σ_ab W_ab f_a(r) f_b(r').

    With K the products of the third differences of the functions and G those of the functions, it is tr(W K W G) for
    every rank.

    Parameters
    ----------
    layout, group, shortest
        As for `pair_curvature_penalty`.
    basis : RadialBasis
        Radial functions of the contracted moments.
    """
    n, by_species, blocks = layout.n, [], []
    for a in group:
        k, g = np.zeros((2, layout.n_species * n, layout.n_species * n))
        for b in range(layout.n_species):
            block = slice(b * n, (b + 1) * n)
            k[block, block], g[block, block] = _radial_products(basis, shortest, a, b)
        by_species.append((k, g))
    for part, first in layout.first_columns(group):
        first += len(layout.pairs(part, group)) * layout.n_pair
        (rows, columns), (coupled, _) = layout.triangles_of(part)
        multiplicity = np.where(rows == columns, 0.5, 1.0)
        for k, g in by_species:
            product = np.zeros((len(rows), len(rows)))
            for one, other in ((k, g), (g, k)):
                product += one[np.ix_(rows, rows)] * other[np.ix_(columns, columns)]
                product += one[np.ix_(rows, columns)] * other[np.ix_(columns, rows)]
            product *= np.outer(multiplicity, multiplicity)
            for _ in layout.form.ranks:
                blocks.append((first, product))
                first += len(rows)
            first += len(coupled)
    return Penalty("curvature", tuple(blocks), normalised=True, share=_MANY_BODY_SHARE)


def _radial_products(basis: RadialBasis, shortest: FloatArray, a: int, b: int) -> tuple[FloatArray, FloatArray]:
    """Products of the third differences of the functions of a pair of species, and of the functions themselves."""
    first = basis.grid.below(float(core_onsets(shortest, basis.grid)[a, b])) + 1
    functions = basis.coefficients[a, b][:, first:]
    changes = np.diff(functions, n=3, axis=-1)
    return changes @ changes.T, functions @ functions.T
