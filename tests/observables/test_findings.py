"""Outcomes: every branch of every decision, on findings that are changed one at a time."""

from dataclasses import replace

import numpy as np
import pytest

from openmm_duality.dynamics.monitoring import count_checks
from openmm_duality.geometry.contacts import COLLAPSE_FRACTION
from openmm_duality.observables import Comparison, Conclusion, Observable, Outcome, compare
from openmm_duality.observables import decisions as d
from openmm_duality.observables.decisions import judge
from openmm_duality.observables.differences import SIGNIFICANCE, MeanDifference
from openmm_duality.observables.force_errors import ForceErrors
from openmm_duality.observables.results import Quantity
from openmm_duality.observables.run_log import Closest
from openmm_duality.observables.statistics import Estimate, Reason
from openmm_duality.report import comparison_to_dict, headline, verdict
from tests.observables import made

SURE, UNSURE = SIGNIFICANCE / 1000, SIGNIFICANCE / 2  # among some twenty tests
NUMBER = Estimate(1.0, 0.1, 6)
MEANS = [
    (Observable.BOND_LENGTH, "H-O"),
    (Observable.ANGLE, "H-O-H"),
    (Observable.TETRAHEDRAL_ORDER, "O"),
    (Observable.HYDROGEN_BONDS, ""),
]
BAND = (1000.0, 1500.0)


@pytest.fixture(scope="module")
def same(tmp_path_factory) -> Comparison:
    """A run that agrees with its reference."""
    run = made.write_run(tmp_path_factory.mktemp("findings") / "run", made.water(120, 2))
    return compare(run, made.water(120, 1), r_max=0.5, progress=False)


def changed(comparison: Comparison, observable: Observable, subject: str, difference) -> Comparison:
    """The comparison judged again with another difference of one observable."""
    if observable is Observable.HYDROGEN_BONDS:
        return judge(replace(comparison, hydrogen_bonds=Quantity(NUMBER, NUMBER, difference)))
    part = getattr(comparison, observable.value)
    which = "difference" if observable is Observable.RDF else "mean"
    return judge(
        replace(comparison, **{observable.value: part | {subject: replace(part[subject], **{which: difference})}})
    )


def outcome(comparison: Comparison, observable: Observable, subject="") -> Outcome:
    found = comparison.finding(observable, subject)
    assert found is not None
    assert comparison.failed(observable, subject) == found.failed == (found in comparison.failures)
    return found.outcome


def test_a_run_of_the_same_source_passes_in_everything_that_is_tested(same):
    assert same.agrees is True
    assert same.conclusion is Conclusion.NO_DIFFERENCE
    assert same.failures == same.untested == ()
    keys = [(finding.observable, finding.subject) for finding in same.findings]
    assert len(set(keys)) == len(keys)
    assert {pair for observable, pair in keys if observable is Observable.RDF} == {"H-H", "H-O", "O-O"}
    assert {finding.outcome for finding in same.findings} == {Outcome.PASSED}


def test_a_finding_holds_the_numbers_of_the_comparison(same):
    found, c = same.finding(Observable.BOND_LENGTH, "H-O"), same.bond_length["H-O"]
    assert (found.run, found.reference) == (c.run.average, c.reference.average)
    assert (found.difference, found.interval, found.p_value) == (c.mean.difference, c.mean.interval, c.mean.p_value)
    assert found.adjusted_p_value == min(1.0, max(found.p_value, found.adjusted_p_value))
    times = [window.correlation_times for window in (same.run_window, same.reference_window)]
    for observable, subject in MEANS[:3]:
        expected = max(one[observable, subject, "mean"] for one in times)
        assert same.finding(observable, subject).correlation_time == expected
    assert any(finding.correlation_time > 0 for finding in same.findings)
    curve, difference = same.finding(Observable.RDF, "O-O"), same.rdf["O-O"].difference
    assert (curve.difference, curve.interval) == (difference.max_difference, difference.band_half_width)
    assert same.finding(Observable.RDF, "C-C") is None
    assert not same.failed(Observable.RDF, "C-C")


