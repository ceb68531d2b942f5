"""Findings and notes of a comparison as data: what was compared, the numbers, the outcome, and what was left out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal, NamedTuple

from openmm_duality.observables.differences import MeanDifference
from openmm_duality.observables.statistics import Estimate, Reason


class Observable(Enum):
    """Quantities that are compared."""

    SET_TEMPERATURE = "set_temperature"
    MEAN_TEMPERATURE = "mean_temperature"
    DENSITY = "density"
    SET_PRESSURE = "set_pressure"
    PRESSURE = "pressure"
    RDF = "rdf"
    RDF_WHOLE = "rdf_whole"
    COORDINATION = "coordination"
    FIRST_SHELL = "first_shell"
    BOND_LENGTH = "bond_length"
    BOND_LENGTH_SPREAD = "bond_length_spread"
    ANGLE = "angle"
    ANGLE_SPREAD = "angle_spread"
    TETRAHEDRAL_ORDER = "tetrahedral_order"
    NEIGHBOUR_ANGLE = "neighbour_angle"
    HYDROGEN_BONDS = "hydrogen_bonds"
    POPULATION = "population"
    HOPS = "hops"
    LIFETIME = "lifetime"
    OWN = "own"
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
    PUMP = "pump"
    FORCE_ERROR = "force_error"


class Outcome(Enum):
    """Outcomes of the test of an observable."""

    PASSED = "passed"
    FAILED = "failed"
    UNTESTED = "untested"
    """It should have been tested and could not be."""
    REPORTED = "reported"
    """The numbers stand without a test and without weight."""


class Conclusion(Enum):
    """Conclusions of a comparison."""

    NO_DIFFERENCE = "no_difference"
    DIFFERS = "differs"
    NOT_STATIONARY = "not_stationary"
    TOO_SHORT = "too_short"


Name = str | tuple[float, float]  # of a subject


@dataclass(frozen=True)
class Quantity:
    """A number of the run beside the reference's; None where one of them does not give it.

    Parameters
    ----------
    run, reference : Estimate or None
        In the unit that its place in `Comparison` says.
    difference : MeanDifference or None
        None unless both are there.
    """

    run: Estimate | None
    reference: Estimate | None
    difference: MeanDifference | None


class Measured(NamedTuple):
    """Owner of a correlation time: an observable of a subject, its mean or another statistic of it."""

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
    adjusted_p_value : float or None
        The p value corrected for the number of tests of the comparison, by which the outcome is decided; None where
        no test was made.
    tolerance : float
        What is no failure where nothing is tested, as of what is set and of what should be conserved.
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
    adjusted_p_value: float | None = None
    tolerance: float = 0.0
    reason: Reason | None = None
    correlation_time: float = 0.0

    @property
    def failed(self) -> bool:
        """Whether the run differs by more than all tests together allow, or by more than the tolerance."""
        return self.outcome is Outcome.FAILED

    @property
    def noticeable(self) -> bool:
        """Whether the difference is beyond its own 95 % interval, and yet no failure among so many tests."""
        tested = self.p_value is not None and self.interval is not None and self.difference is not None
        return tested and not self.failed and abs(self.difference or 0.0) > (self.interval or 0.0)


class Remark(Enum):
    """Remarks on what was left out of an analysis or looks unusual."""

    LOG_CUT = "log_cut"
    FRAMES_CUT = "frames_cut"
    REPORTS_AND_FRAMES = "reports_and_frames"
    VELOCITIES_SHORT = "velocities_short"
    UNEVEN_FRAMES = "uneven_frames"
    BROKEN_AT_START = "broken_at_start"
    NO_CELL = "no_cell"
    NO_TEMPERATURE = "no_temperature"
    NO_TIMES = "no_times"
    NO_RDF = "no_rdf"
    MIXED = "mixed"
    OTHER_ENSEMBLE = "other_ensemble"
    OTHER_TIME_STEP = "other_time_step"
    MASSIVE_BATH = "massive_bath"
    DIFFUSION_UNEVEN = "diffusion_uneven"
    MOTION_SHORT = "motion_short"
    MOTION_COARSE = "motion_coarse"
    PATHS_LOST = "paths_lost"
    MOTION_OF_LASTING = "motion_of_lasting"
    HOPS_COARSE = "hops_coarse"
    FORMULAS_LEFT_OUT = "formulas_left_out"
    SPECTRUM_UNEVEN = "spectrum_uneven"
    SPECTRUM_COARSE = "spectrum_coarse"
    SPECTRUM_SHORT = "spectrum_short"
    SPECTRUM_OF_SOME = "spectrum_of_some"
    NOT_RECOMPUTED = "not_recomputed"


class Note(NamedTuple):
    """A remark on a run, a trajectory or a file, with the values of its sentence (`report.notes`)."""

    remark: Remark
    name: str
    values: tuple[float | str, ...] = ()
