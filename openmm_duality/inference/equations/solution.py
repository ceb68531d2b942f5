"""Normal equations, accumulated in double precision, and their regularised solution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from openmm_duality.geometry.arrays import BoolArray, FloatArray
from openmm_duality.inference.equations.penalties import Penalty, Strengths

_TOLERANCE = 0.005  # of the RMS error: what a stronger, so steadier, solution may cost


@dataclass
class NormalEquations:
    """Sums over design rows x with targets y and weights w.

    Parameters
    ----------
    gram : array, shape (P, P)
        Σ w x xᵀ.
    rhs : array, shape (P,)
        Σ w x y.
    column_squares : array, shape (P,)
        Σ w x² over the rows that set the scale of the columns, those of forces.
    target_squares : float
        Σ w y².
    weight : float
        Σ w over the rows that set the scale.
    """

    gram: FloatArray
    rhs: FloatArray
    column_squares: FloatArray
    target_squares: float = 0.0
    weight: float = 0.0

    @classmethod
    def empty(cls, size: int) -> NormalEquations:
        """Equations without rows."""
        return cls(np.zeros((size, size)), np.zeros(size), np.zeros(size))

    def add_rows(self, rows: FloatArray, targets: FloatArray, weights: FloatArray, *, set_scale: bool = True) -> None:
        """Add rows, shape (R, P), with targets and weights, shape (R,).

        Parameters
        ----------
        rows, targets, weights : array
        set_scale : bool
            Whether they count in the scale of the columns and in the sum of weights: forces do, energies do not.
        """
        weighted = rows * np.sqrt(weights)[:, None]
        gram = weighted.T @ weighted  # one array with itself: BLAS computes half of it
        self.gram += gram
        self.rhs += rows.T @ (weights * targets)
        self.target_squares += float(np.sum(weights * targets**2))
        if set_scale:
            self.column_squares += np.diag(gram)
            self.weight += float(weights.sum())

    def add_weighted(self, other: NormalEquations, weight: float) -> None:
        """Add other equations as if each of their rows occurred `weight` times."""
        self.gram += other.gram if weight == 1.0 else weight * other.gram
        self.rhs += weight * other.rhs
        self.column_squares += weight * other.column_squares
        self.target_squares += weight * other.target_squares
        self.weight += weight * other.weight

    def __add__(self, other: NormalEquations) -> NormalEquations:
        return NormalEquations(
            self.gram + other.gram,
            self.rhs + other.rhs,
            self.column_squares + other.column_squares,
            self.target_squares + other.target_squares,
            self.weight + other.weight,
        )

    def __sub__(self, other: NormalEquations) -> NormalEquations:
        return NormalEquations(
            self.gram - other.gram,
            self.rhs - other.rhs,
            self.column_squares - other.column_squares,
            self.target_squares - other.target_squares,
            self.weight - other.weight,
        )

    def relative_to(self, coefficients: FloatArray, mean_squares: FloatArray) -> NormalEquations:
        """The equations of the difference from given coefficients, for what those leave over of the targets.

        Parameters
        ----------
        coefficients : array, shape (P,)
        mean_squares : array, shape (P,)
            Of the columns, by which they are scaled from here on.
        """
        rhs = self.rhs - self.gram @ coefficients
        return NormalEquations(
            self.gram, rhs, self.weight * mean_squares, self.squared_error(coefficients), self.weight
        )

    def squared_error(self, coefficients: FloatArray) -> float:
        """Weighted sum of squared residuals of a solution over these rows."""
        return float(self.target_squares - 2.0 * coefficients @ self.rhs + coefficients @ self.gram @ coefficients)

    def to_arrays(self, prefix: str) -> dict[str, FloatArray]:
        """Arrays for a model file; of the Gram matrix only the upper triangle."""
        return {
            f"{prefix}gram": self.gram[np.triu_indices(len(self.gram))],
            f"{prefix}rhs": self.rhs,
            f"{prefix}scale": column_scale(self),
            f"{prefix}column_squares": self.column_squares,
            f"{prefix}sums": np.array([self.target_squares, self.weight]),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, FloatArray], prefix: str) -> NormalEquations:
        """From `to_arrays`."""
        rhs, squares = (arrays[f"{prefix}{name}"].copy() for name in ("rhs", "column_squares"))
        upper = np.zeros((len(rhs), len(rhs)))
        upper[np.triu_indices(len(rhs))] = arrays[f"{prefix}gram"]
        target_squares, weight = map(float, arrays[f"{prefix}sums"])
        return cls(upper + np.triu(upper, 1).T, rhs, squares, target_squares, weight)


def solve(
    equations: NormalEquations,
    penalties: Sequence[Penalty],
    strengths: Strengths,
    scale: FloatArray | None = None,
    n_unpenalised: int = 0,
    selected: BoolArray | None = None,
) -> FloatArray:
    """The coefficients that minimise the mean squared error plus the penalties, shape (P,).

    Parameters
    ----------
    equations, penalties, strengths, scale, n_unpenalised
        As for `scaled_system`.
    selected : array of bool, shape (P,), optional
        The columns that may have a coefficient; all by default.

    Raises
    ------
    LinAlgError
        If the equations are not definite.
    """
    matrix, rhs, scale = scaled_system(equations, penalties, strengths, scale, n_unpenalised)
    if selected is None:
        return np.asarray(cho_solve(cho_factor(matrix, lower=True, overwrite_a=True), rhs) / scale)
    coefficients = np.zeros(len(rhs))
    factor = cho_factor(matrix[np.ix_(selected, selected)], lower=True, overwrite_a=True)
    coefficients[selected] = cho_solve(factor, rhs[selected]) / scale[selected]
    return coefficients


def carried_over(
    deviations: FloatArray,
    old: NormalEquations,
    total: NormalEquations,
    penalties: Sequence[Penalty],
    strengths: Strengths,
    scale: FloatArray,
    n_unpenalised: int = 0,
    selected: BoolArray | None = None,
) -> FloatArray:
    """Deviations of refits from the solution after rows are added that all of them share, shape (P, K).

    A refit c + δ counts as the solution of the old equations for other targets, A (c + δ) in the place of A c; with the
    new rows in A′, the solution of those targets is c′ + A′⁻¹ A δ. So the deviations shrink where the new rows inform.

    Parameters
    ----------
    deviations : array, shape (P, K)
        δ from the solution of the old equations; those of the constants of the energy are found here.
    old, total : NormalEquations
        Before, and with the new rows.
    penalties, strengths, scale, n_unpenalised, selected
        As for `solve`.
    """
    deviations, p = deviations.copy(), len(deviations) - n_unpenalised
    for k in range(p, len(deviations)):  # a refit has constants of its own, which leave its energies no mean residual
        deviations[k] = -old.gram[k, :p] @ deviations[:p] / old.gram[k, k] if old.gram[k, k] > 0.0 else 0.0
    before, _, _ = scaled_system(old, penalties, strengths, scale, n_unpenalised)
    after, _, _ = scaled_system(total, penalties, strengths, scale, n_unpenalised)
    mine = np.ones(len(scale), dtype=bool) if selected is None else selected
    square = np.ix_(mine, mine)
    rhs = old.weight / total.weight * before[square] @ (scale[mine, None] * deviations[mine])
    result = np.zeros_like(deviations)
    result[mine] = cho_solve(cho_factor(after[square], lower=True), rhs) / scale[mine, None]
    return result


def scaled_system(
    equations: NormalEquations,
    penalties: Sequence[Penalty],
    strengths: Strengths,
    scale: FloatArray | None = None,
    n_unpenalised: int = 0,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The regularised equations A c = b in columns scaled to unit mean square.

    Parameters
    ----------
    equations : NormalEquations
    penalties : sequence of Penalty
    strengths : mapping of str to float
        By the name of the penalty.
    scale : array, shape (P,), optional
        Root mean squares of the columns; those of these equations by default.
    n_unpenalised : int
        Number of columns at the end that are constants of the energy; one without energies has no equation.

    Returns
    -------
    matrix : array, shape (P, P)
    rhs : array, shape (P,)
    scale : array, shape (P,)
    """
    if scale is None:
        scale = column_scale(equations)
    matrix = equations.gram / equations.weight / np.outer(scale, scale)
    rhs = equations.rhs / equations.weight / scale
    for penalty in penalties:
        penalty.add(matrix, rhs, scale, strengths[penalty.name])
    for k in range(len(matrix) - n_unpenalised, len(matrix)):
        if equations.gram[k, k] <= 0.0:
            matrix[k, k] = 1.0
    return matrix, rhs, scale