@pytest.mark.parametrize(("observable", "subject"), MEANS)
def test_a_mean_fails_by_its_p_value_among_all_tests_however_small_the_difference(same, observable, subject):
    for difference in (1e-9, -5.0):
        for p_value, expected in ((SURE, Outcome.FAILED), (UNSURE, Outcome.PASSED), (None, Outcome.UNTESTED)):
            found = changed(same, observable, subject, MeanDifference(difference, 1e-3, p_value))
            assert outcome(found, observable, subject) is expected
            if p_value is not None:
                finding = found.finding(observable, subject)
                assert finding.adjusted_p_value == pytest.approx(p_value * len(found.tests))
                assert (found.joint_p_value < SIGNIFICANCE) == (expected is Outcome.FAILED)
                assert finding.noticeable == (expected is Outcome.PASSED and difference == -5.0)


def test_differences_that_only_all_tests_together_show_are_those_of_small_p_values(same):
    """No single one of them survives the number of tests."""
    found = same
    for observable, subject in MEANS[:3]:
        found = changed(found, observable, subject, MeanDifference(0.1, 0.05, 0.0008))
    assert min(f.adjusted_p_value for f in found.tests) > SIGNIFICANCE > found.joint_p_value
    assert [(f.observable, f.subject) for f in found.failures] == MEANS[:3]
    assert headline(found) == "The run differs in H–O length, H–O–H angle and tetrahedral order of O"


def test_what_is_noticeable_is_in_the_sentences_and_no_failure(same):
    found = changed(same, Observable.ANGLE, "H-O-H", MeanDifference(0.5, 0.3, 0.002))
    assert found.agrees is True
    (sentence,) = (text for text in verdict(found) if text.startswith("Beyond the 95 % interval"))
    assert "the H–O–H angle (p = 0.002)" in sentence


@pytest.mark.parametrize(
    ("p_value", "expected"), [(SURE, Outcome.FAILED), (UNSURE, Outcome.PASSED), (None, Outcome.UNTESTED)]
)
def test_a_curve_fails_by_its_p_value_alone(same, p_value, expected):
    difference = replace(same.rdf["O-O"].difference, p_value=p_value, band_half_width=None if p_value is None else 0.1)
    assert outcome(changed(same, Observable.RDF, "O-O", difference), Observable.RDF, "O-O") is expected


@pytest.mark.parametrize("observable", [Observable.DIFFUSION, Observable.REORIENTATION])
def test_motion_without_a_test_is_reported_unless_it_changes_along_the_run(same, observable):
    for p_value, reason, expected, agrees in (
        (SURE, None, Outcome.FAILED, False),
        (UNSURE, None, Outcome.PASSED, True),
        (None, None, Outcome.UNTESTED, True),
        (None, Reason.NOT_STATIONARY, Outcome.UNTESTED, None),
    ):
        moved = Quantity(NUMBER, NUMBER, MeanDifference(0.1, 0.1, p_value, reason))
        found = judge(replace(same, **{observable.value: {"H2O": moved}}))
        assert outcome(found, observable, "H2O") is expected
        assert found.agrees is agrees
    unknown = judge(replace(same, **{observable.value: {"H2O": Quantity(None, NUMBER, None)}}))
    assert unknown.finding(observable, "H2O") is None


def test_bands_fail_by_their_centroid_or_their_share(same):
    for part, observable in (("bands", Observable.BAND_CENTROID), ("band_shares", Observable.BAND_SHARE)):
        for p_value, expected in ((SURE, Outcome.FAILED), (UNSURE, Outcome.PASSED), (None, Outcome.UNTESTED)):
            parts = {
                name: {BAND: Quantity(NUMBER, NUMBER, MeanDifference(0.01, 0.1, p_value if name == part else 0.5))}
                for name in ("bands", "band_shares")
            }
            found = judge(replace(same, **parts))
            assert outcome(found, observable, BAND) is expected
            assert found.agrees is (expected is not Outcome.FAILED)
    unknown = {part: {BAND: Quantity(None, NUMBER, None)} for part in ("bands", "band_shares")}
    assert judge(replace(same, **unknown)).findings == same.findings


