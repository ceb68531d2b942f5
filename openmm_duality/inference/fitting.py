"""Inference in closed form: from reference frames to agent losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from openmm_duality.inference.equations.targets import DataSet, count_samples
from openmm_duality.inference.errors import evaluate
from openmm_duality.inference.inference import Inference, as_sets, timed
from openmm_duality.inference.settings import Settings
from openmm_duality.inference.uncertainty.calibration import calibration
from openmm_duality.inference.uncertainty.committee import with_committee
from openmm_duality.inference.uncertainty.domain import with_domain
from openmm_duality.losses.model import AgentLosses
from openmm_duality.reference.frames import Frames

_ERROR_FRAMES = 200  # evenly spaced, of every set
_CALIBRATION_FRAMES = 12


class Fit(Protocol):
    """What the errors of a model need to know of its inference."""

    @property
    def sets(self) -> Sequence[DataSet]:
        """The frames."""

    @property
    def seconds(self) -> dict[str, float]:
        """Wall time by what it was spent on."""


def infer(
    data: Frames | DataSet | Sequence[DataSet],
    *,
    test: Frames | Mapping[str, Frames] | None = None,
    settings: Settings | None = None,
    progress: bool = False,
    **choices: Any,
) -> AgentLosses:
    """Infer the agent losses that reproduce reference forces best, by regularised least squares.

    Parameters
    ----------
    data : Frames, DataSet or sequence of DataSet
        Training frames, with forces or (see `samples`) without.
    test : Frames or mapping of names to Frames, optional
        Held-out frames; errors against them go into the model's metadata.
    settings : Settings, optional
    progress : bool
        Whether to show bars.
    **choices
        Fields of `Settings`, instead of `settings`; the cutoff may be an `openmm.unit` quantity.

    Returns
    -------
    AgentLosses
        With provenance, regularisation and errors in its metadata.

    Raises
    ------
    DualityError
        If the data cannot be used, a choice is unknown, or the cutoff is too long for a cell.
    """
    chosen = settings if settings is not None else Settings.of(**choices)
    measured = measurable(test)
    inference = Inference.of(as_sets(data), chosen, progress)
    losses = inference.losses([preferred[0] for preferred in inference.preferences])
    return completed(losses, inference, measured, progress)


def completed(
    losses: AgentLosses, inference: Inference, test: Mapping[str, Frames], progress: bool = False
) -> AgentLosses:
    """The losses of an inference with their committee, their domain, and their errors.

    Parameters
    ----------
    losses : AgentLosses
    inference : Inference
    test : mapping of names to Frames
    progress : bool
        Whether to show bars.
    """
    losses = with_committee(losses, inference)
    with timed(inference.seconds, "domain"):
        losses = with_domain(losses, inference.sets, inference.seen)
    return with_calibration(with_errors(losses, inference, test, progress), test, progress)


def with_calibration(losses: AgentLosses, test: Mapping[str, Frames], progress: bool = False) -> AgentLosses:
    """The losses with a judgement of their uncertainty on all held-out frames together, in their metadata.

    Parameters
    ----------
    losses : AgentLosses
        Without a committee they come back as they are.
    test : mapping of names to Frames
    progress : bool
        Whether to show bars.
    """
    if losses.committee is None or not test:
        return losses
    seconds = dict(losses.metadata["seconds"])
    with timed(seconds, "calibration"):
        judged = calibration(losses, list(test.values()), at_most=_CALIBRATION_FRAMES, progress=progress)
    return replace(losses, metadata={**losses.metadata, "calibration": judged.to_dict(), "seconds": seconds})


def measurable(test: Frames | Mapping[str, Frames] | None) -> dict[str, Frames]:
    """The held-out frames that have a target, by name.

    Accelerations need three frames.

    Raises
    ------
    DualityError
        If frames are too coarse for accelerations.
    """

    def has_target(frames: Frames) -> bool:
        return count_samples(frames) > 0 if frames.forces is not None or len(frames) > 2 else False

    groups = {} if test is None else {"data": test} if isinstance(test, Frames) else test
    return {name: frames for name, frames in groups.items() if has_target(frames)}


def with_errors(losses: AgentLosses, inference: Fit, test: Mapping[str, Frames], progress: bool = False) -> AgentLosses:
    """The losses of an inference with their errors and the time spent in their metadata.

    Parameters
    ----------
    losses : AgentLosses
    inference : Inference or Correction
    test : mapping of names to Frames
    progress : bool
        Whether to show bars.
    """
    errors: dict[str, dict[str, Any]] = {"train": {}, "test": {}}
    seconds = dict(inference.seconds)
    with timed(seconds, "errors"):
        for kind, group in (("train", {s.name: s.frames for s in inference.sets}), ("test", test)):
            for name, frames in group.items():
                errors[kind][name] = evaluate(losses, frames, at_most=_ERROR_FRAMES, progress=progress).to_dict()
    return replace(losses, metadata={**losses.metadata, "errors": errors, "seconds": seconds})