def column_scale(equations: NormalEquations) -> FloatArray:
    """Root mean square of every column over the rows that set the scale, shape (P,).

    A column that those rows do not touch is scaled by all rows, and one that no row touches keeps a finite scale, so
    that the ridge sets its coefficient to zero.
    """
    squares = equations.column_squares
    diagonal = np.where(squares > 0.0, squares, np.diag(equations.gram)) / equations.weight
    return np.asarray(np.sqrt(np.where(diagonal > 0.0, diagonal, diagonal.max(initial=0.0) or 1.0)))


def floored_mean_squares(folds: Sequence[NormalEquations], block_sizes: Sequence[int], fraction: float) -> FloatArray:
    """Mean squares of the columns, shape (P,), none below that fraction of the RMS of its block, squared.

    Parameters
    ----------
    folds : sequence of NormalEquations
    block_sizes : sequence of int
        Numbers of columns that belong together.
    fraction : float
    """
    block = np.repeat(np.arange(len(block_sizes)), block_sizes)
    own = sum(f.column_squares for f in folds) / max(sum(f.weight for f in folds), np.finfo(float).tiny)
    means = np.bincount(block, own, len(block_sizes)) / np.maximum(block_sizes, 1)
    return np.asarray(np.maximum(own, fraction**2 * means[block]))


