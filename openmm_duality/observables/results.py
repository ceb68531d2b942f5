"""What a comparison holds, as plain data, and how it is written to JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from openmm_duality.observables.energetics import Energetics
from openmm_duality.observables.integrity import IntegrityRecord
from openmm_duality.observables.runs import Run
from openmm_duality.observables.statistics import CurveDifference, MeanDifference, curve_error
from openmm_duality.observables.structure import Curve, Distribution


@dataclass(frozen=True)
class CurveComparison:
    """A curve of the run beside the reference's; `halves` is the reference's first half against its second."""

    run: Curve
    reference: Curve
    difference: CurveDifference
    halves: CurveDifference

    def to_dict(self) -> dict[str, Any]:
        """The test, the scale that the halves of the reference give, and the curves with their 95 % half-widths."""
        return {
            "p_value": self.difference.p_value,
            "max_difference": self.difference.max_difference,
            "max_difference_at_nm": float(self.run.centres[self.difference.at]),
            "band_half_width": self.difference.band_half_width,
            "mean_absolute_difference": self.difference.mean_absolute_difference,
            "reference_halves": {
                "max_difference": self.halves.max_difference,
                "mean_absolute_difference": self.halves.mean_absolute_difference,
            },
            "blocks": {"run": len(self.run.blocks), "reference": len(self.reference.blocks)},
            "r_nm": self.run.centres,
            "run": self.run.mean,
            "run_interval_95": curve_error(self.run.blocks),
            "reference": self.reference.mean,
            "reference_interval_95": curve_error(self.reference.blocks),
        }


@dataclass(frozen=True)
class DistributionComparison:
    """A distribution of the run beside the reference's, in nm or degrees."""

    run: Distribution
    reference: Distribution
    mean: MeanDifference
    spread: MeanDifference

    def to_dict(self) -> dict[str, Any]:
        """Means and standard deviations of both, and their differences."""
        return {
            "run": {"mean": self.run.average.to_dict(), "standard_deviation": self.run.spread.to_dict()},
            "reference": {
                "mean": self.reference.average.to_dict(),
                "standard_deviation": self.reference.spread.to_dict(),
            },
            "difference": self.mean.difference,
            "difference_interval_95": self.mean.interval,
            "p_value": self.mean.p_value,
            "standard_deviation_difference": self.spread.difference,
            "standard_deviation_p_value": self.spread.p_value,
        }


@dataclass(frozen=True)
class Window:
    """What of a trajectory was analysed: frames, their time in ps, blocks, and whether those are long enough."""

    atoms: int
    frames: int
    duration: float
    discarded: float
    n_blocks: int
    enough: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, times in ps."""
        return {
            "atoms": self.atoms,
            "frames": self.frames,
            "analysed_ps": self.duration,
            "discarded_ps": self.discarded,
            "blocks": self.n_blocks,
            "long_enough": self.enough,
        }


@dataclass(frozen=True)
class Comparison:
    """All that was found about one run beside one reference.

    Parameters
    ----------
    run : Run
        The run as read.
    reference_source : tuple of str
        The files of the reference.
    run_window, reference_window : Window
        What was analysed of each.
    block_time : float
        The least length of a block, in ps.
    rdf, rdf_whole : dict of str to CurveComparison
        g(r) between molecules (which the test judges), and with the pairs inside a molecule.
    bond_length, angle : dict of str to DistributionComparison
        In nm and degrees.
    energetics, integrity
        From the log.
    notes : tuple of str
        What was left out or looks unusual.
    verdict : tuple of str
        What a chemist would conclude, failures first.
    agrees : bool or None
        Whether the run passes; None where it is too short to tell.
    failures : int
        How many of the first sentences of the verdict tell a failure.
    """

    run: Run
    reference_source: tuple[str, ...]
    run_window: Window
    reference_window: Window
    block_time: float
    rdf: dict[str, CurveComparison]
    rdf_whole: dict[str, CurveComparison]
    bond_length: dict[str, DistributionComparison]
    angle: dict[str, DistributionComparison]
    energetics: Energetics
    integrity: IntegrityRecord
    notes: tuple[str, ...]
    verdict: tuple[str, ...] = ()
    agrees: bool | None = None
    failures: int = 0

    @property
    def enough(self) -> bool:
        """Whether run and reference are long enough for a test."""
        return self.run_window.enough and self.reference_window.enough

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers, lists and strings, fit for JSON (no NaN: None instead)."""
        plain = {
            "verdict": list(self.verdict),
            "agrees": self.agrees,
            "rdf": {
                pair: {**c.to_dict(), "with_intramolecular": self.rdf_whole[pair].to_dict()}
                for pair, c in self.rdf.items()
            },
            "integrity": self.integrity.to_dict(),
            "bond_length": {name: c.to_dict() for name, c in self.bond_length.items()},
            "angle": {name: c.to_dict() for name, c in self.angle.items()},
            "energetics": self.energetics.to_dict(),
            "run": {**self.run_window.to_dict(), "settings": self.run.settings},
            "reference": {**self.reference_window.to_dict(), "source": list(self.reference_source)},
            "block_time_ps": self.block_time,
            "notes": list(self.notes),
        }
        return dict(_plain(plain))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return _plain(np.asarray(value, dtype=np.float64).round(9).tolist())
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value
