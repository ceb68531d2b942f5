"""Error bars and tests against sources whose errors are known."""

import numpy as np
import pytest
from scipy.signal import lfilter

from openmm_duality.errors import DualityError
from openmm_duality.observables import statistics


def autoregressive(rng: np.random.Generator, shape: tuple[int, int], keep: float) -> np.ndarray:
    """AR(1) along the first axis with unit variance."""
    out = np.empty(shape)
    out[0] = rng.normal(size=shape[1])
    noise = rng.normal(size=shape) * np.sqrt(1 - keep**2)
    for t in range(1, shape[0]):
        out[t] = keep * out[t - 1] + noise[t]
    return out


def test_block_errors_of_correlated_data_are_the_exact_ones():
    keep, length = 0.9, 4000
    series = autoregressive(np.random.default_rng(1), (length, 200), keep)
    estimates = [statistics.estimate(statistics.block_means(column, 20)) for column in series.T]
    exact = np.sqrt((1 + keep) / (1 - keep) / length)
    assert np.mean([e.error for e in estimates]) == pytest.approx(exact, rel=0.06)
    covered = np.mean([abs(e.mean) < e.interval for e in estimates])
    assert 0.90 < covered < 0.99


def test_the_correlation_of_a_series_is_the_exact_one():
    keep = 0.9
    series = autoregressive(np.random.default_rng(5), (200_000, 1), keep)[:, 0]
    assert statistics.correlation_steps(series) == pytest.approx((1 + keep) / (1 - keep), rel=0.1)
    assert statistics.correlation_steps(np.random.default_rng(6).normal(size=50_000)) == pytest.approx(1.0, abs=0.1)
    assert statistics.correlation_steps(np.ones(10)) == 1.0


def test_a_series_of_few_blocks_rejects_its_own_mean_no_more_often_than_it_says():
    """Six blocks of 150 values with a correlation time of ten: the temperature of a run of 10 ps."""
    rng = np.random.default_rng(7)
    runs = autoregressive(rng, (900, 400), 0.9)
    rejected = [statistics.series_estimate(run, 6).p_value(0.0) < 0.01 for run in runs.T]
    assert np.mean(rejected) < 0.01


def test_a_variance_rejects_its_own_value_no_more_often_than_it_says():
    """On both sides: what came out small by chance is known no better for it."""
    runs = autoregressive(np.random.default_rng(10), (900, 600), 0.9)
    found = [statistics.variance_estimate(run, 6, 1.0) for run in runs.T]
    p_values = np.array([one.p_value(1.0) for one in found])
    small = np.array([one.mean < 1.0 for one in found])
    for side in (small, ~small):
        assert np.mean(side & (p_values < 0.02)) < 0.02
    assert np.mean([one.error for one in found]) < 1.6 * np.std([one.mean for one in found])


def test_a_variance_of_few_slow_oscillations_is_not_taken_for_well_known():
    """A weak heat bath: nearly half of the variance is in oscillations of 3 ps, of which 20 ps hold few."""
    rng = np.random.default_rng(11)
    drives = rng.normal(size=(1200, 500))
    turn = np.exp(-0.05 / 1.5 + 2j * np.pi * 0.05 / 3.0)  # after 0.05 ps
    slow = lfilter([1.0], [1.0, -2 * turn.real, abs(turn) ** 2], drives, axis=0)[800:]
    runs = 0.9 * slow / slow.std() + autoregressive(rng, (400, 500), 0.3)
    variance = 0.81 + 1.0
    found = [statistics.variance_estimate(run, 13, variance) for run in runs.T]
    p_values = np.array([one.p_value(variance) for one in found])
    assert np.mean(p_values < 0.01) <= 0.02
    assert np.mean(p_values < 0.2) > 0.05
    assert max(one.freedom for one in found) <= 12.0


def test_a_slope_is_covered_by_its_interval():
    rng, times = np.random.default_rng(2), np.linspace(0, 10, 300)
    covered = []
    for _ in range(300):
        found = statistics.slope(times, 0.3 * times + rng.normal(size=300), 6)
        covered.append(abs(found.mean - 0.3) < found.interval)
    assert 0.91 < np.mean(covered) < 0.985


def test_the_rate_of_a_random_walk_is_covered_by_its_interval():
    rng, times = np.random.default_rng(3), np.linspace(0, 10, 301)
    covered = []
    for _ in range(300):
        walk = np.append(0.0, np.cumsum(rng.normal(size=300)))
        found = statistics.mean_rate(times, 0.3 * times + walk, 6)
        covered.append(abs(found.mean - 0.3) < found.interval)
    assert 0.91 < np.mean(covered) < 0.985
    assert np.isnan(statistics.mean_rate(times[:1], times[:1], 6).mean)


def test_blocks_are_contiguous_and_even():
    block = statistics.block_of(103, 5)
    assert (np.diff(block) >= 0).all()
    assert np.ptp(np.bincount(block)) <= 1
    with pytest.raises(DualityError, match="blocks"):
        statistics.block_means(np.zeros(3), 4)


def test_leaving_out_one_at_a_time_gives_the_standard_error_of_a_mean():
    values = np.random.default_rng(8).normal(size=(12, 1))
    found, expected = statistics.jackknife(values, lambda m: float(m[0])), statistics.estimate(values[:, 0])
    assert (found.mean, found.error) == pytest.approx((expected.mean, expected.error))
