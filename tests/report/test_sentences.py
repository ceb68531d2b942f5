"""Sentences: every outcome, note and reason has its words."""

import math

import pytest

from openmm_duality.observables.conditions import Origin
from openmm_duality.observables.differences import CurveDifference, MeanDifference
from openmm_duality.observables.findings import Conclusion, Finding, Measured, Note, Observable, Outcome, Remark
from openmm_duality.observables.statistics import Estimate, Reason
from openmm_duality.report import formatting, headlines, sentences
from openmm_duality.report.formatting import enough, plus_minus
from openmm_duality.report.notes import note_sentence

VALUES = (0.12345, 23, 31)  # of as many places as the longest note has


def test_every_observable_has_a_label_or_a_sentence():
    assert set(formatting.SHOWN) == set(Observable)
    assert set(sentences._SENTENCES) <= set(Observable)


@pytest.mark.parametrize("remark", Remark)
def test_every_note_is_a_sentence_that_names_its_subject(remark):
    sentence = note_sentence(Note(remark, "NAME", VALUES))
    assert sentence.endswith(".")
    assert "{" not in sentence
    assert "NAME" in sentence or remark is Remark.REPORTS_AND_FRAMES


def test_every_conclusion_and_reason_has_words():
    assert set(headlines._STANDINGS) == set(Conclusion)
    assert set(formatting.UNTESTED) == set(Reason)
    assert len(set(headlines._STANDINGS.values())) == len(Conclusion)
    assert set(formatting.ORIGINS) == set(Origin)


def test_names_are_printed_with_dashes_and_subscripts():
    assert formatting.label(Measured(Observable.BOND_LENGTH, "H-O", "spread")) == "H-O length, spread"
    assert formatting.printed(Measured(Observable.BOND_LENGTH, "H-O")) == "H–O length"
    assert formatting.printed(Measured(Observable.BAND_SHARE, (1500.0, 1800.0))) == "share of the band 1500–1800"
    found = Finding(Observable.DIFFUSION, "H2O", Outcome.REPORTED)
    assert (formatting.label(found), formatting.printed(found)) == ("diffusion of H2O", "diffusion of H₂O")


def test_a_missing_p_value_says_why():
    assert formatting.p_value(MeanDifference(0.1, 0.1, 0.0123)) == "0.012"
    assert formatting.p_value(MeanDifference(0.1, 0.1, 1e-7)) == "< 10⁻⁶"
    assert formatting.p_value(CurveDifference(0.1, 0, 0.1, None, None)) == "too short to test"
    assert formatting.p_value(MeanDifference(0.1, None, None, Reason.NOT_STATIONARY)) == "changes along the run"
    assert formatting.p_value(MeanDifference(0.1, None, None, Reason.TOO_RARE)) == "too rare to test"


def test_times_that_could_not_be_estimated_are_not_printed():
    """A correlation time of zero stands for one that is not known."""
    slow, unknown = (
        Finding(Observable.BOND_LENGTH, pair, Outcome.UNTESTED, reason=Reason.TOO_SHORT, correlation_time=time)
        for pair, time in (("H-O", 2.0), ("H-C", 0.0))
    )
    both, alone = sentences._too_short([slow, unknown]), sentences._too_short([unknown])
    assert "the H–O length (2 ps) and the H–C length: one of them must last" in both
    assert alone.endswith("slowly, the H–C length.")


def test_numbers_have_true_signs_and_no_error_where_there_is_none():
    assert formatting.number(-1.234) == "−1.23"
    assert formatting.number(float("nan")) == formatting.number(None) == formatting.NOTHING
    assert formatting.signed(-0.5, 1) == "−0.5"
    assert formatting.half_width(None, 2) == formatting.half_width(float("nan"), 2) == ""
    assert formatting.half_width(0.0, 4) == ""
    assert formatting.listed(["a", "b", "c"]) == "a, b and c"


def test_errors_that_are_too_small_for_the_digits_of_an_observable_are_not_printed_as_zero():
    assert plus_minus(Estimate(0.82446, 1e-3, 10), digits=3) == "0.824 ± 0.002"
    assert plus_minus(Estimate(0.82446, 1e-5, 10), digits=3) == "0.824460 ± 0.000023"
    assert plus_minus(Estimate(0.82446, 0.0, 10), digits=3) == "0.824"
    assert (enough(2, None), enough(2, 0.0), enough(2, math.nan), enough(2, 0.0014)) == (2, 2, 2, 4)
