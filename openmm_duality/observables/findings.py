"""Findings and notes of a comparison as data: what was compared, the numbers, the outcome, and what was left out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal, NamedTuple

from openmm_duality.observables.statistics import Estimate, Reason


class Observable(Enum):
    """What is compared."""

    RDF = "rdf"
    RDF_WHOLE = "rdf_whole"
    COORDINATION = "coordination"
    FIRST_SHELL = "first_shell"
    BOND_LENGTH = "bond_length"
    ANGLE = "angle"
    TETRAHEDRAL_ORDER = "tetrahedral_order"
    NEIGHBOUR_ANGLE = "neighbour_angle"
    HYDROGEN_BONDS = "hydrogen_bonds"
    BAND_CENTROID = "band_centroid"
    BAND_SHARE = "band_share"
    DIFFUSION = "diffusion"
    REORIENTATION = "reorientation"
    COMPLETION = "completion"
    WHOLE_MOLECULES = "whole_molecules"
    SHORTEST_DISTANCE = "shortest_distance"
    TEMPERATURE = "temperature"
    KINETIC_VARIANCE = "kinetic_variance"
    ENERGY_DRIFT = "energy_drift"
    FORCE_ERROR = "force_error"


class Outcome(Enum):
    """What came of the test of an observable."""

    PASSED = "passed"
    FAILED = "failed"
    UNTESTED = "untested"
    """It should have been tested and could not be."""
    REPORTED = "reported"
    """The numbers stand without a test and without weight."""


class Conclusion(Enum):
    """What a comparison comes to."""

    AGREES = "agrees"
    AGREES_WHERE_TESTED = "agrees_where_tested"
    DIFFERS = "differs"
    NOT_STATIONARY = "not_stationary"
    TOO_SHORT = "too_short"


Name = str | tuple[float, float]  # of a subject


class Measured(NamedTuple):
    """What a correlation time belongs to: an observable of a subject, its mean or another statistic of it."""

    observable: Observable
    subject: Name = ""
    statistic: Literal["mean", "distribution", "spread"] = "mean"


@dataclass(frozen=True)
class Finding:
    """One observable of one subject beside the reference's.

    Parameters
    ----------
    observable : Observable
    subject : str or tuple of float
        Species as "O-O", a formula, or the limits of a band in cm⁻¹; empty where there is only one.
    outcome : Outcome
    run, reference : Estimate or None
        In the unit that `Comparison` gives the observable; single observations have no error. The reference of what
        the log holds is what the ensemble prescribes. None for curves.
    difference : float or None
        Run less reference; of curves the largest absolute difference.
    interval : float or None
        Half-width of the 95 % interval of the difference; of curves the largest difference that equal sources stay
        below in 95 % of cases.
    p_value : float or None
        None where no test was made.
    tolerance : float
        A smaller difference passes, whatever its p value.
    reason : Reason or None
        Why there is no test, where that is known.
    correlation_time : float
        The longer one of run and reference in ps; 0 where none is known.
    """

    observable: Observable
    subject: Name
    outcome: Outcome
    run: Estimate | None = None
    reference: Estimate | None = None
    difference: float | None = None
    interval: float | None = None
    p_value: float | None = None
    tolerance: float = 0.0
    reason: Reason | None = None
    correlation_time: float = 0.0

    @property
    def failed(self) -> bool:
        """Whether the run differs by more than errors and tolerance allow."""
        return self.outcome is Outcome.FAILED


class Remark(Enum):
    """What is noted, as a sentence with the places of the name and the values that a `Note` holds."""

    LOG_CUT = "{name} ends in a half-written line, which was left out."
    FRAMES_CUT = "{name} is cut short: of {0} frames announced, the {1} whole ones were used."
    REPORTS_AND_FRAMES = "log.csv has {0} reports and trajectory.dcd {1} whole frames; the first {2} of both were used."
    VELOCITIES_SHORT = "{name} has {0} of {1} frames; velocities were not used."
    UNEVEN_FRAMES = "The frames of {name} are not evenly spaced; blocks hold equal numbers of them."
    BROKEN_AT_START = (
        "The first frame of {name} has {0:.4g} bonds per atom, that of the reference {1:.4g}: some molecules were "
        "broken from the start."
    )
    NO_CELL = "Without a periodic cell in both {name} and reference there is no g(r) to compare."
    OTHER_DENSITY = (
        "{name} starts at {0:.2f} atoms per nm³ and the reference at {1:.2f}: a difference in structure is to be "
        "expected from the density alone."
    )
    DIFFUSION_UNEVEN = "Diffusion of {name} is not given: its frames are not evenly spaced."
    MOTION_SHORT = (
        "Diffusion and reorientation of {name} are not given: {0:.3g} ps are too short, {1:g} ps are the least."
    )
    MOTION_COARSE = (
        "Diffusion and reorientation of {name} are not given: frames every {0:.3g} ps are too coarse, {1:g} ps is the "
        "most."
    )
    PATHS_LOST = (
        "Diffusion of {name} is not given: between frames, atoms move so far that their path through the periodic cell "
        "is lost."
    )
    SPECTRUM_UNEVEN = "No vibrational spectrum of {name}: its frames are too few or not evenly spaced."
    SPECTRUM_COARSE = (
        "No vibrational spectrum of {name}: it was written every {0:.3g} fs, and a spectrum needs positions every "
        "{1:g} fs or velocities every {2:g} fs at the most."
    )
    SPECTRUM_SHORT = "No vibrational spectrum of {name}: {0:.3g} ps are too short, {1:g} ps are the least."
    SPECTRUM_OF_SOME = "The spectrum of {name} follows {0} of its {1} atoms."
    NOT_RECOMPUTED = "Forces along {name} were not recomputed: {0}."


class Note(NamedTuple):
    """A remark on a run, a trajectory or a file, with the values that belong to it."""

    remark: Remark
    name: str
    values: tuple[float | str, ...] = ()

    @property
    def sentence(self) -> str:
        """The note in words."""
        return self.remark.value.format(*self.values, name=self.name)
