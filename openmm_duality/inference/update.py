"""Updating a model with new frames from its kept equations, at the cost of the new frames alone.

Normal equations of old and new frames add up. With basis, column scales and regularisation held fixed, the solution of
the sum is that of a fit from scratch to all frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from openmm_duality.errors import DualityError
from openmm_duality.inference.accumulate import accumulate
from openmm_duality.inference.design import Design
from openmm_duality.inference.equations import Regularisation, solve
from openmm_duality.inference.kept import keep, kept
from openmm_duality.inference.penalty import curvature_penalty
from openmm_duality.inference.settings import Settings
from openmm_duality.inference.survey import survey
from openmm_duality.inference.targets import DataSet, described
from openmm_duality.losses.model import AgentLosses
from openmm_duality.reference.frames import Frames


def update(losses: AgentLosses, data: Frames | Sequence[DataSet], *, progress: bool = False) -> AgentLosses:
    """The model that a fit to its old frames and these would give, with the same basis, scales and regularisation.

    Parameters
    ----------
    losses : AgentLosses
        Inferred with ``keep_equations=True``.
    data : Frames or sequence of DataSet
        New frames, of species that the model knows.
    progress : bool
        Whether to show bars.

    Raises
    ------
    DualityError
        If the model kept no equations, or the new frames hold a distance shorter than it has seen: its radial functions
        level off there, so it must be inferred anew.
    """
    if not losses.equations:
        raise DualityError("the model kept no equations to add frames to; infer it with keep_equations: true")
    sets = [DataSet(data)] if isinstance(data, Frames) else list(data)
    for s in sets:
        losses.index_of(s.frames.species)
    seen = survey((s.frames for s in sets), losses.species, losses.grid).shortest
    for a, b in np.argwhere(seen < losses.shortest):
        raise DualityError(
            f"the new frames hold {losses.species[a]}-{losses.species[b]} at {seen[a, b]:.4f} nm, closer than the "
            f"{losses.shortest[a, b]:.4f} nm the model has seen, where its functions level off; infer it anew from all "
            "frames"
        )
    design = Design.of(losses)
    settings = Settings.of(**losses.metadata["settings"])
    folds, _ = accumulate(sets, losses.species, design, settings, progress)
    totals, solutions = [], []
    for k, problem in enumerate(design.layout.problems):
        total = sum((fold[k] for fold in folds), kept(losses.equations, k))
        strength = Regularisation(**losses.metadata["regularisation"][k])
        penalty = curvature_penalty(design.layout, problem, design.pair_basis, losses.shortest)
        totals.append(total)
        solutions.append(solve(total, penalty, strength, losses.equations[f"{k}/scale"]))
    u, weights, couplings = design.layout.unpack(solutions)
    scales = {name: array for name, array in losses.equations.items() if name.endswith("/scale")}
    data_sets = [*losses.metadata["data"], *map(described, sets)]
    metadata = {**losses.metadata, "data": data_sets, "errors": {"train": {}, "test": {}}}
    return replace(
        losses,
        pair_coefficients=u,
        weights=weights,
        couplings=couplings,
        equations={**keep(totals), **scales},
        metadata=metadata,
    )
