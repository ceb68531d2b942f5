"""Tests of differences on data of known statistics: their level, their power, and many of them judged together."""

import numpy as np
import pytest
from scipy import stats

from openmm_duality.observables import differences, statistics

EVEN = (1.0, 1.0)
SMOOTH = stats.norm.pdf(np.subtract.outer(np.arange(60), np.linspace(0, 60, 25)), scale=4)


@pytest.mark.parametrize("blocks", [(6, 6), (8, 13)])
def test_curves_keep_their_level_for_equal_sources(blocks):
    """Of independent blocks as long as the sources have time."""
    rng = np.random.default_rng(3)
    p_values = np.array(
        [
            differences.compare_curves(
                *(rng.normal(size=(n, 25)) @ SMOOTH.T for n in blocks), blocks, draws=300, seed=seed
            ).p_value
            for seed in range(400)
        ]
    )
    assert np.mean(p_values < 0.01) < 0.025
    assert np.mean(p_values < 0.05) < 0.08
    assert 0.3 < np.mean(p_values < 0.5) < 0.65


def test_p_values_of_curves_have_no_floor():
    """So that they may be corrected for the number of tests, whatever the number of draws."""
    rng = np.random.default_rng(4)
    first, second = rng.normal(size=(2, 10, 50))
    second[:, 17] += 12
    found = differences.compare_curves(first, second, EVEN, draws=200)
    assert 0 < found.p_value < 1e-6
    assert found.at == 17
    assert found.max_difference > found.band_half_width


def test_a_curve_of_one_bin_is_tested_as_a_number_is():
    rng = np.random.default_rng(12)
    first, second = rng.normal(size=(2, 9, 1))
    curve = differences.compare_curves(first, second + 1.0, EVEN, draws=40_000)
    number = differences.compare_means(first[:, 0], second[:, 0] + 1.0, EVEN)
    assert curve.p_value == pytest.approx(number.p_value, rel=0.03)
    assert curve.band_half_width == pytest.approx(number.interval, rel=0.03)


def test_rejection_and_band_are_one_test():
    rng = np.random.default_rng(5)
    for _ in range(50):
        first, second = rng.normal(size=(2, 8, 12))
        found = differences.compare_curves(first, second + 0.4, EVEN, draws=500)
        assert (found.p_value < 0.05) == (found.max_difference > found.band_half_width)


def test_too_few_blocks_give_no_test():
    few = np.random.default_rng(6).normal(size=(4, 10))
    assert differences.compare_curves(few, few, EVEN).p_value is None
    assert differences.compare_means(few[:, 0], few[:, 1], EVEN).p_value is None
    assert differences.compare_curves(np.tile(few, (3, 1)), np.tile(few, (3, 1)), EVEN, enough=False).p_value is None


def test_what_shows_no_noise_is_tested_with_that_of_the_other():
    """A mean of one block a tenth as long scatters by ten times the variance of the mean of the whole."""
    rng = np.random.default_rng(13)
    p_values = [
        differences.compare_means(rng.normal(size=10), rng.normal(size=1), (10.0, 1.0)).p_value for _ in range(2000)
    ]
    assert np.mean(np.array(p_values) < 0.05) == pytest.approx(0.05, abs=0.015)
    assert np.mean(np.array(p_values) < 0.5) == pytest.approx(0.5, abs=0.04)


def test_the_noise_is_that_of_both():
    rng = np.random.default_rng(14)
    quiet, loud = rng.normal(size=8), 10 * rng.normal(size=12)
    sampling = 8.0, 12.0
    found = differences.compare_means(quiet, loud, sampling)
    pooled = stats.ttest_ind(quiet, loud).confidence_interval(0.95)  # Student's, of blocks of one length
    assert found.interval == pytest.approx((pooled.high - pooled.low) / 2)


def test_holm_names_what_survives_the_number_of_tests():
    """The example of any textbook: factors 4, 3, 2 and 1, never falling."""
    assert differences.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert differences.holm([0.5, 0.9]) == [1.0, 1.0]
    assert differences.holm([]) == []