def test_the_log_is_tested_where_the_run_is_long_enough(same):
    e = same.energetics
    off = replace(
        e,
        temperature=Estimate(e.target + 50, 1.0, 6),
        kinetic_variance=Estimate(2 * e.canonical_variance, 0.01 * e.canonical_variance, 6),
        drift=Estimate(3 * d.DRIFT_TOLERANCE, 0.1 * d.DRIFT_TOLERANCE, 6),
    )
    observables = [Observable.TEMPERATURE, Observable.KINETIC_VARIANCE, Observable.ENERGY_DRIFT]
    assert off.temperature.p_value(e.target) < SURE
    bad = judge(replace(same, energetics=off))
    assert [finding.observable for finding in bad.failures] == observables
    short = judge(replace(bad, run_window=replace(same.run_window, enough=False)))
    assert {outcome(short, observable) for observable in observables} == {Outcome.REPORTED}
    nve = judge(replace(same, energetics=replace(off, canonical_mean=None, canonical_variance=None)))
    assert outcome(nve, Observable.TEMPERATURE) is Outcome.REPORTED
    assert nve.finding(Observable.KINETIC_VARIANCE) is None
    few = judge(replace(same, energetics=replace(off, temperature=Estimate(e.target + 50, 1.0, 4))))
    assert outcome(few, Observable.TEMPERATURE) is Outcome.REPORTED
    for drift in (None, Estimate(np.nan, np.nan, 1)):
        unknown = judge(replace(same, energetics=replace(e, drift=drift)))
        assert outcome(unknown, Observable.ENERGY_DRIFT) is Outcome.REPORTED
    within = judge(replace(same, energetics=replace(e, drift=Estimate(1.5e-3, 1e-3, 6))))
    assert outcome(within, Observable.ENERGY_DRIFT) is Outcome.PASSED


def test_integrity_fails_by_a_stop_a_broken_molecule_or_a_collapse(same):
    shortest = {"H-O": Closest(0.09, 3.0, 0.1), "O-O": Closest(0.2, 3.0, None)}
    found = judge(replace(same, integrity=replace(same.integrity, shortest=shortest)))
    assert outcome(found, Observable.SHORTEST_DISTANCE, "H-O") is Outcome.PASSED
    assert outcome(found, Observable.SHORTEST_DISTANCE, "O-O") is Outcome.REPORTED
    assert outcome(found, Observable.COMPLETION) is outcome(found, Observable.WHOLE_MOLECULES) is Outcome.PASSED
    closer = {"H-O": Closest(0.99 * COLLAPSE_FRACTION * 0.1, 3.0, 0.1)}
    broken = replace(same.integrity, status="stopped", most_left=1, first_left=2.0, shortest=closer)
    found = judge(replace(same, integrity=broken))
    assert [finding.observable for finding in found.failures] == [
        Observable.COMPLETION,
        Observable.WHOLE_MOLECULES,
        Observable.SHORTEST_DISTANCE,
    ]
    assert found.agrees is False
    assert judge(replace(same, integrity=None)).finding(Observable.COMPLETION) is None


def test_alarms_of_the_monitor_are_told_and_change_no_verdict(same):
    def judged(alarms, checks):
        return judge(replace(same, integrity=replace(same.integrity, alarms=alarms, checks=checks)))

    def told(alarms, checks):
        return [text for text in verdict(judged(alarms, checks)) if "monitor" in text]

    assert told(0, 0) == told(0, 20) == []
    assert told(1, 20) == ["The monitor raised 1 alarm in 20 checks."]
    assert told(12, 20) == ["The monitor raised 12 alarms in 20 checks; the model does not know what the run shows."]
    assert judged(12, 20).agrees is judge(same).agrees
    assert comparison_to_dict(judged(12, 20))["integrity"]["alarms"] == 12


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"limits": {"monitor": {"interval": 50}}, "steps_done": 1000}, 21),
        ({"limits": {"monitor": None}, "steps_done": 1000}, 0),
        ({"limits": {"monitor": {"interval": 0}}}, 0),
        ({"limits": "none"}, 0),
        ({}, 0),
    ],
)
def test_checks_of_a_monitor_are_counted_by_the_record_of_a_run(settings, expected):
    assert count_checks(settings) == expected


