"""Results of a comparison as plain data."""

from __future__ import annotations

from dataclasses import dataclass, field

from openmm_duality.observables.conditions import Conditions
from openmm_duality.observables.curves import Curve, Distribution
from openmm_duality.observables.differences import CurveDifference, MeanDifference, joint_p_value
from openmm_duality.observables.findings import (
    Conclusion,
    Finding,
    Measured,
    Name,
    Note,
    Observable,
    Outcome,
    Quantity,
)
from openmm_duality.observables.force_errors import ForceErrors
from openmm_duality.observables.motion import Motion
from openmm_duality.observables.run_log import Energetics, IntegrityRecord
from openmm_duality.observables.runs import Run
from openmm_duality.observables.spectra import Band
from openmm_duality.observables.statistics import Reason

# fields of a comparison that do not bear the name of their observable
_PLACES = {
    Observable.FIRST_SHELL: "shells",
    Observable.BAND_CENTROID: "bands",
    Observable.BAND_SHARE: "band_shares",
}
_STATE = (
    Observable.SET_TEMPERATURE,
    Observable.MEAN_TEMPERATURE,
    Observable.DENSITY,
    Observable.SET_PRESSURE,
    Observable.PRESSURE,
)
_SPREADS = {Observable.BOND_LENGTH_SPREAD: "bond_length", Observable.ANGLE_SPREAD: "angle"}
# without a test of these, nothing can be said; the others are named as untested
_ESSENTIAL = (Observable.RDF, Observable.BOND_LENGTH, Observable.ANGLE)


@dataclass(frozen=True)
class CurveComparison:
    """A curve of the run beside the reference's; `halves` is the reference's first half against its second."""

    run: Curve
    reference: Curve
    difference: CurveDifference
    halves: CurveDifference


@dataclass(frozen=True)
class DistributionComparison:
    """A distribution of the run beside the reference's, in nm, degrees or no unit."""

    run: Distribution
    reference: Distribution
    mean: MeanDifference
    spread: MeanDifference

    @property
    def number(self) -> Quantity:
        """The means side by side."""
        return Quantity(self.run.average, self.reference.average, self.mean)

    @property
    def width(self) -> Quantity:
        """The standard deviations side by side."""
        return Quantity(self.run.spread, self.reference.spread, self.spread)


@dataclass(frozen=True)
class Shell:
    """The number of neighbours in the first shell of the reference.

    Parameters
    ----------
    edge : float
        Where it ends, in nm: the first minimum of the reference's g(r).
    number : Quantity
        Of neighbours in other molecules.
    """

    edge: float
    number: Quantity


@dataclass(frozen=True)
class Window:
    """Analysed part of a trajectory: its frames, their time in ps, and whether that is long enough for any test.

    Parameters
    ----------
    atoms, frames : int
        How many.
    structure_frames : int
        How many of the frames were analysed for structure.
    duration, discarded : float
        In ps.
    enough : bool
        Whether there are as many blocks of the least length as a test needs.
    correlation_times : dict of Measured to float
        In ps, as this trajectory gives them.
    """

    atoms: int
    frames: int
    structure_frames: int
    duration: float
    discarded: float
    enough: bool
    correlation_times: dict[Measured, float]

    @property
    def slowest(self) -> tuple[Measured, float] | None:
        """The longest correlation time in ps and what it belongs to; None where there is none."""
        return max(self.correlation_times.items(), key=lambda item: item[1], default=None)


