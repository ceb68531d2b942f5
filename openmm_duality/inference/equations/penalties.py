"""The curvature penalty of the pair part."""

from __future__ import annotations

import numpy as np

from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.inference.equations.layout import Layout
from openmm_duality.invariants.radial import RadialBasis
from openmm_duality.losses.model import core_onsets


def curvature_penalty(layout: Layout, problem: tuple[int, ...], basis: RadialBasis, shortest: FloatArray) -> FloatArray:
    """The quadratic form ∫ V″² of the pair part beyond the shortest distances, over the columns of a problem.

    Parameters
    ----------
    layout : Layout
    problem : tuple of int
    basis : RadialBasis
        Of the pair part.
    shortest : array, shape (S, S)
        Shortest distances seen in nm.
    """
    size, n = layout.size(problem), layout.n_pair
    onsets = core_onsets(shortest, basis.grid)
    form = np.zeros((size, size))
    for k, (a, b) in enumerate(layout.pairs(problem)):
        first = basis.grid.below(float(onsets[a, b])) + 1
        bends = np.diff(basis.coefficients[a, b], n=2, axis=-1)[:, first:]
        form[k * n : (k + 1) * n, k * n : (k + 1) * n] = bends @ bends.T
    return form
