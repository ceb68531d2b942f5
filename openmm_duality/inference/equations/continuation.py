"""The penalties of every inference: how the losses continue where the data do not determine them.

For a form with channels the changes of the curvature in displaced frames are compared with those of a fit of pairs to
the same data. So a wall that the pairs show is continued as a wall, and all else harmonically; compared with zero, a
wall would be straightened.
"""

from __future__ import annotations

import numpy as np

from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.inference.equations.design import Design
from openmm_duality.inference.equations.layout import Group
from openmm_duality.inference.equations.penalties import (
    Penalty,
    many_body_curvature_penalty,
    pair_curvature_penalty,
    ridge_penalty,
)
from openmm_duality.inference.equations.solution import NormalEquations, column_scale, solve

_OF_PAIRS = {"curvature": 1.0, "ridge": 1e-7}  # strengths of the fit of pairs: functions as smooth as for any data


def standard_penalties(
    design: Design,
    group: Group,
    shortest: FloatArray,
    curvature_changes: FloatArray | None = None,
    equations: NormalEquations | None = None,
) -> tuple[Penalty, ...]:
    """Penalties of every inference: curvature, and a ridge on all coefficients but the energy constants.

    Parameters
    ----------
    design : Design
    group : tuple of int
    shortest : array, shape (S, S)
        Shortest distances in the data, in nm.
    curvature_changes : array, shape (P, P), optional
        For a form with channels: the mean squared changes of the curvature of its losses in displaced frames (see
        `displaced_frames`). Without them the penalty is on the third differences of the functions.
    equations : NormalEquations, optional
        Equations to which pairs are fitted, whose changes of the curvature are those wanted; zero without them.
    """
    layout = design.layout
    ridge = ridge_penalty(layout.size(group), layout.n_constants)
    if curvature_changes is not None:
        return continuation(design, group, shortest, curvature_changes, equations), ridge
    return (
        pair_curvature_penalty(layout, group, design.pair_basis, shortest),
        many_body_curvature_penalty(layout, group, design.basis, shortest),
        ridge,
    )


def continuation(
    design: Design,
    group: Group,
    shortest: FloatArray,
    curvature_changes: FloatArray,
    equations: NormalEquations | None,
) -> Penalty:
    """Penalty (c − c₀)ᵀA(c − c₀) on changes of the curvature, with the coefficients c₀ of a fit of pairs, or zero.

    Parameters
    ----------
    design, group, shortest, curvature_changes, equations
        As for `standard_penalties`.
    """
    if equations is None or not equations.weight:
        return Penalty("curvature", curvature_changes)
    return Penalty("curvature", curvature_changes, curvature_changes @ fit_of_pairs(design, group, shortest, equations))


def fit_of_pairs(design: Design, group: Group, shortest: FloatArray, equations: NormalEquations) -> FloatArray:
    """Coefficients of the pair part alone, the others and the energy constants being zero, shape (P,)."""
    layout = design.layout
    pairs = np.zeros(len(equations.rhs), dtype=bool)
    for part, first in layout.first_columns(group):
        pairs[first : first + len(layout.pairs(part, group)) * layout.n_pair] = True
    fitted = pairs.copy()
    fitted[len(fitted) - layout.n_constants :] = True
    penalties = (
        pair_curvature_penalty(layout, group, design.pair_basis, shortest),
        ridge_penalty(len(pairs), layout.n_constants),
    )
    scale = column_scale(equations, layout.scale_blocks(group))
    return np.where(pairs, solve(equations, penalties, _OF_PAIRS, scale, layout.n_constants, fitted), 0.0)
