"""Correlation times, and whether the tests that rest on them reject equal sources as often as they say."""

import numpy as np
import pytest

from openmm_duality.observables import statistics
from openmm_duality.observables.correlation_times import (
    UNCORRELATED,
    VIBRATIONAL,
    CorrelationTime,
    correlation_time,
    slower,
)
from openmm_duality.observables.curves import Curve
from openmm_duality.observables.findings import Observable
from openmm_duality.observables.paired_blocks import PairedBlocks, Series
from openmm_duality.observables.statistics import Reason
from openmm_duality.observables.structure import BlockedHistograms, Structure
from openmm_duality.observables.structure_comparison import Sample, StructureComparison
from tests.observables.test_statistics import autoregressive

SPACING = 0.1  # ps


def mixed(rng: np.random.Generator, steps: int, time: float, white: float, bins: int = 1) -> np.ndarray:
    """Series with a correlation time in ps, with white noise of a multiple of their variance, shape (T, bins)."""
    slow = autoregressive(rng, (steps, bins), np.exp(-SPACING / time))
    return slow + np.sqrt(white) * rng.normal(size=slow.shape)


@pytest.mark.parametrize(("time", "white"), [(0.3, 0.0), (1.0, 0.0), (1.0, 5.0), (3.0, 1.0)])
def test_time_and_share_are_the_exact_ones(time, white):
    found = correlation_time(mixed(np.random.default_rng(1), 20_000, time, white, 10), SPACING)
    keep = np.exp(-SPACING / time)
    correlated = 2 * keep / (1 - keep)  # 2 Σ ρ of the slow part
    assert found.time == pytest.approx(time, rel=0.15)
    assert found.share == pytest.approx(correlated / (1 + white + correlated), rel=0.1)


def test_white_noise_is_uncorrelated():
    found = correlation_time(np.random.default_rng(2).normal(size=(5000, 20)), SPACING)
    assert found.time * found.share < 0.1 * SPACING
    for short in (np.ones((50, 3)), np.ones(3), np.zeros((1, 4))):
        assert correlation_time(short, SPACING) == UNCORRELATED
    assert slower(found, CorrelationTime(1.0, 0.5)) == CorrelationTime(1.0, 0.5)


def test_no_correlation_time_is_negative():
    rng = np.random.default_rng(7)
    found = [correlation_time(rng.normal(size=200), SPACING) for _ in range(300)]
    assert min(one.time for one in found) >= 0.0
    assert all(0.0 <= one.share <= 1.0 for one in found)


@pytest.mark.parametrize("n_blocks", [5, 10])
@pytest.mark.parametrize("white", [0.0, 3.0])
def test_widened_blocks_have_the_exact_error(n_blocks, white):
    """Twenty correlation times long: blocks of four and of two of them."""
    series = mixed(np.random.default_rng(3), 200, 1.0, white, 4000)
    keep = np.exp(-SPACING)
    share = 2 * keep / (1 - keep) / (1 + white + 2 * keep / (1 - keep))
    widening = CorrelationTime(1.0, share).widening(20.0, n_blocks)
    blocks = statistics.block_means(series, n_blocks)
    errors = np.var(blocks, axis=0, ddof=1) / n_blocks * widening**2
    assert np.mean(errors) == pytest.approx(np.var(series.mean(axis=0)), rel=0.08)
    assert np.mean(errors) > 1.1 * np.mean(errors) / widening**2
    assert UNCORRELATED.widening(20.0, n_blocks) == 1.0


def test_blocks_are_as_many_as_the_correlation_time_allows():
    assert UNCORRELATED.blocks_in(1000, 100.0) == statistics.MOST_BLOCKS
    assert CorrelationTime(1.0, 0.9).blocks_in(1000, 60.0) == 10
    assert CorrelationTime(2.0, 0.9).blocks_in(1000, 30.0) == statistics.FEWEST_BLOCKS
    assert UNCORRELATED.blocks_in(3, 100.0) == 3
    assert CorrelationTime(1.9, 0.9).allows_test(1000, 20.0)
    assert not CorrelationTime(2.1, 0.9).allows_test(1000, 20.0)
    assert not UNCORRELATED.allows_test(1000, 7.0)
    assert not UNCORRELATED.allows_test(4, 100.0)


