"""Updating a model with new frames from its kept equations, at the cost of the new frames alone.

Normal equations of old and new frames add up. With basis, column scales and regularisation held fixed, the solution of
the sum is that of a fit from scratch to all frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from openmm_duality.errors import DualityError
from openmm_duality.inference.equations.accumulation import accumulate
from openmm_duality.inference.equations.design import Design
from openmm_duality.inference.equations.energies import composition, energy_constants
from openmm_duality.inference.equations.pair_statistics import survey
from openmm_duality.inference.equations.penalties import curvature_penalty
from openmm_duality.inference.equations.solution import Regularisation, carried_over, solve
from openmm_duality.inference.equations.stored import keep, kept
from openmm_duality.inference.equations.targets import DataSet, described
from openmm_duality.inference.inference import as_sets, meetings
from openmm_duality.inference.repulsive_core import with_core
from openmm_duality.inference.settings import Settings
from openmm_duality.inference.uncertainty.committee import committee_deviations, with_members
from openmm_duality.inference.uncertainty.domain import with_wider_domain
from openmm_duality.losses.model import AgentLosses
from openmm_duality.reference.frames import Frames


def update(losses: AgentLosses, data: Frames | DataSet | Sequence[DataSet], *, progress: bool = False) -> AgentLosses:
    """The model that a fit to its old frames and these would give, with the same basis, scales and regularisation.

    The coefficients that `max_coefficients` kept stay the same ones. The core is tested in the new frames, and grows
    where it has to. The members of the committee take in the new frames too (`equations.carried_over`; calibrated as
    before), and the domain is widened to hold them.

    Parameters
    ----------
    losses : AgentLosses
        Inferred with ``keep_equations=True``.
    data : Frames, DataSet or sequence of DataSet
        New frames, of species that the model knows.
    progress : bool
        Whether to show bars.

    Raises
    ------
    DualityError
        If the model kept no equations; if the new frames hold a distance shorter than it has seen, where its radial
        functions level off; or if energies joined its fit and the new frames have another composition. Then it must be
        inferred anew.
    """
    if not losses.equations:
        if "corrected_from" in losses.metadata:
            raise DualityError(
                "a corrected model keeps no equations; correct its base model again with all dear frames"
            )
        raise DualityError("the model kept no equations to add frames to; infer it with keep_equations: true")
    sets = as_sets(data)
    check_known(losses, sets, "infer it anew from all frames")
    zeros = losses.metadata["energy_zeros"]
    for s in sets:
        if zeros and s.frames.energies is not None and composition(s.frames.species) not in zeros:
            raise DualityError(
                f"energies of {', '.join(zeros)} joined the fit of the model, and the new frames are "
                f"{composition(s.frames.species)}, whose energies have a zero of their own; infer it anew from all "
                "frames"
            )
    design = Design.of(losses, len(zeros))
    settings = replace(Settings.of(**losses.metadata["settings"]), members=0)
    new = accumulate(sets, losses.species, design, settings, zeros, progress)
    totals, solutions, members = [], [], []
    deviations = committee_deviations(losses, design.layout)
    for k, problem in enumerate(design.layout.problems):
        old = kept(losses.equations, k)
        total = sum(new.parts[k], old)
        strength = Regularisation(**losses.metadata["regularisation"][k])
        penalty = curvature_penalty(design.layout, problem, design.pair_basis, losses.shortest)
        mask = losses.equations[f"{k}/kept"] > 0.0 if f"{k}/kept" in losses.equations else None
        totals.append(total)
        scale = losses.equations[f"{k}/scale"]
        solutions.append(solve(total, penalty, strength, scale, len(zeros), mask))
        if deviations:
            moved = carried_over(deviations[k], old, total, penalty, strength, scale, len(zeros), mask)
            members.append(solutions[k][:, None] + moved)
    u, weights, couplings = design.layout.unpack(solutions)
    fixed = {name: array for name, array in losses.equations.items() if name.endswith(("/scale", "/kept"))}
    data_sets = [*losses.metadata["data"], *map(described, sets)]
    updated = replace(
        losses,
        pair_coefficients=u,
        weights=weights,
        couplings=couplings,
        committee=with_members(losses.committee, design.layout, members),
        equations={**keep(totals), **fixed},
        metadata={
            **{name: told for name, told in losses.metadata.items() if name != "calibration"},
            "data": data_sets,
            "energy_constants": energy_constants(zeros, solutions),
            "errors": {"train": {}, "test": {}},
            "stability": [],
            "failed_candidates": [],
            "seconds": {},
        },
    )
    grown = with_core(updated, meetings(sets), new.largest_force, weakest=losses.core_strength)
    return with_wider_domain(grown, losses, sets)


def check_known(losses: AgentLosses, sets: Sequence[DataSet], remedy: str) -> None:
    """Refuse frames with a species that the model does not know, or a distance that it has not seen.

    Parameters
    ----------
    losses : AgentLosses
    sets : sequence of DataSet
    remedy : str
        What to do about a distance, for the message.

    Raises
    ------
    DualityError
        If there is one.
    """
    for s in sets:
        losses.index_of(s.frames.species)
    seen = survey((s.frames for s in sets), losses.species, losses.grid).shortest
    for a, b in np.argwhere(np.isfinite(seen) & ~(seen >= losses.shortest)):
        known = losses.shortest[a, b]
        unlike = "which it has never seen" if np.isnan(known) else f"closer than the {known:.4f} nm it has seen"
        raise DualityError(
            f"the new frames hold {losses.species[a]}-{losses.species[b]} at {seen[a, b]:.4f} nm, {unlike}: the "
            f"functions of the model level off there; {remedy}"
        )
