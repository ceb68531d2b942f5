"""Selection of the most important coefficients by backward elimination on the column-scaled equations.

At the minimum, setting one coefficient to zero and reoptimising the others raises the penalised squared error by
c_k²/(A⁻¹)_kk (the optimal brain surgeon of Hassibi and Stork, exact for a quadratic error). In each round a fifth of
the excess coefficients, the least important ones, are removed and the others are solved for again.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.linalg import cho_solve
from scipy.linalg.lapack import dpotri

from openmm_duality.geometry.arrays import BoolArray, FloatArray
from openmm_duality.inference.equations.layout import Group, Layout
from openmm_duality.inference.equations.penalties import Penalty, Strengths
from openmm_duality.inference.equations.solution import NormalEquations, factorised, scaled_system

_SHARE = 0.2  # fraction of the excess removed in one round


def select(
    equations: NormalEquations,
    penalties: Sequence[Penalty],
    strengths: Strengths,
    n_coefficients: int,
    scale: FloatArray,
    n_constants: int = 0,
) -> BoolArray:
    """Select the columns of the best solution found with a given number of coefficients.

    Parameters
    ----------
    equations : NormalEquations
        Normal equations of P columns.
    penalties : sequence of Penalty
    strengths : mapping of str to float
    n_coefficients : int
        Maximum number of non-zero coefficients.
    scale : array, shape (P,)
        Scales of the columns.
    n_constants : int
        Number of columns at the end that are always kept and not counted: the energy constants.

    Returns
    -------
    selected : array of bool, shape (P,)
    """
    matrix, rhs, _ = scaled_system(equations, penalties, strengths, scale, n_constants)
    remaining = np.arange(len(rhs))
    while (excess := len(remaining) - n_constants - n_coefficients) > 0:
        rise = _rises(matrix[np.ix_(remaining, remaining)], rhs[remaining])
        rise[len(remaining) - n_constants :] = np.inf
        remaining = np.sort(remaining[np.argsort(rise)[max(1, int(_SHARE * excess)) :]])
    selected = np.zeros(len(rhs), dtype=bool)
    selected[remaining] = True
    return selected


def _rises(matrix: FloatArray, rhs: FloatArray) -> FloatArray:
    """Rise of the error without each of the coefficients, c_k²/(A⁻¹)_kk; the matrix is overwritten."""
    factor = factorised(matrix)
    solution = cho_solve(factor, rhs)
    inverse, _ = dpotri(factor[0], lower=True, overwrite_c=True)
    return np.asarray(solution**2 / np.diag(inverse))


def describe_selection(layout: Layout, group: Group, selected: BoolArray, species: Sequence[str]) -> dict[str, str]:
    """Number of selected coefficients in each block of columns, as ``"n of N"`` by the name of the block."""
    blocks = np.split(selected, np.cumsum(layout.block_sizes(group))[:-1])
    names = layout.block_names(group, species)
    return {
        name: f"{int(block.sum())} of {len(block)}" for name, block in zip(names, blocks, strict=True) if len(block)
    }
