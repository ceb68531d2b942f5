"""Learning curves: the test error as a function of the number of training frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from openmm_duality.inference.delta_learning import fit_delta
from openmm_duality.inference.equations.settings import DELTA_CHOICES, Settings
from openmm_duality.inference.equations.targets import DataSet
from openmm_duality.inference.errors import ErrorTable, evaluate
from openmm_duality.inference.fitting import infer
from openmm_duality.losses.baseline import Baseline
from openmm_duality.losses.model import AgentLosses
from openmm_duality.reference.frames import evenly_spaced
from openmm_duality.reference.mixed_frames import AnyFrames

FRACTIONS = (0.05, 0.1, 0.2, 0.5, 1.0)


@dataclass(frozen=True)
class LearningCurve:
    """Test errors of models inferred from increasing numbers of frames.

    Parameters
    ----------
    frames : tuple of int
        Numbers of training frames.
    tables : tuple of ErrorTable
        Errors of each model on the same held-out frames.
    """

    frames: tuple[int, ...]
    tables: tuple[ErrorTable, ...]

    def to_dict(self) -> dict[str, Any]:
        """Convert the curve to plain values for JSON."""
        return {"frames": list(self.frames), "test": [table.to_dict() for table in self.tables]}

    def __str__(self) -> str:
        keys = list(self.tables[0].force_rmse)
        lines = ["frames".rjust(8) + "".join(key.rjust(16) for key in keys) + "   (force RMSE, MAE, meV/Å)"]
        for count, table in zip(self.frames, self.tables, strict=True):
            cells = (f"{table.force_rmse[key]:9.1f}{table.force_mae[key]:7.1f}" for key in keys)
            lines.append(f"{count:8d}" + "".join(cells))
        return "\n".join(lines)


def learning_curve(
    sets: Sequence[DataSet],
    test: AnyFrames,
    settings: Settings,
    fractions: Sequence[float] = FRACTIONS,
    baseline: Baseline | None = None,
    full_model: AgentLosses | None = None,
    prior: AgentLosses | None = None,
    progress: bool = False,
) -> LearningCurve:
    """Infer models from increasing fractions of the training frames and evaluate them on the same held-out frames.

    Parameters
    ----------
    sets : sequence of DataSet
    test : Frames or MixedFrames
        Held-out frames with forces.
    settings : Settings
    fractions : sequence of float
        Fractions of each data set; at least ten frames of each are used, if available.
    baseline : Baseline, optional
        As for `infer`.
    full_model : AgentLosses, optional
        The model inferred from all frames with these settings, if it exists already.
    prior : AgentLosses, optional
        Prior model: the frames are used to correct it (Δ-learning) instead of inferring from scratch.
    progress : bool
        Whether to show progress bars.
    """
    counts: list[int] = []
    tables = []
    for fraction in fractions:
        subsets = [replace(s, frames=_spread(s.frames, fraction)) for s in sets]
        count = sum(len(s.frames) for s in subsets)
        if count in counts:  # the minimum number of frames, reached before
            continue
        is_whole = count == sum(len(s.frames) for s in sets)
        if is_whole and full_model is not None:
            losses = full_model
        elif prior is not None:
            chosen = {name: getattr(settings, name) for name in DELTA_CHOICES}
            losses = fit_delta(prior, subsets, progress=progress, **chosen)
        else:
            losses = infer(subsets, settings=replace(settings, members=0), baseline=baseline, progress=progress)
        counts.append(count)
        tables.append(evaluate(losses, test, at_most=100, progress=progress))
    return LearningCurve(tuple(counts), tuple(tables))


def _spread(frames: AnyFrames, fraction: float) -> AnyFrames:
    """Evenly spaced frames, or without forces the first ones, since accelerations need consecutive frames."""
    if not frames.has_forces:
        return frames[: max(3, round(fraction * len(frames)))]
    count = min(len(frames), max(10, round(fraction * len(frames))))
    return frames[evenly_spaced(len(frames), count)]