def ranked(
    folds: Sequence[NormalEquations],
    penalties: Sequence[Penalty],
    candidates: Sequence[Strengths],
    n_unpenalised: int = 0,
    selected: BoolArray | None = None,
) -> list[Strengths]:
    """The candidates in order of preference, without those that do not make the equations definite.

    First those within half a per cent of the smallest RMS error on folds left out in turn, the strongest first (by the
    first of their penalties, then by the next); then the others by their error. The folds are contiguous blocks of
    time, so that a left-out frame has no near copy among those fitted.

    Raises
    ------
    LinAlgError
        If none makes them definite.
    """
    total = sum(folds[1:], folds[0])

    def error(strengths: Strengths) -> float:
        try:
            return sum(_left_out_error(f, total - f, penalties, strengths, n_unpenalised, selected) for f in folds)
        except np.linalg.LinAlgError:  # too weak to make the equations definite
            return np.inf

    errors = [error(strengths) for strengths in candidates]
    best = min(errors)
    if not np.isfinite(best):
        raise np.linalg.LinAlgError("no candidate regularisation makes the normal equations definite")

    def preference(k: int) -> tuple[bool, list[float]]:
        if errors[k] <= (1.0 + _TOLERANCE) ** 2 * best:
            return False, [-strength for strength in candidates[k].values()]
        return True, [errors[k]]

    return [candidates[k] for k in sorted(range(len(candidates)), key=preference) if np.isfinite(errors[k])]


def ranked_in_turn(
    folds: Sequence[NormalEquations],
    penalties: Sequence[Penalty],
    grids: Mapping[str, Sequence[float]],
    n_unpenalised: int = 0,
    selected: BoolArray | None = None,
) -> Strengths:
    """The strengths preferred on folds left out, of one penalty after the other, each beginning amid its grid.

    Raises
    ------
    LinAlgError
        As for `ranked`.
    """
    best: Strengths = {name: grid[len(grid) // 2] for name, grid in grids.items()}
    for name, grid in grids.items():
        if len(grid) > 1:
            candidates = [{**best, name: strength} for strength in grid]
            best = ranked(folds, penalties, candidates, n_unpenalised, selected)[0]
    return best


def _left_out_error(
    fold: NormalEquations,
    rest: NormalEquations,
    penalties: Sequence[Penalty],
    strengths: Strengths,
    n_unpenalised: int,
    selected: BoolArray | None,
) -> float:
    """Squared error of a fold under the solution of the rest; a constant that the fold alone knows is fitted to it."""
    first = len(rest.rhs) - n_unpenalised
    alone = [k for k in range(first, len(rest.rhs)) if rest.gram[k, k] <= 1e-9 * fold.gram[k, k]]
    for k in alone:
        rest.gram[k] = rest.gram[:, k] = rest.rhs[k] = 0.0
    solution = solve(rest, penalties, strengths, n_unpenalised=n_unpenalised, selected=selected)
    for k in alone:
        if fold.gram[k, k] > 0.0:
            solution[k] += (fold.rhs[k] - fold.gram[k] @ solution) / fold.gram[k, k]
    return fold.squared_error(solution)
