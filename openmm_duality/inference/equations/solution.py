"""Normal equations, accumulated in double precision, and their regularised solution."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from openmm_duality.geometry.arrays import BoolArray, FloatArray

_TOLERANCE = 0.005  # of the RMS error: what a stronger, so steadier, solution may cost


@dataclass
class NormalEquations:
    """Σ w x xᵀ, Σ w x y, Σ w y², Σ w x² and Σ w over design rows x with targets y and weights w.

    Parameters
    ----------
    gram : array, shape (P, P)
    moment : array, shape (P,)
    size : array, shape (P,)
        Σ w x² over the rows of forces alone, which scale the columns.
    square : float
    weight : float
        Σ w over the rows of forces.
    """

    gram: FloatArray
    moment: FloatArray
    size: FloatArray
    square: float = 0.0
    weight: float = 0.0

    @classmethod
    def empty(cls, size: int) -> NormalEquations:
        """No rows yet."""
        return cls(np.zeros((size, size)), np.zeros(size), np.zeros(size))

    def add(self, rows: FloatArray, targets: FloatArray, weights: FloatArray) -> None:
        """Take in rows of forces, shape (R, P), with targets and weights, shape (R,)."""
        weighted = rows * np.sqrt(weights)[:, None]
        gram = weighted.T @ weighted  # one array with itself: BLAS computes half of it
        self.gram += gram
        self.size += np.diag(gram)
        self.moment += rows.T @ (weights * targets)
        self.square += float(np.sum(weights * targets**2))
        self.weight += float(weights.sum())

    def add_energies(self, rows: FloatArray, targets: FloatArray, weights: FloatArray) -> None:
        """Take in rows of energies, which leave the scale of the columns and the sum of weights as they are."""
        weighted = rows * np.sqrt(weights)[:, None]
        self.gram += weighted.T @ weighted
        self.moment += rows.T @ (weights * targets)
        self.square += float(np.sum(weights * targets**2))

    def add_weighted(self, other: NormalEquations, weight: float) -> None:
        """Take in other equations as if their rows were there so many times."""
        self.gram += other.gram if weight == 1.0 else weight * other.gram
        self.moment += weight * other.moment
        self.size += weight * other.size
        self.square += weight * other.square
        self.weight += weight * other.weight

    def __add__(self, other: NormalEquations) -> NormalEquations:
        return NormalEquations(
            self.gram + other.gram,
            self.moment + other.moment,
            self.size + other.size,
            self.square + other.square,
            self.weight + other.weight,
        )

    def __sub__(self, other: NormalEquations) -> NormalEquations:
        return NormalEquations(
            self.gram - other.gram,
            self.moment - other.moment,
            self.size - other.size,
            self.square - other.square,
            self.weight - other.weight,
        )

    def squared_error(self, coefficients: FloatArray) -> float:
        """Weighted sum of squared residuals of a solution over these rows."""
        return float(self.square - 2.0 * coefficients @ self.moment + coefficients @ self.gram @ coefficients)


@dataclass(frozen=True)
class Regularisation:
    """Strengths of the two regularisers, relative to columns scaled to unit mean square.

    Parameters
    ----------
    ridge : float
        Weight of the sum of squared scaled coefficients.
    curvature : float
        Weight of ∫ V″² of the pair part, normalised to a mean diagonal of one.
    """

    ridge: float
    curvature: float


def solve(
    equations: NormalEquations,
    curvature: FloatArray,
    strength: Regularisation,
    scale: FloatArray | None = None,
    free: int = 0,
    kept: BoolArray | None = None,
) -> FloatArray:
    """The coefficients that minimise the squared error plus the two penalties, shape (P,).

    Parameters
    ----------
    equations : NormalEquations
    curvature : array, shape (P, P)
        The quadratic form of the curvature penalty.
    strength : Regularisation
    scale : array, shape (P,), optional
    free : int
        As for `scaled_system`.
    kept : array of bool, shape (P,), optional
        The columns that may have a coefficient; all by default.
    """
    matrix, right, scale = scaled_system(equations, curvature, strength, scale, free)
    if kept is None:
        return np.asarray(cho_solve(cho_factor(matrix, lower=True, overwrite_a=True), right) / scale)
    coefficients = np.zeros(len(right))
    factor = cho_factor(matrix[np.ix_(kept, kept)], lower=True, overwrite_a=True)
    coefficients[kept] = cho_solve(factor, right[kept]) / scale[kept]
    return coefficients


def carried_over(
    deviations: FloatArray,
    old: NormalEquations,
    total: NormalEquations,
    curvature: FloatArray,
    strength: Regularisation,
    scale: FloatArray,
    free: int = 0,
    kept: BoolArray | None = None,
) -> FloatArray:
    """How far refits still are from the solution when rows are added that they all share, shape (P, K).

    A refit c + δ counts as the solution of the old equations for other targets, A (c + δ) in the place of A c; with the
    new rows in A′, the solution of those targets is c′ + A′⁻¹ A δ. So the deviations shrink where the new rows inform.

    Parameters
    ----------
    deviations : array, shape (P, K)
        δ from the solution of the old equations; those of the constants of the energy are found here.
    old, total : NormalEquations
        Before, and with the new rows.
    curvature, strength, scale, free, kept
        As for `solve`.
    """
    deviations, p = deviations.copy(), len(deviations) - free
    for k in range(p, len(deviations)):  # a refit has constants of its own, which leave its energies no mean residual
        deviations[k] = -old.gram[k, :p] @ deviations[:p] / old.gram[k, k] if old.gram[k, k] > 0.0 else 0.0
    before, _, _ = scaled_system(old, curvature, strength, scale, free)
    after, _, _ = scaled_system(total, curvature, strength, scale, free)
    mine = np.ones(len(scale), dtype=bool) if kept is None else kept
    square = np.ix_(mine, mine)
    right = old.weight / total.weight * before[square] @ (scale[mine, None] * deviations[mine])
    result = np.zeros_like(deviations)
    result[mine] = cho_solve(cho_factor(after[square], lower=True), right) / scale[mine, None]
    return result


def scaled_system(
    equations: NormalEquations,
    curvature: FloatArray,
    strength: Regularisation,
    scale: FloatArray | None = None,
    free: int = 0,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The regularised equations A c = b in columns scaled to unit mean square.

    Parameters
    ----------
    equations, curvature, strength
        As for `solve`.
    scale : array, shape (P,), optional
        Root mean squares of the columns; those of these equations by default.
    free : int
        So many columns at the end have no ridge: the constants of the energy.

    Returns
    -------
    matrix : array, shape (P, P)
    right : array, shape (P,)
    scale : array, shape (P,)
    """
    if scale is None:
        scale = column_scale(equations)
    outer = np.outer(scale, scale)
    matrix = equations.gram / equations.weight / outer
    penalty = curvature / outer
    penalised = np.diag(penalty) > 0.0
    if penalised.any():
        matrix += strength.curvature / np.diag(penalty)[penalised].mean() * penalty
    matrix[np.diag_indices(len(matrix) - free)] += strength.ridge
    # a constant without energies of its own has no equation
    bare = [k for k in range(len(matrix) - free, len(matrix)) if equations.gram[k, k] <= 0.0]
    matrix[bare, bare] = 1.0
    return matrix, equations.moment / equations.weight / scale, scale


