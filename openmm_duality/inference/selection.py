"""Choosing the coefficients that pay: backward elimination over the column-scaled equations.

At the minimum, fixing one coefficient at zero and letting the others follow raises the penalised squared error by
c_k²/(A⁻¹)_kk (the optimal brain surgeon of Hassibi and Stork, exact for a quadratic error). The least go first, a
fifth of what is too many at a time, and the rest is solved again.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve

from openmm_duality.inference.equations import NormalEquations, Regularisation, scaled_system
from openmm_duality.inference.layout import FloatArray, Layout

BoolArray = npt.NDArray[np.bool_]
_SHARE = 0.2  # of the excess that goes in one round


def select(
    equations: NormalEquations, curvature: FloatArray, strength: Regularisation, at_most: int
) -> tuple[FloatArray, BoolArray]:
    """The best solution found with at most so many coefficients.

    Parameters
    ----------
    equations : NormalEquations
        Of P columns.
    curvature : array, shape (P, P)
    strength : Regularisation
    at_most : int
        Largest number of coefficients that are not zero.

    Returns
    -------
    coefficients : array, shape (P,)
    kept : array of bool, shape (P,)
    """
    matrix, right, scale = scaled_system(equations, curvature, strength)
    kept = np.arange(len(right))
    while True:
        factor = cho_factor(matrix[np.ix_(kept, kept)], lower=True)
        solution = cho_solve(factor, right[kept])
        excess = len(kept) - at_most
        if excess <= 0:
            break
        inverse = np.diag(cho_solve(factor, np.eye(len(kept))))
        order = np.argsort(solution**2 / inverse)
        kept = np.sort(kept[order[max(1, int(_SHARE * excess)) :]])
    coefficients = np.zeros(len(right))
    coefficients[kept] = solution / scale[kept]
    mask = np.zeros(len(right), dtype=bool)
    mask[kept] = True
    return coefficients, mask


def describe(layout: Layout, problem: tuple[int, ...], kept: BoolArray, species: tuple[str, ...]) -> dict[str, str]:
    """How many coefficients of every group were kept, as ``"kept of all"`` by the name of the group."""
    names = [f"pair {species[a]}-{species[b]}" for a, b in layout.pairs(problem)]
    for a in problem:
        names += [f"{species[a]}, rank {rank}" for rank in layout.form.ranks]
        names.append(f"{species[a]}, coupled")
    sizes = layout.part_sizes(problem)
    parts = np.split(kept, np.cumsum(sizes)[:-1])
    return {name: f"{int(part.sum())} of {len(part)}" for name, part in zip(names, parts, strict=True) if len(part)}
