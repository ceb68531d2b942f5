"""Normal equations as arrays that a model file keeps, so that new frames can update the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.inference.equations.solution import NormalEquations, column_scale


def keep(totals: Sequence[NormalEquations]) -> dict[str, FloatArray]:
    """The equations of every problem as arrays for a model file: of the Gram matrix only the upper triangle."""
    arrays: dict[str, FloatArray] = {}
    for k, total in enumerate(totals):
        arrays[f"{k}/gram"] = total.gram[np.triu_indices(len(total.gram))]
        arrays[f"{k}/moment"] = total.moment
        arrays[f"{k}/scale"] = column_scale(total)
        arrays[f"{k}/size"] = total.size
        arrays[f"{k}/sums"] = np.array([total.square, total.weight])
    return arrays


def kept(arrays: Mapping[str, FloatArray], problem: int) -> NormalEquations:
    """The equations of a problem, from what `keep` made."""
    moment = arrays[f"{problem}/moment"]
    upper = np.zeros((len(moment), len(moment)))
    upper[np.triu_indices(len(moment))] = arrays[f"{problem}/gram"]
    square, weight = arrays[f"{problem}/sums"]
    size = arrays[f"{problem}/size"].copy()
    return NormalEquations(upper + np.triu(upper, 1).T, moment.copy(), size, float(square), float(weight))