def column_scale(equations: NormalEquations) -> FloatArray:
    """Root mean square of every column over the rows of forces, shape (P,); the constants of the energy have others."""
    diagonal = np.where(equations.size > 0.0, equations.size, np.diag(equations.gram)) / equations.weight
    # a column that no row touches keeps a finite scale, and the ridge sets its coefficient to zero
    return np.asarray(np.sqrt(np.where(diagonal > 0.0, diagonal, diagonal.max(initial=0.0) or 1.0)))


def _left_out(
    fold: NormalEquations, rest: NormalEquations, curvature: FloatArray, strength: Regularisation, free: int
) -> float:
    """Squared error of a fold under the solution of the rest; a constant that the fold alone knows is fitted to it."""
    alone = [k for k in range(len(rest.moment) - free, len(rest.moment)) if rest.gram[k, k] <= 1e-9 * fold.gram[k, k]]
    for k in alone:
        rest.gram[k] = rest.gram[:, k] = rest.moment[k] = 0.0
    solution = solve(rest, curvature, strength, free=free)
    for k in alone:
        if fold.gram[k, k] > 0.0:
            solution[k] += (fold.moment[k] - fold.gram[k] @ solution) / fold.gram[k, k]
    return fold.squared_error(solution)


def ranked(
    folds: list[NormalEquations], curvature: FloatArray, candidates: list[Regularisation], free: int = 0
) -> list[Regularisation]:
    """The candidates in order of preference, those that do not make the equations definite left out.

    First those within half a per cent of the smallest RMS error on folds left out in turn, the strongest first; then
    the others by their error. The folds are contiguous blocks of time, so that a left-out frame has no near copy among
    those fitted.
    """
    total = sum(folds[1:], folds[0])

    def error(strength: Regularisation) -> float:
        try:
            return sum(_left_out(f, total - f, curvature, strength, free) for f in folds)
        except np.linalg.LinAlgError:  # too weak to make the equations definite
            return np.inf

    errors = [error(strength) for strength in candidates]
    best = min(errors)
    if not np.isfinite(best):
        raise np.linalg.LinAlgError("no candidate regularisation makes the normal equations definite")

    def preference(k: int) -> tuple[bool, float, float]:
        if errors[k] <= (1.0 + _TOLERANCE) ** 2 * best:
            return False, -candidates[k].ridge, -candidates[k].curvature
        return True, errors[k], 0.0

    return [candidates[k] for k in sorted(range(len(candidates)), key=preference) if np.isfinite(errors[k])]
