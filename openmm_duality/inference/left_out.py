"""How far a correction can be trusted: its errors with error bars over which dear frames were taken.

Two questions are asked of the contiguous blocks of the dear frames. Fitted without a block, how well does the
correction do on it? And how much do the errors on a test set change from one such fit to the next? The second gives the
jackknife's standard error, σ² = (B − 1)/B Σ_b (e_b − ē)², over blocks because neighbouring frames are nearly the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.inference.correction import Correction
from openmm_duality.inference.equations.solution import Regularisation
from openmm_duality.inference.errors import evaluate
from openmm_duality.losses.model import AgentLosses
from openmm_duality.reference.frames import Frames
from openmm_duality.units import MEV_PER_ANGSTROM

Refits = Sequence[list[FloatArray]]  # coefficients of ΔH by the block left out, then by problem
_FRAMES = 50  # evenly spaced, of every test set, for each refit


def without_each(correction: Correction, strengths: Sequence[Regularisation]) -> Refits:
    """ΔH fitted without each block in turn; nothing where there is one block alone."""
    if len(correction.used) < 2:
        return []
    pairs = list(zip(correction.blocks, correction.totals, strict=True))
    return [correction.differences([total - mine[b] for mine, total in pairs], strengths) for b in correction.used]


def block_errors(correction: Correction, refits: Refits) -> dict[str, Any]:
    """Force errors of the base model and of the correction on each block, fitted without it.

    They are weighted as in the fit, by 1/(1 + |F|²/F₀²), so that large forces count less than in an error table.

    Returns
    -------
    dict
        ``before`` and ``after``, each with the RMSE in meV/Å on every block (``blocks``), on all together
        (``force_rmse``), and the standard error of that from the spread of the blocks (``error``).
    """
    if not refits:
        return {}
    before, after, weights = np.zeros((3, len(refits)))
    for b, (block, differences) in enumerate(zip(correction.used, refits, strict=True)):
        for mine, difference, free in zip(correction.blocks, differences, correction.free, strict=True):
            before[b] += mine[block].square
            after[b] += mine[block].squared_error(difference[free])
            weights[b] += mine[block].weight
    return {"before": _summary(before, weights), "after": _summary(after, weights)}


def spread_on(
    test: Mapping[str, Frames], correction: Correction, refits: Refits, corrected: AgentLosses
) -> dict[str, dict[str, float]]:
    """Standard errors of the force errors of a corrected model on test sets.

    Returns
    -------
    dict of str to dict
        By test set, in meV/Å with the keys of an error table; empty without refits.
    """
    tables: dict[str, list[dict[str, float]]] = {name: [] for name in test if refits}
    for differences in refits:
        member = replace(correction.added(differences), core_strength=corrected.core_strength)
        for name, found in tables.items():
            found.append(evaluate(member, test[name], at_most=_FRAMES).force_rmse)
    return {
        name: {key: jackknife([table[key] for table in found]) for key in found[0]} for name, found in tables.items()
    }


def jackknife(values: Sequence[float]) -> float:
    """The standard error of a quantity from its values with each of the blocks left out."""
    return float(np.sqrt(len(values) - 1.0) * np.std(values))


def _summary(squares: FloatArray, weights: FloatArray) -> dict[str, Any]:
    blocks = np.sqrt(np.maximum(squares, 0.0) / weights) / MEV_PER_ANGSTROM
    return {
        "blocks": blocks.tolist(),
        "force_rmse": float(np.sqrt(max(0.0, squares.sum()) / weights.sum()) / MEV_PER_ANGSTROM),
        "error": float(np.std(blocks, ddof=1) / np.sqrt(len(blocks))),
    }
