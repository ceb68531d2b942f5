"""Normal equations in double precision and their regularised solution."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.linalg.blas import dsyrk

from openmm_duality.errors import DualityError
from openmm_duality.geometry.arrays import BoolArray, FloatArray
from openmm_duality.inference.equations.penalties import Penalty, Strengths

ABSENT = 1e-9  # share of the energies of a fold below which others do not have its compositions
_ROUNDING = 1e-14  # root mean square of a column that is rounding, relative to the largest
_SCALE_FLOOR = 0.3  # of the root mean square of a block of columns
PANEL = 2**21  # numbers of a Gram matrix that are handled at a time, so that temporary arrays are small


@dataclass
class NormalEquations:
    """Normal equations: sums over design rows x with targets y and weights w.

    Parameters
    ----------
    gram : array, shape (P, P)
        Σ w x xᵀ.
    rhs : array, shape (P,)
        Σ w x y.
    column_squares : array, shape (P,)
        Σ w x² over the rows that define the column scales, those of forces.
    target_squares : float
        Σ w y².
    weight : float
        Σ w over the rows that define the column scales.
    """

    gram: FloatArray
    rhs: FloatArray
    column_squares: FloatArray
    target_squares: float = 0.0
    weight: float = 0.0

    @classmethod
    def empty(cls, size: int, gram: FloatArray | None = None) -> NormalEquations:
        """Make equations without rows, optionally with a given array of zeros for the Gram matrix."""
        return cls(np.zeros((size, size)) if gram is None else gram, np.zeros(size), np.zeros(size))

    @classmethod
    def sum_of(cls, equations: Sequence[NormalEquations]) -> NormalEquations:
        """Sum of equations, in new arrays."""
        total = cls.empty(len(equations[0].rhs))
        for one in equations:
            total.add_weighted(one, 1.0)
        return total

    def add_rows(
        self,
        rows: FloatArray,
        targets: FloatArray,
        weights: FloatArray,
        *,
        set_scale: bool = True,
        mirrored: bool = True,
    ) -> None:
        """Add rows, shape (R, P), with targets and weights, shape (R,).

        Parameters
        ----------
        rows, targets, weights : array
        set_scale : bool
            Whether they enter the column scales and the sum of weights: forces do, energies do not.
        mirrored : bool
            Whether the Gram matrix is whole afterwards; without, it is by `mirror` after the last rows.
        """
        weighted = np.ascontiguousarray(rows * np.sqrt(weights)[:, None])
        if weighted.size:
            # in place, and half of the matrix alone
            self.gram = dsyrk(1.0, weighted.T, beta=1.0, c=self.gram.T, overwrite_c=1).T
        if mirrored:
            self.mirror()
        self.rhs += rows.T @ (weights * targets)
        self.target_squares += float(np.sum(weights * targets**2))
        if set_scale:
            self.column_squares += np.einsum("rp,rp->p", weighted, weighted)
            self.weight += float(weights.sum())

    def mirror(self) -> None:
        """Make the upper half of the Gram matrix that of the lower."""
        for here in panels(len(self.gram)):
            self.gram[here, here.stop :] = self.gram[here.stop :, here].T
            block = self.gram[here, here]
            np.copyto(block, block.T.copy(), where=np.tri(len(block), dtype=bool).T)

    def add_weighted(self, other: NormalEquations, weight: float) -> None:
        """Add other equations with a weight, as if each of their rows occurred `weight` times."""
        for here in panels(len(self.gram)):
            self.gram[here] += weight * other.gram[here]
        self.rhs += weight * other.rhs
        self.column_squares += weight * other.column_squares
        self.target_squares += weight * other.target_squares
        self.weight += weight * other.weight

    def __sub__(self, other: NormalEquations) -> NormalEquations:
        return NormalEquations(
            self.gram - other.gram,
            self.rhs - other.rhs,
            self.column_squares - other.column_squares,
            self.target_squares - other.target_squares,
            self.weight - other.weight,
        )

    def relative_to(self, coefficients: FloatArray) -> NormalEquations:
        """Equations of the differences from given coefficients, with the residuals of those as targets."""
        rhs = self.rhs - self.gram @ coefficients
        left = max(self.squared_error(coefficients), 0.0)  # rounding, where the coefficients fit exactly
        return NormalEquations(self.gram, rhs, self.column_squares, left, self.weight)

    def squared_error(self, coefficients: FloatArray) -> float:
        """Weighted sum of squared residuals of the coefficients over all rows."""
        return float(self.target_squares - 2.0 * coefficients @ self.rhs + coefficients @ self.gram @ coefficients)


def panels(size: int) -> Iterator[slice]:
    """Successive rows of a matrix of `size` columns."""
    step = max(1, PANEL // max(size, 1))
    for begin in range(0, size, step):
        yield slice(begin, min(begin + step, size))


def solve(
    equations: NormalEquations,
    penalties: Sequence[Penalty],
    strengths: Strengths,
    scale: FloatArray | None = None,
    n_constants: int = 0,
    selected: BoolArray | None = None,
) -> FloatArray:
    """Solve for the coefficients that minimise the mean squared error plus the penalties, shape (P,).

    Parameters
    ----------
    equations, penalties, strengths, scale, n_constants
        As for `scaled_system`.
    selected : array of bool, shape (P,), optional
        Columns whose coefficients are fitted, the others being zero; all by default.

    Raises
    ------
    LinAlgError
        If the equations are not positive definite.
    """
    matrix, rhs, scale = scaled_system(equations, penalties, strengths, scale, n_constants)
    if selected is None:
        return np.asarray(cho_solve(factorised(matrix), rhs) / scale)
    coefficients = np.zeros(len(rhs))
    matrix = matrix[np.ix_(selected, selected)]
    coefficients[selected] = cho_solve(factorised(matrix), rhs[selected]) / scale[selected]
    return coefficients


@contextmanager
def raise_if_undetermined() -> Iterator[None]:
    """Turn a failed factorisation into an error for the user."""
    try:
        yield
    except np.linalg.LinAlgError as error:
        raise DualityError(
            f"the data do not determine the losses ({error}); use a stronger ridge, more frames or fewer functions"
        ) from None


def factorised(matrix: FloatArray) -> tuple[FloatArray, bool]:
    """Cholesky factor of a symmetric matrix for `cho_solve`, which takes the place of the matrix.

    Raises
    ------
    LinAlgError
        If the matrix is not positive definite.
    """
    # the transpose has the order of LAPACK, so that nothing is copied
    factor, lower = cho_factor(matrix.T, lower=True, overwrite_a=True, check_finite=False)
    return factor, bool(lower)


def propagate_deviations(
    deviations: FloatArray,
    old: NormalEquations,
    total: NormalEquations,
    penalties: Sequence[Penalty],
    strengths: Strengths,
    scale: FloatArray,
    n_constants: int = 0,
    selected: BoolArray | None = None,
) -> FloatArray:
    """Update the deviations of committee members from the solution when rows common to all are added, shape (P, K).

    A member c + δ is regarded as the solution of the old equations with right-hand side A (c + δ) instead of A c. With
    the new rows in A′ the solution is c′ + A′⁻¹ A δ: deviations shrink where the new rows determine the coefficients.

    Parameters
    ----------
    deviations : array, shape (P, K)
        δ from the solution of the old equations; the values for the energy constants are computed here.
    old, total : NormalEquations
        Equations without and with the new rows.
    penalties, strengths, scale, n_constants, selected
        As for `solve`.
    """
    deviations, p = deviations.copy(), len(deviations) - n_constants
    # the energy constants of a member are those that fit the energies best
    deviations[p:] = -np.linalg.pinv(old.gram[p:, p:], rcond=ABSENT, hermitian=True) @ (
        old.gram[p:, :p] @ deviations[:p]
    )
    before, _, _ = scaled_system(old, penalties, strengths, scale, n_constants)
    after, _, _ = scaled_system(total, penalties, strengths, scale, n_constants)
    mine = np.ones(len(scale), dtype=bool) if selected is None else selected
    square = np.ix_(mine, mine)
    rhs = old.weight / total.weight * before[square] @ (scale[mine, None] * deviations[mine])
    result = np.zeros_like(deviations)
    result[mine] = cho_solve(factorised(after[square]), rhs) / scale[mine, None]
    return result


def scaled_system(
    equations: NormalEquations,
    penalties: Sequence[Penalty],
    strengths: Strengths,
    scale: FloatArray | None = None,
    n_constants: int = 0,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Build the regularised equations A c = b for scaled columns.

    Parameters
    ----------
    equations : NormalEquations
    penalties : sequence of Penalty
    strengths : mapping of str to float
        Regularisation strength by the name of the penalty.
    scale : array, shape (P,), optional
        Scales of the columns; their root mean squares in these equations by default.
    n_constants : int
        Number of energy constants, the last columns. Of those that fit equally well the smallest are taken; the
        coefficient of one without energies is zero.

    Returns
    -------
    matrix : array, shape (P, P)
    rhs : array, shape (P,)
    scale : array, shape (P,)
    """
    if scale is None:
        scale = column_scale(equations)
    matrix = equations.gram / (equations.weight * scale)
    matrix /= scale[:, None]
    rhs = equations.rhs / equations.weight / scale
    for penalty in penalties:
        penalty.add(matrix, rhs, scale, strengths[penalty.name])
    if n_constants:
        first = len(matrix) - n_constants
        # combinations of constants that no composition contains, to be set to zero
        free = undetermined(equations.gram[first:, first:]) / scale[first:, None]
        free /= np.linalg.norm(free, axis=0)
        matrix[first:, first:] += free @ free.T
    return matrix, rhs, scale


