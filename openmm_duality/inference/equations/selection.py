"""Choosing the coefficients that matter most: backward elimination over the column-scaled equations.

At the minimum, fixing one coefficient at zero and letting the others follow raises the penalised squared error by
c_k²/(A⁻¹)_kk (the optimal brain surgeon of Hassibi and Stork, exact for a quadratic error). The least
important go first, a fifth of the excess at a time, and the rest is solved again.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from openmm_duality.geometry.arrays import BoolArray
from openmm_duality.inference.equations.layout import Group, Layout
from openmm_duality.inference.equations.penalties import Penalty, Strengths
from openmm_duality.inference.equations.solution import NormalEquations, scaled_system

_SHARE = 0.2  # of the excess that goes in one round


def select(
    equations: NormalEquations,
    penalties: Sequence[Penalty],
    strengths: Strengths,
    at_most: int,
    n_unpenalised: int = 0,
) -> BoolArray:
    """The columns of the best solution found with a given number of coefficients.

    Parameters
    ----------
    equations : NormalEquations
        Of P columns.
    penalties : sequence of Penalty
    strengths : mapping of str to float
    at_most : int
        Largest number of coefficients that are not zero.
    n_unpenalised : int
        Number of columns at the end that stay and are not counted: the constants of the energy.

    Returns
    -------
    selected : array of bool, shape (P,)
    """
    matrix, rhs, _ = scaled_system(equations, penalties, strengths, n_unpenalised=n_unpenalised)
    remaining = np.arange(len(rhs))
    while (excess := len(remaining) - n_unpenalised - at_most) > 0:
        factor = cho_factor(matrix[np.ix_(remaining, remaining)], lower=True)
        rise = cho_solve(factor, rhs[remaining]) ** 2 / np.diag(cho_solve(factor, np.eye(len(remaining))))
        rise[len(remaining) - n_unpenalised :] = np.inf
        remaining = np.sort(remaining[np.argsort(rise)[max(1, int(_SHARE * excess)) :]])
    selected = np.zeros(len(rhs), dtype=bool)
    selected[remaining] = True
    return selected


def describe_selection(layout: Layout, group: Group, selected: BoolArray, species: Sequence[str]) -> dict[str, str]:
    """How many coefficients of every block of columns were selected, as ``"n of all"`` by the name of the block."""
    blocks = np.split(selected, np.cumsum(layout.block_sizes(group))[:-1])
    names = layout.block_names(group, species)
    return {
        name: f"{int(block.sum())} of {len(block)}" for name, block in zip(names, blocks, strict=True) if len(block)
    }
