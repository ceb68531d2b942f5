"""Choosing the coefficients that pay: backward elimination over the column-scaled equations.

At the minimum, fixing one coefficient at zero and letting the others follow raises the penalised squared error by
c_k²/(A⁻¹)_kk (the optimal brain surgeon of Hassibi and Stork, exact for a quadratic error). The least go first, a
fifth of what is too many at a time, and the rest is solved again.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from openmm_duality.geometry.arrays import BoolArray, FloatArray
from openmm_duality.inference.equations.layout import Layout
from openmm_duality.inference.equations.solution import NormalEquations, Regularisation, scaled_system

_SHARE = 0.2  # of the excess that goes in one round


def select(
    equations: NormalEquations, curvature: FloatArray, strength: Regularisation, at_most: int, free: int = 0
) -> BoolArray:
    """The columns of the best solution found with at most so many coefficients.

    Parameters
    ----------
    equations : NormalEquations
        Of P columns.
    curvature : array, shape (P, P)
    strength : Regularisation
    at_most : int
        Largest number of coefficients that are not zero.
    free : int
        So many columns at the end are kept and not counted: the constants of the energy.

    Returns
    -------
    kept : array of bool, shape (P,)
    """
    matrix, right, _ = scaled_system(equations, curvature, strength, free=free)
    kept = np.arange(len(right))
    while (excess := len(kept) - free - at_most) > 0:
        factor = cho_factor(matrix[np.ix_(kept, kept)], lower=True)
        rise = cho_solve(factor, right[kept]) ** 2 / np.diag(cho_solve(factor, np.eye(len(kept))))
        rise[len(kept) - free :] = np.inf
        kept = np.sort(kept[np.argsort(rise)[max(1, int(_SHARE * excess)) :]])
    mask = np.zeros(len(right), dtype=bool)
    mask[kept] = True
    return mask


def describe(layout: Layout, problem: tuple[int, ...], kept: BoolArray, species: tuple[str, ...]) -> dict[str, str]:
    """How many coefficients of every group were kept, as ``"kept of all"`` by the name of the group."""
    names = [f"pair {species[a]}-{species[b]}" for a, b in layout.pairs(problem)]
    for a in problem:
        names += [f"{species[a]}, rank {rank}" for rank in layout.form.ranks]
        names.append(f"{species[a]}, coupled")
    names.append("constants of the energy")
    sizes = layout.part_sizes(problem)
    parts = np.split(kept, np.cumsum(sizes)[:-1])
    return {name: f"{int(part.sum())} of {len(part)}" for name, part in zip(names, parts, strict=True) if len(part)}
