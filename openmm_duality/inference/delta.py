"""From cheap to dear: a model of a cheap reference, corrected with few frames of a dear one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from openmm_duality.files import provenance
from openmm_duality.inference.corrected_committee import with_corrected_committee
from openmm_duality.inference.correction import Correction
from openmm_duality.inference.equations.targets import DataSet
from openmm_duality.inference.fitting import measurable, with_calibration, with_errors
from openmm_duality.inference.inference import as_sets, timed
from openmm_duality.inference.left_out import block_errors, spread_on, without_each
from openmm_duality.inference.settings import Settings
from openmm_duality.inference.uncertainty.domain import with_wider_domain
from openmm_duality.losses.model import AgentLosses
from openmm_duality.reference.frames import Frames


def correct(
    base: AgentLosses | str | Path,
    data: Frames | DataSet | Sequence[DataSet],
    *,
    test: Frames | Mapping[str, Frames] | None = None,
    ridge: float | None = None,
    curvature: float | None = None,
    blocks: int = Settings.blocks,
    large_force: Any = Settings.large_force,
    progress: bool = False,
) -> AgentLosses:
    """A model of a cheap reference, corrected to the dear one that labelled these frames.

    The corrected model has the form, bases and coefficients of the base model with those of ΔH added, and costs as much
    per step. It keeps no equations: to take in more dear frames, correct the base model again with all of them.

    Parameters
    ----------
    base : AgentLosses or path
        The cheap model, or its file.
    data : Frames, DataSet or sequence of DataSet
        Frames with forces (or accelerations) of the dear method. Their energies are not used.
    test : Frames or mapping of names to Frames, optional
        Held-out frames of the dear method; errors against them go into the metadata.
    ridge, curvature : float, optional
        Strengths of the regularisers of ΔH; chosen on contiguous blocks of the frames by default. The stronger, the
        nearer to the base model.
    blocks : int
        Number of those blocks.
    large_force : float or openmm.unit.Quantity, optional
        As in `Settings`.
    progress : bool
        Whether to show bars.

    Returns
    -------
    AgentLosses
        Its metadata hold ``corrected_from``, what the base model was made of and its fingerprint, and ``correction``:
        the errors before and after, each with an error bar over the blocks of dear frames.

    Raises
    ------
    DualityError
        If the frames hold a species that the base model does not know, or a distance shorter than it has seen, where
        its radial functions level off; if they are too few to choose a regularisation; or if the data or a choice
        cannot be used.
    """
    cheap = base if isinstance(base, AgentLosses) else AgentLosses.load(base)
    file = None if isinstance(base, AgentLosses) else provenance(base)
    settings = Settings.of(ridge=ridge, curvature=curvature, blocks=blocks, large_force=large_force, members=0)
    held_out = measurable(test)
    correction = Correction.of(cheap, as_sets(data), settings, progress)
    strengths = correction.strengths
    corrected = with_errors(correction.losses(strengths), correction, held_out, progress)
    corrected = with_corrected_committee(corrected, correction, strengths)
    corrected = with_wider_domain(corrected, cheap, correction.sets)
    corrected = with_calibration(corrected, held_out, progress)
    seconds = dict(corrected.metadata["seconds"])
    with timed(seconds, "error bars"):
        refits = without_each(correction, strengths)
        uncorrected = with_errors(cheap, correction, held_out, progress).metadata["errors"]
        found = {
            "blocks": block_errors(correction, refits),
            "before": uncorrected,
            "error": spread_on(held_out, correction, refits, corrected),
        }
    origin = corrected.metadata["corrected_from"]
    if file is not None:
        origin = {"file": file, **origin}
    return replace(
        corrected,
        metadata={**corrected.metadata, "corrected_from": origin, "correction": found, "seconds": seconds},
    )
