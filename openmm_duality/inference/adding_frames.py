"""Adding training frames to a model with its stored normal equations, at the cost of the new frames alone.

The normal equations of old and new frames are summed. With basis, column scales and regularisation fixed, the solution
of the sum is that of a fit from scratch to all frames.
"""

from __future__ import annotations

from dataclasses import replace

from openmm_duality.errors import DualityError
from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.inference.equations.accumulation import Storage, accumulate
from openmm_duality.inference.equations.continuation import standard_penalties
from openmm_duality.inference.equations.design import Design
from openmm_duality.inference.equations.energies import EnergyReference
from openmm_duality.inference.equations.pair_statistics import known_pair_statistics
from openmm_duality.inference.equations.settings import Settings
from openmm_duality.inference.equations.solution import NormalEquations, propagate_deviations, solve
from openmm_duality.inference.equations.stored import StoredEquations
from openmm_duality.inference.equations.targets import (
    TrainingData,
    as_sets,
    count_samples,
    data_set_metadata,
    pair_frames,
)
from openmm_duality.inference.repulsive_core import with_core
from openmm_duality.inference.uncertainty.committee import committee_deviations, with_members
from openmm_duality.inference.uncertainty.domain import FrameDescriptors, described_samples, with_wider_domain
from openmm_duality.inference.uncertainty.measurements import measure
from openmm_duality.inference.walls import with_walls
from openmm_duality.losses.model import AgentLosses
from openmm_duality.reference.mixed_frames import largest_size


def add_frames(losses: AgentLosses, data: TrainingData, *, progress: bool = False) -> AgentLosses:
    """Refit a model to its old frames and new ones together, with the same basis, scales and regularisation.

    Coefficients that `max_coefficients` dropped stay zero. Walls of pairs of species in the new frames are those that
    these show; the repulsive core is tested in them and strengthened where necessary. The committee members are
    refitted too (`propagate_deviations`) with their calibration kept, and the domain is widened to contain the new
    frames.

    Parameters
    ----------
    losses : AgentLosses
        A model inferred with ``keep_equations=True``.
    data : Frames, MixedFrames, DataSet, sequence of DataSet, or path
        New frames, containing only species of the model.
    progress : bool
        Whether to show progress bars.

    Raises
    ------
    DualityError
        If the model stored no equations, or if the new frames contain a distance shorter than in its training data,
        where nothing determines it, so that it must be inferred again from all frames.
    """
    if not losses.equations:
        if "prior" in losses.metadata:
            raise DualityError(
                "a model made by Δ-learning stores no equations; fit its prior model again with all frames of the high "
                "level of theory"
            )
        raise DualityError("the model stored no equations to add frames to; infer it with keep_equations: true")
    sets = as_sets(data, losses.baseline, progress)
    statistics = known_pair_statistics(
        losses, (part for s in sets for part in s.frames.parts), "infer it again from all frames"
    )
    reference = EnergyReference.from_metadata(losses.species, losses.metadata)
    n_constants = reference.n_constants
    design = Design.of(losses, n_constants)
    settings = replace(Settings.of(losses.metadata["settings"]), members=0)
    new = accumulate(sets, losses.species, design, settings, reference, progress, Storage(1, 1))
    solutions, members = [], []
    equations: dict[str, FloatArray] = {}
    deviations = committee_deviations(losses, design.layout)
    for k, group in enumerate(design.layout.groups):
        stored = StoredEquations.from_arrays(losses.equations, f"{k}/")
        old, scale, mask = stored.total, stored.scale, stored.selected
        total = NormalEquations.sum_of([old, *new.blocks[k]])
        strengths = losses.metadata["regularisation"][k]
        penalties = standard_penalties(design, group, losses.shortest, stored.curvature_changes, total)
        penalties += stored.further_penalties
        equations |= replace(stored, total=total).to_arrays(f"{k}/")
        solutions.append(solve(total, penalties, strengths, scale, n_constants, mask))
        if deviations:
            moved = propagate_deviations(deviations[k], old, total, penalties, strengths, scale, n_constants, mask)
            members.append(solutions[k][:, None] + moved)
    outdated = ("calibration", "stability", "failed_candidates", "pump")
    refitted = replace(
        losses,
        **design.layout.unpack(solutions),
        committee=with_members(losses.committee, design.layout, members),
        equations=equations,
        metadata={
            **{name: entry for name, entry in losses.metadata.items() if name not in outdated},
            "data": [*losses.metadata["data"], *map(data_set_metadata, sets)],
            **reference.to_metadata(solutions),
            "errors": {"train": {}, "test": {}},
            "seconds": {},
        },
    )
    frames = pair_frames(sets)
    grown = with_core(with_walls(refitted, frames), frames, new.largest_force, weakest=losses.core_strength)
    if losses.domain is None:
        return grown
    descriptions = []
    for s in sets:
        count = count_samples(s.frames)
        numbers = described_samples(count, largest_size(s.frames), len(sets)).tolist()
        for m in measure(s.frames, dict.fromkeys(numbers, (grown, losses)), frozenset(numbers)):
            descriptions.append(FrameDescriptors.of(m, count, len(losses.species)))
    return with_wider_domain(grown, losses.domain, descriptions, statistics)
