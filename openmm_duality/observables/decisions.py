"""Every outcome of a comparison, decided once: which differences exceed both their errors and the tolerance."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from openmm_duality.observables.findings import Finding, Measured, Name, Observable, Outcome
from openmm_duality.observables.results import Comparison, Quantity
from openmm_duality.observables.statistics import SIGNIFICANCE, Estimate, MeanDifference, Reason

TOLERANCES = {  # a smaller difference is reported and is no failure
    Observable.BOND_LENGTH: 2e-4,  # nm
    Observable.ANGLE: 0.3,  # degrees
    Observable.TETRAHEDRAL_ORDER: 0.01,
    Observable.HYDROGEN_BONDS: 0.05,  # per molecule
    Observable.BAND_CENTROID: 20.0,  # cm⁻¹
    Observable.BAND_SHARE: 0.03,  # of the whole density, which in a few ps is not yet what equipartition makes it
}
DRIFT_TOLERANCE = 1e-3  # kJ/mol per atom and ps
COLLAPSE_FRACTION = 0.8  # of the shortest distance in the reference

_STRUCTURE = (Observable.BOND_LENGTH, Observable.ANGLE, Observable.TETRAHEDRAL_ORDER, Observable.HYDROGEN_BONDS)
_MOTION = (Observable.DIFFUSION, Observable.REORIENTATION)


def judge(comparison: Comparison) -> Comparison:
    """Make the findings of a comparison.

    Parameters
    ----------
    comparison : Comparison
        Findings that it holds already are replaced.

    Returns
    -------
    Comparison
        The same with one finding per observable and subject.
    """
    windows = comparison.run_window, comparison.reference_window
    findings = []
    for findings_of in (_integrity, _curves, _quantities, _energetics, _forces):
        for finding in findings_of(comparison):
            measured = Measured(finding.observable, finding.subject)
            time = max(window.correlation_times.get(measured, 0.0) for window in windows)
            findings.append(replace(finding, correlation_time=time))
    return replace(comparison, findings=tuple(findings))


def _integrity(comparison: Comparison) -> Iterator[Finding]:
    record = comparison.integrity
    if record is None:
        return
    yield Finding(Observable.COMPLETION, "", _passed(record.status != "stopped"), _single(record.time))
    yield Finding(Observable.WHOLE_MOLECULES, "", _passed(not record.most_left), _single(record.most_left))
    for pair, closest in record.shortest.items():
        finding = Finding(Observable.SHORTEST_DISTANCE, pair, Outcome.REPORTED, _single(closest.run))
        if closest.reference is not None:
            finding = replace(
                finding,
                outcome=_passed(not closest.run < COLLAPSE_FRACTION * closest.reference),
                reference=_single(closest.reference),
                difference=closest.run - closest.reference,
                tolerance=(1 - COLLAPSE_FRACTION) * closest.reference,
            )
        yield finding


def _curves(comparison: Comparison) -> Iterator[Finding]:
    for pair, c in comparison.rdf.items():
        d = c.difference
        difference = MeanDifference(d.max_difference, d.band_half_width, d.p_value, d.reason)
        yield _tested(Observable.RDF, pair, Quantity(None, None, difference), difference)


def _quantities(comparison: Comparison) -> Iterator[Finding]:
    compared: list[tuple[Observable, Name]] = [
        (what, name) for what in _STRUCTURE for name in comparison.quantities(what)
    ]
    compared += [
        (what, band) for band in comparison.bands for what in (Observable.BAND_SHARE, Observable.BAND_CENTROID)
    ]
    compared += [(what, name) for what in _MOTION for name in comparison.quantities(what)]
    for observable, name in compared:
        quantity = comparison.quantities(observable)[name]
        if quantity.difference is not None:
            yield _tested(observable, name, quantity, quantity.difference)


def _energetics(comparison: Comparison) -> Iterator[Finding]:
    """Means over the log beside what the ensemble prescribes, tested where the run is long enough."""
    e, enough = comparison.energetics, comparison.run_window.enough
    if e is None:
        return
    nvt = e.canonical_mean is not None
    yield _prescribed(Observable.TEMPERATURE, e.temperature, e.target if nvt else None, enough)
    if nvt and e.canonical_variance:
        yield _prescribed(Observable.KINETIC_VARIANCE, e.kinetic_variance, e.canonical_variance, enough)
    if e.drift is None or math.isnan(e.drift.mean):
        yield Finding(Observable.ENERGY_DRIFT, "", Outcome.REPORTED, e.drift, tolerance=DRIFT_TOLERANCE)
        return
    drifts = abs(e.drift.mean) - e.drift.interval > DRIFT_TOLERANCE
    yield Finding(
        Observable.ENERGY_DRIFT,
        "",
        _passed(not drifts) if enough else Outcome.REPORTED,
        run=e.drift,
        reference=_single(0.0),
        difference=e.drift.mean,
        interval=e.drift.interval,
        tolerance=DRIFT_TOLERANCE,
    )


def _forces(comparison: Comparison) -> Iterator[Finding]:
    """Errors of the forces along the run: no failure, for nobody said how much would be one."""
    if comparison.force_errors is not None:
        known = None if comparison.run is None else comparison.run.held_out_error("all")
        yield Finding(
            Observable.FORCE_ERROR,
            "all",
            Outcome.REPORTED,
            _single(comparison.force_errors.error("all")[0]),
            None if known is None else _single(known),
        )


def _tested(observable: Observable, subject: Name, quantity: Quantity, d: MeanDifference) -> Finding:
    """A finding that stands on the p value of a difference, and on its tolerance."""
    tolerance = TOLERANCES.get(observable, 0.0)
    if d.p_value is not None:
        outcome = _passed(not (d.p_value < SIGNIFICANCE and abs(d.difference) > tolerance))
    elif observable in (Observable.RDF, *_STRUCTURE) or d.reason is Reason.NOT_STATIONARY:
        outcome = Outcome.UNTESTED
    else:
        outcome = Outcome.REPORTED
    numbers = quantity.run, quantity.reference, d.difference, d.interval, d.p_value
    return Finding(observable, subject, outcome, *numbers, tolerance, d.reason)


def _prescribed(observable: Observable, run: Estimate, expected: float | None, enough: bool) -> Finding:
    """A mean beside what the ensemble prescribes, tested where the run is long enough."""
    if expected is None:
        return Finding(observable, "", Outcome.REPORTED, run)
    p_value = run.p_value(expected) if enough else None
    outcome = Outcome.REPORTED if p_value is None else _passed(not p_value < SIGNIFICANCE)
    return Finding(observable, "", outcome, run, _single(expected), run.mean - expected, run.interval, p_value)


def _passed(passed: bool) -> Outcome:
    return Outcome.PASSED if passed else Outcome.FAILED


def _single(value: float) -> Estimate:
    """A single observation, whose error is not known."""
    return Estimate(float(value), math.nan, 1)
