"""Δ-learning: correcting a model of a low level of theory with a few frames of a high one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from openmm_duality.files import provenance
from openmm_duality.inference.cross_validation import block_errors, error_bars, resampled_fits
from openmm_duality.inference.equations.inference import Inference
from openmm_duality.inference.equations.settings import Settings
from openmm_duality.inference.equations.targets import TrainingData, as_sets
from openmm_duality.inference.fitting import (
    TestData,
    check_test_species,
    sets_with_targets,
    solve_with_core,
    with_uncertainty_and_errors,
)
from openmm_duality.losses.model import AgentLosses
from openmm_duality.progress import timed


def fit_delta(
    prior: AgentLosses | str | Path,
    data: TrainingData,
    *,
    test: TestData | None = None,
    ridge: float | None = None,
    curvature: float | None = None,
    blocks: int = Settings.blocks,
    large_force: Any = Settings.large_force,
    stress_weight: float | None = None,
    memory: Any = None,
    progress: bool = False,
) -> AgentLosses:
    """Correct a model of a low level of theory towards the high level that labelled the given frames.

    The corrected model has the form and bases of the prior model, whose coefficients it adds to those of ΔH, and the
    same cost per step. It stores no equations: to add frames of the high level, fit again with all of them.

    Parameters
    ----------
    prior : AgentLosses or path
        Model of the low level, or its file.
    data : Frames, MixedFrames, DataSet, sequence of DataSet, or path
        Frames with forces (or accelerations) of the high level. Their energies are not used, their stresses are.
    test : Frames, MixedFrames, path, or mapping of names to frames, optional
        Held-out frames of the high level, whose errors are stored in the metadata.
    ridge, curvature : float, optional
        Regularisation strengths of ΔH, by default chosen by cross-validation over contiguous blocks of time. The
        stronger they are, the closer the result is to the prior model.
    blocks : int
        Number of those blocks.
    large_force : float or openmm.unit.Quantity, optional
    stress_weight : float, optional
    memory : int or str, optional
        As in `Settings`.
    progress : bool
        Whether to show progress bars.

    Returns
    -------
    AgentLosses
        Its metadata contain ``prior``, the provenance and hash of the prior model, and ``delta``: the errors before and
        after the correction, with error bars over the blocks of frames.

    Raises
    ------
    DualityError
        If the frames contain a species unknown to the prior model, or a distance shorter than in its training data,
        where nothing determines it; if they are too few to choose the regularisation; or if the data or a
        setting cannot be used.
    """
    model = prior if isinstance(prior, AgentLosses) else AgentLosses.load(prior)
    chosen = {"ridge": ridge, "curvature": curvature, "blocks": blocks, "large_force": large_force}
    settings = Settings(**chosen, stress_weight=stress_weight, memory=memory, members=0)
    held_out = sets_with_targets(test, model.baseline, progress)
    check_test_species(model.species, held_out)
    inference = Inference.of(as_sets(data, model.baseline, progress), settings, model, progress)
    strengths = [preferred[0] for preferred in inference.preferences]
    losses = with_uncertainty_and_errors(solve_with_core(inference, strengths), inference, held_out, progress)
    metadata = dict(losses.metadata)
    seconds = metadata["seconds"]
    with timed(seconds, "error bars"):
        fits = resampled_fits(inference, strengths)
        metadata["delta"] = {
            "blocks": block_errors(inference, fits),
            "before": metadata.pop("prior_errors"),
            "error": error_bars(held_out, inference, fits, losses),
        }
    if not isinstance(prior, AgentLosses):
        metadata["prior"] = {"file": provenance(prior), **metadata["prior"]}
    return replace(losses, metadata=metadata)
