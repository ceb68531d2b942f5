"""Δ-learning: a model of a low level of theory, corrected with few frames of a high one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from openmm_duality.files import provenance
from openmm_duality.inference.cross_validation import block_errors, error_bars, resampled_fits
from openmm_duality.inference.equations.inference import Inference, timed
from openmm_duality.inference.equations.settings import Settings
from openmm_duality.inference.equations.targets import DataSet, as_sets
from openmm_duality.inference.fitting import completed, measurable, with_stable_core
from openmm_duality.losses.model import AgentLosses
from openmm_duality.reference.frames import Frames


def fit_delta(
    prior: AgentLosses | str | Path,
    data: Frames | DataSet | Sequence[DataSet],
    *,
    test: Frames | Mapping[str, Frames] | None = None,
    ridge: float | None = None,
    curvature: float | None = None,
    blocks: int = Settings.blocks,
    large_force: Any = Settings.large_force,
    progress: bool = False,
) -> AgentLosses:
    """Correct a model of a low level of theory to the high level that labelled these frames.

    The result has the form, bases and coefficients of the prior model with those of ΔH added, and costs as much per
    step. It keeps no equations: to add more frames of the high level, fit the prior model again with all of them.

    Parameters
    ----------
    prior : AgentLosses or path
        The model of the low level, or its file.
    data : Frames, DataSet or sequence of DataSet
        Frames with forces (or accelerations) of the high level. Their energies are not used.
    test : Frames or mapping of names to Frames, optional
        Held-out frames of the high level; errors in them go into the metadata.
    ridge, curvature : float, optional
        Strengths of the penalties on ΔH; chosen on contiguous blocks of the frames by default. The stronger, the nearer
        to the prior model.
    blocks : int
        Number of those blocks.
    large_force : float or openmm.unit.Quantity, optional
        As in `Settings`.
    progress : bool
        Whether to show bars.

    Returns
    -------
    AgentLosses
        Its metadata hold ``prior``, the provenance of the prior model and its hash, and ``delta``: the errors before
        and after, each with an error bar over the blocks of frames of the high level.

    Raises
    ------
    DualityError
        If the frames hold a species that the prior model does not know, or a distance shorter than it has seen, where
        its radial functions level off; if they are too few to choose a regularisation; or if the data or a choice
        cannot be used.
    """
    model = prior if isinstance(prior, AgentLosses) else AgentLosses.load(prior)
    settings = Settings(ridge=ridge, curvature=curvature, blocks=blocks, large_force=large_force, members=0)
    held_out = measurable(test)
    inference = Inference.of(as_sets(data), settings, model, progress)
    strengths = [preferred[0] for preferred in inference.preferences]
    losses = completed(with_stable_core(inference, strengths), inference, held_out, progress)
    metadata = dict(losses.metadata)
    seconds = metadata["seconds"]
    with timed(seconds, "error bars"):
        refits = resampled_fits(inference, strengths)
        metadata["delta"] = {
            "blocks": block_errors(inference, refits),
            "before": metadata.pop("prior_errors"),
            "error": error_bars(held_out, inference, refits, losses),
        }
    if not isinstance(prior, AgentLosses):
        metadata["prior"] = {"file": provenance(prior), **metadata["prior"]}
    return replace(losses, metadata=metadata)
