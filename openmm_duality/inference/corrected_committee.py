"""The committee of a corrected model: every member of the base's, corrected with resampled blocks of the dear frames.

So its spread holds both what the cheap data leave open and what the few dear frames do. As for an inference, it is
calibrated on the last block, left out of a correction made for that alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.inference.correction import Correction
from openmm_duality.inference.equations.solution import NormalEquations, Regularisation
from openmm_duality.inference.uncertainty.committee import (
    LEAST_PARTS,
    SEED,
    calibrate,
    committee_deviations,
    judged,
    limits,
    resampled,
    stacked,
    without_committee,
)
from openmm_duality.losses.committee import Committee
from openmm_duality.losses.model import AgentLosses


def with_corrected_committee(
    corrected: AgentLosses, correction: Correction, strengths: Sequence[Regularisation]
) -> AgentLosses:
    """The corrected losses with their committee; none where the base has none, or the dear frames make too few blocks.

    Parameters
    ----------
    corrected : AgentLosses
    correction : Correction
    strengths : sequence of Regularisation
        By problem.
    """
    base, layout = correction.base, correction.design.layout
    used = correction.used
    if base.committee is None or len(used) < LEAST_PARTS:
        reason = "the base has none" if base.committee is None else f"fewer than {LEAST_PARTS} blocks of dear frames"
        return without_committee(corrected, reason)
    start = layout.pack(base.pair_coefficients, base.weights, base.couplings)
    deviations = committee_deviations(base, layout)
    draws = np.random.default_rng(SEED)

    def refit(weights: Mapping[int, float], member: int | None) -> list[FloatArray]:
        """Coefficients by problem of a member of the base, or the base itself, corrected with weighted blocks."""
        begun = [c if member is None else c + d[:, member] for c, d in zip(start, deviations, strict=True)]
        equations = []
        for blocks, free, there, first in zip(correction.blocks, correction.free, start, begun, strict=True):
            total = NormalEquations.empty(len(blocks[0].moment))
            for block, weight in weights.items():
                if weight:
                    total.add_weighted(blocks[block], weight)
            total.moment -= total.gram @ (first - there)[free]
            equations.append(total)
        return [c + d for c, d in zip(begun, correction.differences(equations, strengths), strict=True)]

    def drawn(blocks: Sequence[int]) -> list[list[FloatArray]]:
        """Every member, corrected with as many blocks as there are, drawn with replacement."""
        members = deviations[0].shape[1]
        return [refit(weights, k) for k, weights in enumerate(resampled(draws, blocks, members))]

    rest, last = used[:-1], (used[-1], len(correction.blocks[0]))
    seen = judged(
        correction.sets, base.species, correction.design, refit(dict.fromkeys(rest, 1.0), None), drawn(rest), last
    )
    errors, spreads, species_index = (np.concatenate(column) for column in zip(*seen, strict=True))
    residual, scale = calibrate(errors, spreads, species_index, len(base.species))
    members = stacked([layout.unpack(solutions) for solutions in drawn(used)])
    committee = Committee(**members, residual=residual, scale=scale, limit=limits(seen, residual, scale))
    told = {
        "members": committee.size,
        "blocks": len(used),
        "calibrated_on": {"block": last[0] + 1, "agents": len(species_index)},
    }
    return replace(corrected, committee=committee, metadata={**corrected.metadata, "committee": told})