def test_errors_of_forces_are_reported_beside_those_of_held_out_frames(same):
    rmse, mae, rms = ({"all": np.full(2, value)} for value in (17.0, 12.0, 800.0))
    errors = ForceErrors(np.arange(2.0), rmse, mae, rms, (), "nnp", "m")
    model = {"errors": {"test": {"force_rmse": {"all": 15.0}}}}
    run = replace(same.run, settings={**same.run.settings, "model": model})
    found = judge(replace(same, force_errors=errors, run=run)).finding(Observable.FORCE_ERROR, "all")
    assert (found.outcome, found.run.mean, found.reference.mean) == (Outcome.REPORTED, 17.0, 15.0)
    assert judge(replace(same, force_errors=errors)).finding(Observable.FORCE_ERROR, "all").reference is None
    for value, failed in ((79.0, False), (90.0, True)):  # a tenth of the RMS force
        large = judge(replace(same, force_errors=replace(errors, rmse={"all": np.full(2, value)}), run=run))
        assert large.finding(Observable.FORCE_ERROR, "all").failed is failed
        assert (large.agrees is False) is failed


@pytest.mark.parametrize(
    ("observable", "reason", "agrees", "conclusion"),
    [
        (Observable.BOND_LENGTH, Reason.TOO_SHORT, None, Conclusion.TOO_SHORT),
        (Observable.ANGLE, None, None, Conclusion.TOO_SHORT),
        (Observable.ANGLE, Reason.NOT_STATIONARY, None, Conclusion.NOT_STATIONARY),
        (Observable.TETRAHEDRAL_ORDER, Reason.TOO_RARE, True, Conclusion.NO_DIFFERENCE),
        (Observable.TETRAHEDRAL_ORDER, Reason.NOT_STATIONARY, None, Conclusion.NOT_STATIONARY),
        (Observable.HYDROGEN_BONDS, Reason.TOO_SHORT, True, Conclusion.NO_DIFFERENCE),
    ],
)
def test_what_is_untested_leaves_the_answer_open_where_it_matters(same, observable, reason, agrees, conclusion):
    subject = dict(MEANS)[observable]
    found = changed(same, observable, subject, MeanDifference(0.1, None, None, reason))
    assert [finding.observable for finding in found.untested] == [observable]
    assert found.untested[0].reason is reason
    assert found.agrees is agrees
    assert found.conclusion is conclusion
    assert found.changes == (conclusion is Conclusion.NOT_STATIONARY)
    assert ("1 of" in headline(found)) == (conclusion is Conclusion.NO_DIFFERENCE)


def test_without_a_tested_g_of_r_or_enough_time_nothing_agrees_in_part(same):
    found = same
    for pair in same.rdf:
        found = changed(found, Observable.RDF, pair, same.rdf[pair].difference.untested(Reason.TOO_SHORT))
    assert found.conclusion is Conclusion.TOO_SHORT
    window = replace(same.run_window, enough=False)
    assert judge(replace(same, run_window=window)).conclusion is Conclusion.TOO_SHORT


def test_a_failure_is_a_failure_whatever_is_untested(same):
    found = changed(same, Observable.BOND_LENGTH, "H-O", MeanDifference(1e-3, 1e-4, SURE))
    found = changed(found, Observable.ANGLE, "H-O-H", MeanDifference(0.0, None, None, Reason.NOT_STATIONARY))
    assert found.agrees is False
    assert found.conclusion is Conclusion.DIFFERS
    assert len(found.failures) == len(found.untested) == 1
    assert verdict(found)[0].startswith("The mean H–O length differs: ")
    assert verdict(found)[-1].startswith("The run is not stationary")
