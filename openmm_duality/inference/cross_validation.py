"""Cross-validation of Δ-learning: errors with error bars over the choice of frames of the high level of theory.

The frames are divided into contiguous blocks of time, and ΔH is fitted without each of them in turn. The errors on the
block left out are the cross-validation error. The scatter of the errors e_b on a test set gives the jackknife standard
error, σ² = (B − 1)/B Σ_b (e_b − ē)²; blocks are used because neighbouring frames are nearly identical.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.inference.equations.inference import Inference
from openmm_duality.inference.equations.penalties import Strengths
from openmm_duality.inference.equations.solution import raise_if_undetermined
from openmm_duality.inference.equations.targets import count_samples
from openmm_duality.inference.errors import error_table
from openmm_duality.inference.uncertainty.measurements import measure
from openmm_duality.losses.model import AgentLosses
from openmm_duality.reference.frames import evenly_spaced
from openmm_duality.reference.mixed_frames import AnyFrames
from openmm_duality.units import MEV_PER_ANGSTROM

Fits = Sequence[list[FloatArray]]  # coefficients of ΔH, by block left out, then by group
_FRAMES = 50  # evenly spaced frames of every test set


def resampled_fits(inference: Inference, strengths: Sequence[Strengths]) -> Fits:
    """Fit ΔH with each block left out in turn; an empty list if there is only one block."""
    used = inference.equations.filled
    if len(used) < 2:
        return []
    pairs = list(zip(inference.equations.blocks, inference.totals, strict=True))
    with raise_if_undetermined():
        return [inference.solve([total - mine[b] for mine, total in pairs], strengths) for b in used]


def block_errors(inference: Inference, fits: Fits) -> dict[str, Any]:
    """Force errors of the prior and of the corrected model on each block, with the correction fitted without it.

    The errors are weighted as in the fit, by 1/(1 + |F|²/F₀²), so that large forces count less than in an error table.

    Returns
    -------
    dict
        ``before`` and ``after``, each with the RMSE in meV/Å on every block (``blocks``), over all blocks
        (``force_rmse``), and the standard error of the latter from the scatter of the blocks (``error``).
    """
    if not fits:
        return {}
    before, after, weights = np.zeros((3, len(fits)))
    for b, (block, differences) in enumerate(zip(inference.equations.filled, fits, strict=True)):
        for mine, difference in zip(inference.equations.blocks, differences, strict=True):
            before[b] += mine[block].target_squares
            after[b] += mine[block].squared_error(difference)
            weights[b] += mine[block].weight
    return {"before": _summary(before, weights), "after": _summary(after, weights)}


def error_bars(
    test: Mapping[str, AnyFrames], inference: Inference, fits: Fits, corrected: AgentLosses
) -> dict[str, dict[str, float]]:
    """Standard errors of the force errors of a corrected model on test sets.

    Returns
    -------
    dict of str to dict
        By test set, in meV/Å, with the keys of an error table; empty without resampled fits.
    """
    assert inference.prior is not None
    members = [
        replace(
            inference.added_to_prior(differences, inference.prior),
            core_strength=corrected.core_strength,
            wall_strength=corrected.wall_strength,
        )
        for differences in fits
    ]
    bars = {}
    for name, frames in test.items() if members else ():
        count = count_samples(frames)
        numbers = evenly_spaced(count, _FRAMES).tolist()
        found = measure(frames, dict.fromkeys(numbers, members))
        tables = [error_table(member, frames, found, k).force_rmse for k, member in enumerate(members)]
        bars[name] = {key: jackknife([table[key] for table in tables]) for key in tables[0]}
    return bars


def jackknife(values: Sequence[float]) -> float:
    """Jackknife standard error of a quantity from its values with each block left out in turn."""
    return float(np.sqrt(len(values) - 1.0) * np.std(values))


def _summary(squares: FloatArray, weights: FloatArray) -> dict[str, Any]:
    blocks = np.sqrt(np.maximum(squares, 0.0) / weights) / MEV_PER_ANGSTROM
    return {
        "blocks": blocks.tolist(),
        "force_rmse": float(np.sqrt(max(0.0, squares.sum()) / weights.sum()) / MEV_PER_ANGSTROM),
        "error": float(np.std(blocks, ddof=1) / np.sqrt(len(blocks))),
    }