def undetermined(gram: FloatArray, largest: float | None = None) -> FloatArray:
    """Orthonormal combinations that a Gram matrix of energy constants, shape (C, C), does not determine, shape (C, K).

    Parameters
    ----------
    gram : array, shape (C, C)
    largest : float, optional
        Eigenvalue with which those of the matrix are compared; its own largest by default.
    """
    values, axes = np.linalg.eigh(gram)
    return np.asarray(axes[:, values <= ABSENT * (values[-1] if largest is None else largest)])


def column_scale(equations: NormalEquations, block_sizes: Sequence[int] = ()) -> FloatArray:
    """Root mean square of every column over the rows that define the scales, shape (P,), with a lower bound.

    The bound is a fraction of the root mean square of the block of a column. A function that the data hardly sample
    would otherwise get a small scale, so that the ridge would hardly act on its coefficient. A column that is zero in
    the rows that define the scales is scaled by all rows, and a block that is zero in all rows gets a finite scale, so
    that the ridge sets its coefficients to zero.
    Zero is what rounding makes of it: in a crystal with one atom of a species the forces of its images cancel.

    Parameters
    ----------
    equations : NormalEquations
    block_sizes : sequence of int
        Numbers of columns in successive blocks (`Layout.block_sizes`); none for scales without a lower bound.
    """
    squares, every = equations.column_squares, np.diag(equations.gram)
    zero = _ROUNDING**2 * np.maximum(squares, every).max(initial=0.0)
    means = np.where(squares > zero, squares, every) / (equations.weight or 1.0)
    means = np.where(means > zero / (equations.weight or 1.0), means, 0.0)
    if block_sizes:
        block = np.repeat(np.arange(len(block_sizes)), block_sizes)
        of_block = np.bincount(block, means, len(block_sizes)) / np.maximum(block_sizes, 1)
        means = np.maximum(means, _SCALE_FLOOR**2 * of_block[block])
    return np.asarray(np.sqrt(np.where(means > 0.0, means, means.max(initial=0.0) or 1.0)))
