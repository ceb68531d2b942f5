"""Adding training frames to a model with its stored normal equations, at the cost of the new frames alone.

The normal equations of old and new frames are summed. With basis, column scales and regularisation fixed, the solution
of the sum is that of a fit from scratch to all frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from openmm_duality.errors import DualityError
from openmm_duality.inference.equations.accumulation import accumulate
from openmm_duality.inference.equations.design import Design
from openmm_duality.inference.equations.pair_statistics import known_pair_statistics
from openmm_duality.inference.equations.penalties import standard_penalties
from openmm_duality.inference.equations.settings import Settings
from openmm_duality.inference.equations.solution import NormalEquations, propagate_deviations, solve
from openmm_duality.inference.equations.targets import (
    DataSet,
    as_sets,
    composition,
    count_samples,
    data_set_metadata,
    energy_constants,
    pair_frames,
)
from openmm_duality.inference.repulsive_core import with_core
from openmm_duality.inference.uncertainty.committee import committee_deviations, with_members
from openmm_duality.inference.uncertainty.domain import FrameDescriptors, described_samples, with_wider_domain
from openmm_duality.inference.uncertainty.measurements import measure
from openmm_duality.losses.model import AgentLosses
from openmm_duality.reference.frames import Frames


def add_frames(
    losses: AgentLosses, data: Frames | DataSet | Sequence[DataSet], *, progress: bool = False
) -> AgentLosses:
    """Refit a model to its old frames and new ones together, with the same basis, scales and regularisation.

    Coefficients that `max_coefficients` dropped stay zero. The repulsive core is tested in the new frames and
    strengthened where necessary. The committee members are refitted too (`propagate_deviations`) with their calibration
    kept, and the domain is widened to contain the new frames.

    Parameters
    ----------
    losses : AgentLosses
        A model inferred with ``keep_equations=True``.
    data : Frames, DataSet or sequence of DataSet
        New frames, containing only species of the model.
    progress : bool
        Whether to show progress bars.

    Raises
    ------
    DualityError
        If the model stored no equations; if the new frames contain a distance shorter than in its training data, where
        nothing determines it; or if it was fitted to energies and the new frames have another composition.
        In the latter cases it must be inferred again from all frames.
    """
    if not losses.equations:
        if "prior" in losses.metadata:
            raise DualityError(
                "a model made by Δ-learning stores no equations; fit its prior model again with all frames of the high "
                "level of theory"
            )
        raise DualityError("the model stored no equations to add frames to; infer it with keep_equations: true")
    sets = as_sets(data)
    statistics = known_pair_statistics(losses, (s.frames for s in sets), "infer it again from all frames")
    zeros = losses.metadata["energy_zeros"]
    for s in sets:
        if zeros and s.frames.energies is not None and composition(s.frames.species) not in zeros:
            raise DualityError(
                f"the model was fitted to energies of {', '.join(zeros)}, and the new frames are "
                f"{composition(s.frames.species)}, whose energies have a different zero; infer it again from all frames"
            )
    design, stored = Design.of(losses, len(zeros)), losses.equations
    settings = replace(Settings.of(losses.metadata["settings"]), members=0)
    new = accumulate(sets, losses.species, design, settings, zeros, progress)
    solutions, members, equations = [], [], dict(stored)
    deviations = committee_deviations(losses, design.layout)
    for k, group in enumerate(design.layout.groups):
        old = NormalEquations.from_arrays(stored, f"{k}/")
        total = sum(new.blocks[k], old)
        strengths, scale = losses.metadata["regularisation"][k], stored[f"{k}/scale"]
        penalties = standard_penalties(design.layout, group, design.pair_basis, design.basis, losses.shortest)
        mask = stored[f"{k}/selected"] > 0.0 if f"{k}/selected" in stored else None
        equations |= {**total.to_arrays(f"{k}/"), f"{k}/scale": scale}
        solutions.append(solve(total, penalties, strengths, scale, len(zeros), mask))
        if deviations:
            moved = propagate_deviations(deviations[k], old, total, penalties, strengths, scale, len(zeros), mask)
            members.append(solutions[k][:, None] + moved)
    u, weights, couplings = design.layout.unpack(solutions)
    outdated = ("calibration", "stability", "failed_candidates")
    refitted = replace(
        losses,
        pair_coefficients=u,
        weights=weights,
        couplings=couplings,
        committee=with_members(losses.committee, design.layout, members),
        equations=equations,
        metadata={
            **{name: entry for name, entry in losses.metadata.items() if name not in outdated},
            "data": [*losses.metadata["data"], *map(data_set_metadata, sets)],
            "energy_constants": energy_constants(zeros, solutions),
            "errors": {"train": {}, "test": {}},
            "seconds": {},
        },
    )
    grown = with_core(refitted, pair_frames(sets), new.largest_force, weakest=losses.core_strength)
    if losses.domain is None:
        return grown
    descriptions = []
    for s in sets:
        count = count_samples(s.frames)
        numbers = described_samples(count, s.frames.n_atoms, len(sets)).tolist()
        for m in measure(s.frames, dict.fromkeys(numbers, (grown, losses)), frozenset(numbers)):
            descriptions.append(FrameDescriptors.of(m, count, len(losses.species)))
    return with_wider_domain(grown, losses.domain, descriptions, statistics)