@dataclass(frozen=True)
class Comparison:
    """All that was found about one run, or other data, beside one reference.

    Parameters
    ----------
    name : str
        What tables call it: the name of its folder or file.
    run : Run or None
        The run as read; None for reference data in the place of a run.
    source, reference_source : tuple of str
        The files of both.
    dynamics_source : tuple of str
        The files of the reference's motion, where they are others.
    species : tuple of str, length N
        Of the run.
    run_window, reference_window : Window
        What was analysed of each.
    block_time : float
        The least length of a block, in ps.
    conditions, reference_conditions : Conditions
        Of each.
    state : dict of Observable to Quantity
        What they are set to and their means, in K, g/cm³ and bar.
    rdf, rdf_whole : dict of str to CurveComparison
        g(r) between molecules (which is tested), and with the pairs inside a molecule.
    coordination : dict of str to CurveComparison
        Under "A-B" the number of B within r of an A, in other molecules.
    shells : dict of str to Shell
        The same at the end of the first shell of the reference.
    bond_length, angle : dict of str to DistributionComparison
        In nm and degrees.
    tetrahedral_order, neighbour_angle : dict of str to DistributionComparison
        The order by species, and the angles between four nearest neighbours in degrees.
    hydrogen_bonds : Quantity or None
        Per molecule; None where there are no donors.
    population, hops : dict of str to DistributionComparison
        Number of molecules by formula, and of atoms by species that change their partner, per ps; empty where no bond
        changes.
    lifetime : dict of str to Quantity
        Of molecules that end, by formula, in ps.
    hop_counts : dict of str to tuple of Curve
        Number of hops up to a time in ps, of run and reference.
    hop_spacing : float
        Between the frames in which hops are counted, in ps.
    own : dict of str to DistributionComparison
        Observables of the user's own, by name.
    motion, reference_motion : Motion
        Of each.
    diffusion : dict of str to Quantity
        By formula, in nm²/ps.
    reorientation : dict of str to Quantity
        τ₂ of bonds in ps.
    bands, band_shares : dict of Band to Quantity
        Centroids in cm⁻¹, and the part of the whole density of states that lies there.
    energetics, integrity
        From the log; None without one.
    notes : tuple of Note
        What was left out or looks unusual.
    force_errors : ForceErrors or None
        Errors of the forces along the run; None where none were labelled.
    findings : tuple of Finding
        One per observable and subject, as `decisions.judge` makes them.
    more : tuple of Comparison
        Others compared with the same reference.
    """

    name: str
    run: Run | None
    source: tuple[str, ...]
    reference_source: tuple[str, ...]
    dynamics_source: tuple[str, ...]
    species: tuple[str, ...]
    run_window: Window
    reference_window: Window
    block_time: float
    conditions: Conditions
    reference_conditions: Conditions
    state: dict[Observable, Quantity]
    rdf: dict[str, CurveComparison]
    rdf_whole: dict[str, CurveComparison]
    coordination: dict[str, CurveComparison]
    shells: dict[str, Shell]
    bond_length: dict[str, DistributionComparison]
    angle: dict[str, DistributionComparison]
    tetrahedral_order: dict[str, DistributionComparison]
    neighbour_angle: dict[str, DistributionComparison]
    hydrogen_bonds: Quantity | None
    population: dict[str, DistributionComparison]
    hops: dict[str, DistributionComparison]
    lifetime: dict[str, Quantity]
    hop_counts: dict[str, tuple[Curve, Curve]]
    hop_spacing: float
    own: dict[str, DistributionComparison]
    motion: Motion
    reference_motion: Motion
    diffusion: dict[str, Quantity]
    reorientation: dict[str, Quantity]
    bands: dict[Band, Quantity]
    band_shares: dict[Band, Quantity]
    energetics: Energetics | None
    integrity: IntegrityRecord | None
    notes: tuple[Note, ...]
    force_errors: ForceErrors | None = None
    findings: tuple[Finding, ...] = ()
    more: tuple[Comparison, ...] = field(default=())

    @property
    def enough(self) -> bool:
        """Whether run and reference are long enough for any test."""
        return self.run_window.enough and self.reference_window.enough

    @property
    def failures(self) -> tuple[Finding, ...]:
        """Findings in which the run fails."""
        return tuple(finding for finding in self.findings if finding.failed)

    @property
    def tests(self) -> tuple[Finding, ...]:
        """Findings that were tested, all of which are judged together."""
        return tuple(finding for finding in self.findings if finding.p_value is not None)

    @property
    def joint_p_value(self) -> float | None:
        """Chance of p values as small as these in so many tests of equal sources; None without any test."""
        return joint_p_value([finding.p_value for finding in self.tests if finding.p_value is not None])

    @property
    def untested(self) -> tuple[Finding, ...]:
        """Findings that should have been tested and could not be."""
        return tuple(finding for finding in self.findings if finding.outcome is Outcome.UNTESTED)

    @property
    def changes(self) -> bool:
        """Whether something changes along the run, so that its mean says little."""
        return any(finding.reason is Reason.NOT_STATIONARY for finding in self.untested)

    @property
    def conclusion(self) -> Conclusion:
        """Conclusion of the comparison; other runs beside this one do not count."""
        if self.failures:
            return Conclusion.DIFFERS
        if self.changes:
            return Conclusion.NOT_STATIONARY
        essential = any(finding.observable in _ESSENTIAL for finding in self.untested)
        return Conclusion.NO_DIFFERENCE if self.enough and self.tests and not essential else Conclusion.TOO_SHORT

    @property
    def agrees(self) -> bool | None:
        """Whether no difference was found; None where the data are too short to tell."""
        return {Conclusion.NO_DIFFERENCE: True, Conclusion.DIFFERS: False}.get(self.conclusion)

    def quantities(self, observable: Observable) -> dict[Name, Quantity]:
        """The numbers that are compared of an observable, by subject: of distributions their means."""
        if observable in _STATE:
            return {"": self.state[observable]} if observable in self.state else {}
        if observable in _SPREADS:
            return {name: d.width for name, d in getattr(self, _SPREADS[observable]).items()}
        found = getattr(self, _PLACES.get(observable, observable.value))
        if isinstance(found, Quantity):
            return {"": found}
        return {name: c if isinstance(c, Quantity) else c.number for name, c in (found or {}).items()}

    @property
    def columns(self) -> tuple[Comparison, ...]:
        """Comparisons of this run and of the others, in the order given."""
        return (self, *self.more)

    def finding(self, observable: Observable, subject: Name = "") -> Finding | None:
        """The finding of an observable of a subject; None where it was not compared."""
        return next((f for f in self.findings if (f.observable, f.subject) == (observable, subject)), None)

    def failed(self, observable: Observable, subject: Name = "") -> bool:
        """Whether the run fails in an observable of a subject."""
        finding = self.finding(observable, subject)
        return finding is not None and finding.failed
