"""Regularisation chosen on held-out blocks of time among the models that pass the stability checks.

The smallest error on frames of a reference simulation says nothing about the configurations that a model reaches in its
own dynamics. So candidates are tried in order of preference, and the first that passes the checks is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import openmm as mm

from openmm_duality.dynamics.structures import Start, read_start
from openmm_duality.errors import DualityError
from openmm_duality.inference.equations.settings import Settings
from openmm_duality.inference.equations.targets import DataSet, TrainingData
from openmm_duality.inference.fitting import (
    TestData,
    begin_inference,
    regularisation_candidates,
    solve_with_core,
    with_uncertainty_and_errors,
)
from openmm_duality.inference.repulsive_core import attraction
from openmm_duality.learning.stability import Check, check_stability
from openmm_duality.losses.baseline import Baseline
from openmm_duality.losses.model import AgentLosses
from openmm_duality.reference.mixed_frames import AnyFrames


def start_of_check(sets: Sequence[DataSet]) -> Start:
    """The last of the frames with the most species and, among these, the most atoms."""
    parts = [part for data in sets for part in data.frames.parts if len(part)]
    return read_start(max(parts, key=lambda part: (len(part.distinct_species), part.n_atoms)))


def infer_stable(
    data: TrainingData,
    start: Start,
    *,
    test: TestData | None = None,
    settings: Settings | None = None,
    baseline: Baseline | mm.System | str | Path | None = None,
    unlabelled: AnyFrames | Sequence[AnyFrames] = (),
    temperature: Any = 300.0,
    time: Any = None,
    platform: str | None = "CPU",
    seed: int = 1,
    progress: bool = False,
    **choices: Any,
) -> AgentLosses:
    """Infer losses with the preferred regularisation whose model passes `check_stability`.

    Candidates are tried in the order of `regularisation_candidates`, the preferred one first. A
    strength that the settings give is the only candidate. If no model passes, the preferred one is returned:
    ``losses.metadata["stability"]`` says which checks it failed.

    Parameters
    ----------
    data, test, settings, baseline, unlabelled, progress, **choices
        As for `infer`.
    start, temperature, time, platform, seed
        As for `check_stability`.

    Returns
    -------
    AgentLosses
        With the outcome of the checks under ``stability`` in its metadata, and every candidate that failed, with the
        reasons, under ``failed_candidates``.

    Raises
    ------
    DualityError
        As for `infer`; or if none of the short runs can be made.
    """
    chosen = Settings.of(choices, settings)
    inference, measured, beside = begin_inference(data, test, chosen, baseline, unlabelled, progress)
    failed: list[dict[str, Any]] = []
    attracting: AgentLosses | None = None
    preferred: tuple[AgentLosses, list[Check]] | None = None

    def checked(losses: AgentLosses) -> list[Check]:
        settings = {"temperature": temperature, "time": time, "platform": platform, "seed": seed, "progress": progress}
        checks = check_stability(replace(losses, baseline=beside), start, **settings)
        if all(check.passed is None for check in checks):
            raise DualityError(f"none of the short runs could be made: {checks[0].reason}")
        return checks

    for strengths in regularisation_candidates(inference):
        losses = solve_with_core(inference, strengths)
        reasons, checks = {"core": attraction(losses)} if attraction(losses) else {}, list[Check]()
        if reasons:
            attracting = attracting or losses
        else:
            checks = checked(losses)
            preferred = preferred or (losses, checks)
            reasons = {check.name: check.reason for check in checks if check.passed is False}
        if not reasons:
            break
        failed.append({"regularisation": losses.metadata["regularisation"], "reasons": reasons})
    else:
        if preferred is None:
            assert attracting is not None
            preferred = attracting, checked(attracting)
        losses, checks = preferred
    losses = with_uncertainty_and_errors(losses, inference, measured, progress)
    found = {"stability": [check.to_dict() for check in checks], "failed_candidates": failed}
    return replace(losses, baseline=beside, metadata={**losses.metadata, **found})
