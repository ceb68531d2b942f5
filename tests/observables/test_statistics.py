"""Error bars and tests against sources whose errors are known."""

import numpy as np
import pytest
from scipy import stats

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


def test_a_slope_is_covered_by_its_interval():
    rng, times = np.random.default_rng(2), np.linspace(0, 10, 300)
    covered = []
    for _ in range(300):
        found = statistics.slope(times, 0.3 * times + rng.normal(size=300), 6)
        covered.append(abs(found.mean - 0.3) < found.interval)
    assert 0.91 < np.mean(covered) < 0.985


def test_blocks_are_contiguous_and_even():
    block = statistics.block_of(103, 5)
    assert (np.diff(block) >= 0).all()
    assert np.ptp(np.bincount(block)) <= 1
    with pytest.raises(DualityError, match="blocks"):
        statistics.block_means(np.zeros(3), 4)


@pytest.mark.parametrize("blocks", [(6, 6), (8, 13)])
def test_bootstrap_keeps_its_level_for_equal_sources(blocks):
    rng = np.random.default_rng(3)
    smooth = stats.norm.pdf(np.subtract.outer(np.arange(60), np.linspace(0, 60, 25)), scale=4)
    p_values = [
        statistics.compare_curves(
            *(rng.normal(size=(n, 25)) @ smooth.T for n in blocks), replicates=300, seed=seed
        ).p_value
        for seed in range(300)
    ]
    assert np.mean(np.array(p_values) < 0.05) < 0.08
    assert 0.35 < np.mean(np.array(p_values) < 0.5) < 0.65


def test_bootstrap_finds_a_difference_and_says_where():
    rng = np.random.default_rng(4)
    first, second = rng.normal(size=(2, 10, 50))
    second[:, 17] += 5
    found = statistics.compare_curves(first, second)
    assert found.p_value < 1e-3
    assert found.at == 17
    assert found.max_difference > found.band_half_width


def test_rejection_and_band_are_one_test():
    rng = np.random.default_rng(5)
    for _ in range(50):
        first, second = rng.normal(size=(2, 8, 12))
        found = statistics.compare_curves(first, second + 0.4, replicates=500)
        if abs(found.p_value - 0.05) > 0.005:
            assert (found.p_value < 0.05) == (found.max_difference > found.band_half_width)


def test_too_few_blocks_give_no_test():
    few = np.random.default_rng(6).normal(size=(4, 10))
    assert statistics.compare_curves(few, few).p_value is None
    assert statistics.compare_means(few[:, 0], few[:, 1]).p_value is None
    assert statistics.compare_curves(np.tile(few, (3, 1)), np.tile(few, (3, 1)), enough=False).p_value is None
    assert np.isnan(statistics.estimate(np.array([1.0])).error)


def test_leaving_out_one_at_a_time_gives_the_standard_error_of_a_mean():
    values = np.random.default_rng(8).normal(size=(12, 1))
    found, expected = statistics.jackknife(values, lambda m: float(m[0])), statistics.estimate(values[:, 0])
    assert (found.mean, found.error) == pytest.approx((expected.mean, expected.error))


def test_two_estimates_are_compared_as_their_blocks_are():
    rng = np.random.default_rng(9)
    first, second = rng.normal(size=7), rng.normal(0.5, 2, size=11)
    a = statistics.compare_estimates(statistics.estimate(first), statistics.estimate(second))
    b = statistics.compare_means(first, second)
    assert (a.difference, a.interval, a.p_value) == pytest.approx((b.difference, b.interval, b.p_value))
    few = statistics.estimate(first[:3])
    assert statistics.compare_estimates(few, few).p_value is None


def test_the_larger_noise_of_two_is_that_of_both():
    """Four times as long a run halves the error; what is larger than that stands, and lends itself to the other."""
    short, long = statistics.Estimate(1.0, 0.01, 5), statistics.Estimate(1.1, 0.02, 12)
    first, second = statistics.with_common_noise(short, long, (20.0, 80.0))
    assert (first.mean, first.error, first.n_blocks) == (1.0, pytest.approx(0.04), 12)
    assert second == long
    wide = statistics.Estimate(1.0, 0.1, 5)
    first, second = statistics.with_common_noise(wide, long, (20.0, 80.0))
    assert first == wide
    assert second.error == pytest.approx(0.05)
    unknown = statistics.Estimate(1.0, float("nan"), 1)
    assert statistics.with_common_noise(unknown, long, (20.0, 80.0)) == (unknown, long)


def test_a_noise_beyond_chance_is_told_from_equal_ones():
    rng = np.random.default_rng(9)
    noises = np.var(rng.normal(size=(4000, 2, 6)), axis=2, ddof=1)
    assert np.mean([statistics.noisier((a, b), (6, 6)) for a, b in noises]) < 0.003
    assert np.mean([statistics.noisier((1000 * a, b), (6, 6)) for a, b in noises]) > 0.95
    assert not any(statistics.noisier((a, 1000 * b), (6, 6)) for a, b in noises[:100])
    for first, second in ((1.0, 0.0), (0.0, 1.0), (np.nan, 1.0), (1.0, np.nan)):
        assert not statistics.noisier((first, second), (6, 6))
    assert not statistics.noisier((1e9, 1.0), (1, 6))