def test_one_p_value_of_one_or_of_equal_tests_is_that_of_each():
    for p_value in (0.5, 0.01, 1e-9, 1e-20, 0.0):
        for count in (1, 7):
            assert differences.joint_p_value([p_value] * count) == pytest.approx(p_value, rel=1e-6, abs=1e-300)
    assert differences.joint_p_value([]) is None


def test_a_single_small_p_value_counts_by_the_number_of_tests_and_none_near_one_hides_it():
    assert differences.joint_p_value([1e-5, *[0.5] * 19]) == pytest.approx(20e-5, rel=0.02)
    assert differences.joint_p_value([1e-5, *[1.0] * 19]) == pytest.approx(20e-5, rel=0.02)


def test_many_small_differences_are_found_that_no_test_finds_alone():
    rng = np.random.default_rng(16)
    p_values = 2 * stats.norm.sf(np.abs(rng.normal(size=(2000, 24)) + 1.5))
    joint = np.array([differences.joint_p_value(row) for row in p_values])
    corrected = np.array([min(differences.holm(row)) for row in p_values])
    assert np.mean(joint < 0.01) > 1.3 * np.mean(corrected < 0.01)


@pytest.mark.parametrize("common", [0.0, 0.9])
def test_equal_sources_are_called_different_about_once_in_a_hundred_times_however_many_tests(common):
    rng = np.random.default_rng(15)
    shared, own = rng.normal(size=(4000, 1)), rng.normal(size=(4000, 24))
    p_values = 2 * stats.norm.sf(np.abs(np.sqrt(common) * shared + np.sqrt(1 - common) * own))
    joint = np.array([differences.joint_p_value(row) for row in p_values])
    assert np.mean(p_values.min(axis=1) < 0.01) > 0.03  # without a correction
    assert np.mean(joint < 0.01) < 0.017


def test_two_estimates_are_compared_by_welch_s_test():
    rng = np.random.default_rng(9)
    first, second = rng.normal(size=7), rng.normal(0.5, 2, size=11)
    a = differences.compare_estimates(statistics.estimate(first), statistics.estimate(second))
    b = stats.ttest_ind(first, second, equal_var=False)
    interval = b.confidence_interval(0.95)
    assert (a.interval, a.p_value) == pytest.approx(((interval.high - interval.low) / 2, b.pvalue))
    few = statistics.estimate(first[:3])
    assert differences.compare_estimates(few, few).p_value is None


def test_the_larger_noise_of_two_is_that_of_both():
    """Four times as long a run halves the error; what is larger than that stands, and lends itself to the other."""
    short, long = statistics.Estimate(1.0, 0.01, 5), statistics.Estimate(1.1, 0.02, 12)
    first, second = differences.with_common_noise(short, long, (20.0, 80.0))
    assert (first.mean, first.error, first.n_blocks) == (1.0, pytest.approx(0.04), 12)
    assert second == long
    wide = statistics.Estimate(1.0, 0.1, 5)
    first, second = differences.with_common_noise(wide, long, (20.0, 80.0))
    assert first == wide
    assert second.error == pytest.approx(0.05)
    unknown = statistics.Estimate(1.0, float("nan"), 1)
    assert differences.with_common_noise(unknown, long, (20.0, 80.0)) == (unknown, long)


def test_a_noise_beyond_chance_is_told_from_equal_ones():
    rng = np.random.default_rng(9)
    noises = np.var(rng.normal(size=(4000, 2, 6)), axis=2, ddof=1)
    assert np.mean([differences.noisier((a, b), (6, 6)) for a, b in noises]) < 0.003
    assert np.mean([differences.noisier((1000 * a, b), (6, 6)) for a, b in noises]) > 0.95
    assert not any(differences.noisier((a, 1000 * b), (6, 6)) for a, b in noises[:100])
    for first, second in ((1.0, 0.0), (0.0, 1.0), (np.nan, 1.0), (1.0, np.nan)):
        assert not differences.noisier((first, second), (6, 6))
    assert not differences.noisier((1e9, 1.0), (1, 6))
