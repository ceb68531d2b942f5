"""Every outcome of a comparison, decided once, and the tests of all observables judged together.

A comparison makes some twenty tests, of which equal sources fail one in five times at 1 %. So all are
combined to one p value, and a comparison of equal sources finds any difference about once in a hundred times. What is
set and not measured, as the temperature of a heat bath, needs no test.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from openmm_duality.geometry.contacts import collapse_distance
from openmm_duality.inference.judgement import far_above
from openmm_duality.observables.differences import SIGNIFICANCE, MeanDifference, holm, joint_p_value
from openmm_duality.observables.findings import Finding, Measured, Name, Observable, Outcome, Quantity
from openmm_duality.observables.results import Comparison
from openmm_duality.observables.statistics import Estimate, Reason
from openmm_duality.observables.trajectory import counts

TOLERANCES = {  # of what is set
    Observable.SET_TEMPERATURE: 0.5,  # K
    Observable.SET_PRESSURE: 0.5,  # bar
}
DENSITY_TOLERANCE = 1e-3  # of the density; what a PDB file rounds away of a cell
DRIFT_TOLERANCE = 1e-3  # kJ/mol per atom and ps
_ROUNDED = 1e-9  # relative difference of numbers that never change

_STATE = (
    Observable.SET_TEMPERATURE,
    Observable.DENSITY,
    Observable.SET_PRESSURE,
    Observable.MEAN_TEMPERATURE,
    Observable.PRESSURE,
)
_STRUCTURE = (
    Observable.BOND_LENGTH,
    Observable.BOND_LENGTH_SPREAD,
    Observable.ANGLE,
    Observable.ANGLE_SPREAD,
    Observable.TETRAHEDRAL_ORDER,
    Observable.NEIGHBOUR_ANGLE,
    Observable.HYDROGEN_BONDS,
)
_MOTION = (Observable.DIFFUSION, Observable.REORIENTATION)
_EVENTS = (Observable.POPULATION, Observable.HOPS, Observable.LIFETIME, Observable.OWN)
_SPREADS = {Observable.BOND_LENGTH_SPREAD: Observable.BOND_LENGTH, Observable.ANGLE_SPREAD: Observable.ANGLE}


def judge(comparison: Comparison) -> Comparison:
    """Make the findings of a comparison.

    Parameters
    ----------
    comparison : Comparison
        Findings that it holds already are replaced.

    Returns
    -------
    Comparison
        The same with one finding per observable and subject: conditions first.
    """
    windows = comparison.run_window, comparison.reference_window
    findings = []
    for findings_of in (_state, _integrity, _curves, _quantities, _energetics, _forces):
        for finding in findings_of(comparison):
            spread = finding.observable in _SPREADS
            measured = Measured(
                _SPREADS.get(finding.observable, finding.observable), finding.subject, "spread" if spread else "mean"
            )
            time = max(window.correlation_times.get(measured, 0.0) for window in windows)
            findings.append(replace(finding, correlation_time=time))
    return replace(comparison, findings=tuple(_together(findings)))


def _together(findings: Sequence[Finding]) -> Iterator[Finding]:
    """The findings with the outcomes of their tests.

    Whether there is a difference at all, all tests say together. Then it is in those whose own p values, corrected for
    the number of tests, are small, or else in those that are small uncorrected, the smallest of all among them.
    """
    p_values = [finding.p_value for finding in findings if finding.p_value is not None]
    joint, corrected = joint_p_value(p_values), holm(p_values)
    limit = -1.0
    if joint is not None and joint < SIGNIFICANCE:
        named = [p for p, c in zip(p_values, corrected, strict=True) if c < SIGNIFICANCE]
        limit = max(named, default=max(SIGNIFICANCE, min(p_values)))
    adjusted = iter(corrected)
    for finding in findings:
        if finding.p_value is None:
            yield finding
        else:
            yield replace(finding, adjusted_p_value=next(adjusted), outcome=_passed(not finding.p_value <= limit))


def _state(comparison: Comparison) -> Iterator[Finding]:
    """What run and reference are set to, and their means; a difference of what is set is one without any test."""
    for observable in _STATE:
        quantity = comparison.state.get(observable)
        if quantity is None or quantity.difference is None:
            continue
        finding = _tested(observable, "", quantity, quantity.difference)
        if quantity.difference.reason is Reason.SET and quantity.reference is not None:
            tolerance = TOLERANCES.get(observable, DENSITY_TOLERANCE * abs(quantity.reference.mean))
            passed = _passed(abs(quantity.difference.difference) <= tolerance)
            finding = replace(finding, outcome=passed, tolerance=tolerance)
        yield finding


def _integrity(comparison: Comparison) -> Iterator[Finding]:
    record = comparison.integrity
    if record is None:
        return
    yield Finding(Observable.COMPLETION, "", _passed(record.status != "stopped"), _single(record.time))
    yield Finding(Observable.WHOLE_MOLECULES, "", _passed(not record.most_left), _single(record.most_left))
    for pair, closest in record.shortest.items():
        finding = Finding(Observable.SHORTEST_DISTANCE, pair, Outcome.REPORTED, _single(closest.run))
        if closest.reference is not None:
            one, _, other = pair.partition("-")
            lowest = collapse_distance((one, other), closest.reference)
            finding = replace(
                finding,
                outcome=_passed(not closest.run < lowest),
                reference=_single(closest.reference),
                difference=closest.run - closest.reference,
                tolerance=closest.reference - lowest,
            )
        yield finding


def _curves(comparison: Comparison) -> Iterator[Finding]:
    for pair, c in comparison.rdf.items():
        d = c.difference
        difference = MeanDifference(d.max_difference, d.band_half_width, d.p_value, d.reason)
        yield _tested(Observable.RDF, pair, Quantity(None, None, difference), difference)


def _quantities(comparison: Comparison) -> Iterator[Finding]:
    compared: list[tuple[Observable, Name]] = [
        (Observable.FIRST_SHELL, name) for name in one_way_round(comparison.shells, comparison.species)
    ]
    compared += [(what, name) for what in _STRUCTURE for name in comparison.quantities(what)]
    compared += [
        (what, band) for band in comparison.bands for what in (Observable.BAND_SHARE, Observable.BAND_CENTROID)
    ]
    compared += [(what, name) for what in (*_MOTION, *_EVENTS) for name in comparison.quantities(what)]
    for observable, name in compared:
        quantity = comparison.quantities(observable)[name]
        if quantity.difference is not None:
            yield _tested(observable, name, quantity, quantity.difference)


def one_way_round(names: Iterable[str], species: tuple[str, ...]) -> list[str]:
    """Of the pairs "A-B" and "B-A", which hold the same numbers, those around the rarer species."""
    number = counts(species)
    pairs = [(name, *name.split("-")) for name in names]
    return [name for name, a, b in pairs if (number[a], a) <= (number[b], b)]


def _energetics(comparison: Comparison) -> Iterator[Finding]:
    """Means over the log beside what the ensemble prescribes, tested where the run is long enough."""
    e, enough = comparison.energetics, comparison.run_window.enough
    if e is None:
        return
    canonical = e.canonical_mean is not None
    yield _prescribed(Observable.TEMPERATURE, e.temperature, e.target if canonical else None, enough)
    if canonical and e.canonical_variance:
        yield _prescribed(Observable.KINETIC_VARIANCE, e.kinetic_variance, e.canonical_variance, enough)
    if e.pump is not None:
        predicted = None if e.pump.predicted is None else _single(e.pump.predicted)
        yield Finding(Observable.PUMP, "", Outcome.REPORTED, e.pump.measured, predicted)
        return
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
    """Errors of the forces along the run: a failure if far above those of held-out frames and a tenth of the forces."""
    if comparison.force_errors is not None:
        known = None if comparison.run is None else comparison.run.held_out_error("all")
        error, rms = comparison.force_errors.error("all")
        failed = known is not None and far_above(error, known, rms)
        outcome = Outcome.FAILED if failed else Outcome.REPORTED
        yield Finding(Observable.FORCE_ERROR, "all", outcome, _single(error), None if known is None else _single(known))


def _tested(observable: Observable, subject: Name, quantity: Quantity, d: MeanDifference) -> Finding:
    """A finding that stands on the p value of a difference; its outcome, if tested, awaits the other tests."""
    outcome, known = Outcome.UNTESTED if d.p_value is None else Outcome.PASSED, quantity.reference
    if d.reason in (Reason.CONSTANT, Reason.IMPLIED):
        differs = d.reason is Reason.CONSTANT and abs(d.difference) > _ROUNDED * abs(known.mean if known else 1.0)
        outcome = Outcome.FAILED if differs else Outcome.REPORTED
    numbers = quantity.run, quantity.reference, d.difference, d.interval, d.p_value
    return Finding(observable, subject, outcome, *numbers, reason=d.reason)


def _prescribed(observable: Observable, run: Estimate, expected: float | None, enough: bool) -> Finding:
    """A mean beside what the ensemble prescribes, tested where the run is long enough."""
    if expected is None:
        return Finding(observable, "", Outcome.REPORTED, run)
    p_value = run.p_value(expected) if enough else None
    outcome = Outcome.REPORTED if p_value is None else Outcome.PASSED
    return Finding(observable, "", outcome, run, _single(expected), run.mean - expected, run.interval, p_value)


def _passed(passed: bool) -> Outcome:
    return Outcome.PASSED if passed else Outcome.FAILED


def _single(value: float) -> Estimate:
    """A single observation, whose error is not known."""
    return Estimate(float(value), math.nan, 1)
