"""Calibration: comparison of force errors with their predicted uncertainty."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from openmm_duality.errors import DualityError
from openmm_duality.geometry.arrays import FloatArray, IntArray
from openmm_duality.inference.equations.targets import count_samples, only_energies
from openmm_duality.inference.uncertainty.committee import NOMINAL, maximum_likelihood
from openmm_duality.inference.uncertainty.measurements import Measurement, measure
from openmm_duality.losses.model import AgentLosses
from openmm_duality.reference.frames import evenly_spaced
from openmm_duality.reference.mixed_frames import AnyFrames
from openmm_duality.units import MEGAPASCAL, MEV_PER_ANGSTROM

QUANTILES = 5
_TOO_FEW = (0.4, 0.85)  # of the errors within σ, or within 2 σ
_MIN_FRAMES = 10  # for two parameters


@dataclass(frozen=True)
class SpeciesCalibration:
    """Predicted and actual errors of the forces on the agents of one species.

    Parameters
    ----------
    agents : int
        Number of agents, over all frames.
    within : tuple of float
        Fractions of force components whose error is within one and two predicted standard deviations.
    predicted, found : tuple of float
        Root mean squares of σ and of the actual error in meV/Å by quintile of σ, or by agent if there are fewer than
        five.
    """

    agents: int
    within: tuple[float, float]
    predicted: tuple[float, ...]
    found: tuple[float, ...]

    @classmethod
    def of(cls, errors: FloatArray, sigmas: FloatArray) -> SpeciesCalibration:
        """Compute the calibration from errors (M, 3) and predicted standard deviations (M,) in meV/Å."""
        ratios = np.abs(errors) / sigmas[:, None]
        groups = np.array_split(np.argsort(sigmas, kind="stable"), min(QUANTILES, len(sigmas)))
        return cls(
            len(errors),
            (float((ratios <= 1.0).mean()), float((ratios <= 2.0).mean())),
            tuple(float(np.sqrt(np.mean(sigmas[g] ** 2))) for g in groups),
            tuple(float(np.sqrt(np.mean(errors[g] ** 2))) for g in groups),
        )


@dataclass(frozen=True)
class PressureCalibration:
    """Spread of the pressure over the members of a committee, and its actual error, in MPa.

    The members share the errors of the form, so that the spread is a lower bound of the uncertainty. As that of forces,
    the standard deviation predicted for the pressure of a frame is σ = √(a² + b² s²), of the spread s.

    Parameters
    ----------
    frames : int
        Number of frames with stresses.
    predicted, found : float
        Root mean squares over frames of the standard deviation of the members and of the error.
    mean_predicted, mean_found : float
        Standard deviation over the members of the mean pressure of all frames, and its error: what shifts a density.
    residual, scale : float
        a and b, of maximum likelihood on these frames; of fewer than ten, b is 1.
    within : tuple of float
        Fractions of these frames whose error is within σ and 2 σ.
    """

    frames: int
    predicted: float
    found: float
    mean_predicted: float
    mean_found: float
    residual: float
    scale: float
    within: tuple[float, float]

    @classmethod
    def of(cls, measurements: Sequence[Measurement]) -> PressureCalibration | None:
        """Compute it from measurements by the losses and then the members; None without stresses."""
        errors = [m.stress_errors for m in measurements if m.stress_errors is not None]
        if not errors:
            return None
        pressures = -np.trace(np.array(errors), axis1=2, axis2=3) / 3.0 / MEGAPASCAL  # (T, 1 + K)
        found, spreads = pressures[:, 0], pressures[:, 1:].var(axis=1, ddof=1)
        squares = np.square(found)
        if len(errors) < _MIN_FRAMES:
            a2, b2 = max(float((squares - spreads).mean()), 0.0), 1.0
        else:
            a2, b2 = maximum_likelihood(squares, spreads)
        sigmas = np.sqrt(a2 + b2 * spreads)
        return cls(
            len(errors),
            float(np.sqrt(spreads.mean())),
            float(np.sqrt(squares.mean())),
            float(pressures[:, 1:].mean(axis=0).std(ddof=1)),
            float(found.mean()),
            float(np.sqrt(a2)),
            float(np.sqrt(b2)),
            (float((np.abs(found) <= sigmas).mean()), float((np.abs(found) <= 2 * sigmas).mean())),
        )

    @classmethod
    def from_dict(cls, content: Any) -> PressureCalibration | None:
        """Read it back from the fields; None of None, as without stresses.

        Raises
        ------
        DualityError
            If they are not those of a calibration.
        """
        if content is None:
            return None
        try:  # older models have neither residual nor scale
            fields = {"residual": content["found"], "scale": 0.0, "within": (float("nan"),) * 2, **content}
            found = cls(**{**fields, "within": tuple(fields["within"])})
            known = min(found.residual, found.scale) >= 0.0 and math.isfinite(found.residual + found.scale)
        except (KeyError, TypeError):
            known = False
        if not known:
            raise DualityError("the calibration of the pressure in the model is damaged; infer the model anew")
        return found

    def uncertainty(self, spread: float) -> float:
        """Predicted standard deviation σ of the pressure of a frame in MPa, of the spread of the committee in MPa."""
        return float(np.hypot(self.residual, self.scale * spread))

    def __str__(self) -> str:
        return (
            f"pressure, actual / spread of the committee: {self.found:.1f}/{self.predicted:.1f} MPa per frame, "
            f"{self.mean_found:+.1f}/{self.mean_predicted:.1f} MPa of the mean of {self.frames} frames; calibrated on "
            f"them, σ² = ({self.residual:.1f} MPa)² + ({self.scale:.2f} × spread)², within σ and 2 σ "
            f"{100 * self.within[0]:.0f} and {100 * self.within[1]:.0f} %"
        )


@dataclass(frozen=True)
class Calibration:
    """Calibration of the predicted uncertainty of forces, by species, and of the pressure.

    Parameters
    ----------
    frames : int
    species : mapping of str to SpeciesCalibration
    pressure : PressureCalibration or None
        None without stresses.
    """

    frames: int
    species: Mapping[str, SpeciesCalibration]
    pressure: PressureCalibration | None = None

    def to_dict(self) -> dict[str, Any]:
        """Convert the calibration to plain values for JSON."""
        return {
            "frames": self.frames,
            "species": {name: vars(found) for name, found in self.species.items()},
            "pressure": None if self.pressure is None else vars(self.pressure),
            "units": {"force": "meV/angstrom", "pressure": "MPa"},
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Calibration:
        """Read the calibration back from `to_dict`."""
        found = {
            name: SpeciesCalibration(s["agents"], *(tuple(s[key]) for key in ("within", "predicted", "found")))
            for name, s in content["species"].items()
        }
        return cls(content["frames"], found, PressureCalibration.from_dict(content.get("pressure")))

    def __str__(self) -> str:
        titles = "within σ".rjust(10) + "within 2 σ".rjust(12) + "   actual / predicted, by quintile of σ"
        lines = ["uncertainty".ljust(14) + titles]
        for name, mine in self.species.items():
            shares = f"{100 * mine.within[0]:8.1f} %{100 * mine.within[1]:10.1f} %"
            pairs = ", ".join(f"{f:.0f}/{p:.0f}" for p, f in zip(mine.predicted, mine.found, strict=True))
            lines.append(name.ljust(14) + shares + "   " + pairs)
        expected = " and ".join(f"{100 * share:.1f} %" for share in NOMINAL)
        lines.append(f"(a normal distribution has {expected} within σ and 2 σ; actual and predicted errors in meV/Å)")
        few = {name: np.array(mine.within) < _TOO_FEW for name, mine in self.species.items()}
        small = [name for name, of_species in few.items() if of_species.any()]
        if small:
            lines.append(
                f"Warning: the predicted errors of {', '.join(small)} are too small, so that the monitor of a run "
                "alarms too seldom; add frames of the compositions, cells and temperatures whose errors are largest"
            )
        if self.pressure is not None:
            lines.append(str(self.pressure))
        return "\n".join(lines)


def assess_calibration(
    losses: AgentLosses, data: AnyFrames | Sequence[AnyFrames], *, at_most: int | None = None, progress: bool = False
) -> Calibration:
    """Compare the predicted uncertainty of forces with their errors on reference frames, taken together.

    Parameters
    ----------
    losses : AgentLosses
        A model with a committee.
    data : Frames, MixedFrames or a sequence of them
        Frames used neither in the fit nor in the calibration of the model; otherwise the comparison is meaningless.
    at_most : int, optional
        Maximum number of frames of each set, evenly spaced; all by default.
    progress : bool
        Whether to show a progress bar.

    Raises
    ------
    DualityError
        If the model has no committee, or the data contain no forces to compare with.
    """
    if losses.committee is None:
        raise DualityError(
            "the model has no committee, so it predicts no uncertainty; infer it from ten or more frames, members: 16"
        )
    groups = [data] if isinstance(data, AnyFrames) else list(data)
    if losses.baseline is not None:
        groups = [losses.baseline.subtracted_from(frames, progress=progress) for frames in groups]
    counts = [0 if only_energies(frames) else count_samples(frames) for frames in groups]
    if not sum(counts):
        raise DualityError("the data contain no frames with forces to compare with")
    chosen = [calibration_samples(count, at_most) for count in counts]
    models = (losses, *losses.members())
    found = []
    for frames, numbers in zip(groups, chosen, strict=True):
        wanted = dict.fromkeys(numbers.tolist(), models)
        found += measure(frames, wanted, title="uncertainty" if progress else "")
    return calibration_of(losses, found)


def calibration_samples(count: int, max_samples: int | None) -> IntArray:
    """Numbers of at most `max_samples` evenly spaced samples out of `count`."""
    return evenly_spaced(count, count if max_samples is None else max_samples)


def calibration_of(losses: AgentLosses, measurements: Sequence[Measurement]) -> Calibration:
    """Compute the calibration from measurements by the losses and then the members of their committee."""
    assert losses.committee is not None
    errors = np.concatenate([m.forces[0] - m.target for m in measurements]) / MEV_PER_ANGSTROM
    sigmas = [losses.committee.uncertainty(m.forces[1:], m.species_index) for m in measurements]
    sigma = np.concatenate(sigmas) / MEV_PER_ANGSTROM
    index = np.concatenate([m.species_index for m in measurements])
    present = [(a, name) for a, name in enumerate(losses.species) if (index == a).any()]
    by_species = {name: SpeciesCalibration.of(errors[index == a], sigma[index == a]) for a, name in present}
    return Calibration(len(measurements), by_species, PressureCalibration.of(measurements))