def histograms_of(curve: np.ndarray) -> BlockedHistograms:
    """Histograms of one curve that was measured in short blocks, shape (T, K)."""

    def joined(n_blocks: int) -> Structure:
        blocks = statistics.block_means(curve, n_blocks)
        rdf = {"A-A": Curve(np.arange(curve.shape[1]) + 0.5, blocks)}
        others = ("rdf_whole", "coordination", "shortest", "bond_length", "angle", "tetrahedral_order")
        nothing = {name: {} for name in others}
        return Structure(rdf=rdf, **nothing, neighbour_angle={}, hydrogen_bonds=blocks[:, 0])

    return BlockedHistograms(len(curve), len(curve), joined)


@pytest.mark.parametrize(("run_ps", "time", "white"), [(60.0, 0.5, 3.0), (60.0, 1.3, 0.3), (20.0, 0.7, 10.0)])
def test_equal_sources_are_rejected_about_as_often_as_the_tests_say(run_ps, time, white):
    """A run against 20 ps of reference: a curve of neighbouring bins that move together, and its first bin alone."""
    rng = np.random.default_rng(4)
    shape = np.exp(-0.5 * np.subtract.outer(np.arange(12), np.linspace(0, 12, 25)) ** 2)
    p_curve, p_number, changes = [], [], 0
    for _ in range(150):
        samples = [
            Sample(histograms_of(mixed(rng, round(ps / SPACING), time, white, 12) @ shape), ps, 30)
            for ps in (run_ps, 20.0)
        ]
        compared = StructureComparison(*samples)
        curve = compared.curves(Observable.RDF)["A-A"].difference
        number = compared.hydrogen_bonds().difference
        p_curve.append(curve.p_value)
        p_number.append(number.p_value)
        changes += Reason.NOT_STATIONARY in (curve.reason, number.reason)
    assert changes <= 3
    for found in (p_curve, p_number):
        tested = np.array([p for p in found if p is not None])
        assert len(tested) > 90
        assert np.mean(tested < 0.05) < 0.10
        assert np.mean(tested < 0.01) < 0.035
        assert np.mean(tested < 0.5) > 0.3


def test_a_difference_is_found():
    rng = np.random.default_rng(5)
    first, second = (mixed(rng, steps, 0.5, 3.0, 12) for steps in (600, 200))
    second[:, 7] += 3.0
    found = StructureComparison(Sample(histograms_of(first), 60.0, 30), Sample(histograms_of(second), 20.0, 30)).curves(
        Observable.RDF
    )["A-A"]
    assert found.difference.p_value < 0.01
    assert found.difference.at == 7


def test_a_difference_is_found_in_a_run_that_is_not_stationary_too():
    """Where the noise of a run is not chance, a difference beyond even that noise stands, and agreement does not."""
    rng = np.random.default_rng(8)
    changing, reference = (mixed(rng, 200, 0.5, 3.0, 12) for _ in range(2))
    changing += 40.0 * (np.arange(200) >= 140)[:, None]
    for shift, reason, tested in ((-12.0, Reason.NOT_STATIONARY, False), (300.0, None, True)):
        samples = (Sample(histograms_of(series), 20.0, 30) for series in (changing + shift, reference))
        compared = StructureComparison(*samples)
        for found in (compared.curves(Observable.RDF)["A-A"].difference, compared.hydrogen_bonds().difference):
            assert found.reason is reason
            assert (found.p_value is not None) == tested


def test_a_larger_system_lends_its_noise_by_the_number_of_its_atoms():
    """Eight times as many atoms scatter by 1/8 of the variance, which is one noise to the test, and else is none."""
    rng = np.random.default_rng(6)
    small, large = rng.normal(size=(400, 12)), rng.normal(size=(400, 12)) / np.sqrt(8)
    for atoms, reason in ((240, None), (30, Reason.NOT_STATIONARY)):
        samples = Sample(histograms_of(small), 40.0, 30), Sample(histograms_of(large), 40.0, atoms)
        assert StructureComparison(*samples).curves(Observable.RDF)["A-A"].difference.reason is reason


def test_equal_sources_slower_than_they_can_show_are_rejected_as_often_as_they_say():
    """Windows of 20 ps of bond lengths: mostly fast noise, and the energy of vibrations over 4 ps."""
    values = mixed(np.random.default_rng(12), 200, 4.0, 5.0, 300)
    series = [Series(lambda n, of=of: statistics.block_means(of, n), len(of), 20.0, 192) for of in values.T]
    rejected = {}
    for name, known in (("known", VIBRATIONAL), ("as seen", UNCORRELATED)):
        tests = [
            PairedBlocks.of(a, b, 1.5, known=known).means().p_value
            for a, b in zip(series[::2], series[1::2], strict=True)
        ]
        rejected[name] = np.mean([p < 0.05 for p in tests if p is not None])
    assert rejected["known"] < 0.08
    assert rejected["as seen"] > 0.1
