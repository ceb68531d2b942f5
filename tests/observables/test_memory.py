"""How long things remember themselves, and whether the tests made of that reject equal sources as often as they say."""

import numpy as np
import pytest

from openmm_duality.observables import statistics
from openmm_duality.observables.curves import Curve
from openmm_duality.observables.held import Held, Sample
from openmm_duality.observables.memory import NOTHING_KEPT, Memory, memory, slower
from openmm_duality.observables.structure import Structure, Tally
from tests.observables.test_statistics import autoregressive

SPACING = 0.1  # ps


def mixed(rng: np.random.Generator, steps: int, time: float, white: float, bins: int = 1) -> np.ndarray:
    """Series that forget over `time` ps, with white noise of so many times their variance, shape (T, bins)."""
    slow = autoregressive(rng, (steps, bins), np.exp(-SPACING / time))
    return slow + np.sqrt(white) * rng.normal(size=slow.shape)


@pytest.mark.parametrize(("time", "white"), [(0.3, 0.0), (1.0, 0.0), (1.0, 5.0), (3.0, 1.0)])
def test_time_and_share_are_those_of_the_exact_law(time, white):
    found = memory(mixed(np.random.default_rng(1), 20_000, time, white, 10), SPACING)
    keep = np.exp(-SPACING / time)
    correlated = 2 * keep / (1 - keep)  # 2 Σ ρ of the slow part
    assert found.time == pytest.approx(time, rel=0.15)
    assert found.share == pytest.approx(correlated / (1 + white + correlated), rel=0.1)


def test_what_forgets_at_once_has_no_memory_to_speak_of():
    found = memory(np.random.default_rng(2).normal(size=(5000, 20)), SPACING)
    assert found.time * found.share < 0.1 * SPACING
    for short in (np.ones((50, 3)), np.ones(3), np.zeros((1, 4))):
        assert memory(short, SPACING) == NOTHING_KEPT
    assert slower(found, Memory(1.0, 0.5)) == Memory(1.0, 0.5)


def test_no_memory_is_negative():
    rng = np.random.default_rng(7)
    found = [memory(rng.normal(size=200), SPACING) for _ in range(300)]
    assert min(kept.time for kept in found) >= 0.0
    assert all(0.0 <= kept.share <= 1.0 for kept in found)


@pytest.mark.parametrize("n_blocks", [5, 10])
@pytest.mark.parametrize("white", [0.0, 3.0])
def test_widened_blocks_have_the_error_of_the_exact_law(n_blocks, white):
    """Twenty memories long: blocks of four and of two of them."""
    series = mixed(np.random.default_rng(3), 200, 1.0, white, 4000)
    keep = np.exp(-SPACING)
    share = 2 * keep / (1 - keep) / (1 + white + 2 * keep / (1 - keep))
    widening = Memory(1.0, share).widening(20.0, n_blocks)
    blocks = statistics.block_means(series, n_blocks)
    errors = np.var(blocks, axis=0, ddof=1) / n_blocks * widening**2
    assert np.mean(errors) == pytest.approx(np.var(series.mean(axis=0)), rel=0.08)
    assert np.mean(errors) > 1.1 * np.mean(errors) / widening**2
    assert NOTHING_KEPT.widening(20.0, n_blocks) == 1.0


def test_blocks_are_as_many_as_memory_allows():
    assert NOTHING_KEPT.blocks_in(1000, 100.0) == statistics.MOST_BLOCKS
    assert Memory(1.0, 0.9).blocks_in(1000, 60.0) == 10
    assert Memory(2.0, 0.9).blocks_in(1000, 30.0) == statistics.FEWEST_BLOCKS
    assert NOTHING_KEPT.blocks_in(3, 100.0) == 3
    assert Memory(1.9, 0.9).allows(1000, 20.0)
    assert not Memory(2.1, 0.9).allows(1000, 20.0)
    assert not NOTHING_KEPT.allows(1000, 7.0)
    assert not NOTHING_KEPT.allows(4, 100.0)


def tally_of(curve: np.ndarray) -> Tally:
    """A tally of one curve that was measured in fine blocks, shape (T, K)."""

    def cut(n_blocks: int) -> Structure:
        blocks = statistics.block_means(curve, n_blocks)
        rdf = {"A-A": Curve(np.arange(curve.shape[1]) + 0.5, blocks)}
        nothing = {"rdf_whole": {}, "coordination": {}, "shortest": {}, "lengths": {}, "angles": {}, "order": {}}
        return Structure(rdf=rdf, **nothing, around={}, hydrogen_bonds=blocks[:, 0])

    return Tally(len(curve), len(curve), cut)


@pytest.mark.parametrize(("run_ps", "time", "white"), [(60.0, 0.5, 3.0), (60.0, 1.3, 0.3), (20.0, 0.7, 10.0)])
def test_equal_sources_are_rejected_about_as_often_as_the_tests_say(run_ps, time, white):
    """A run against 20 ps of reference: a curve of neighbouring bins that move together, and its first bin alone."""
    rng = np.random.default_rng(4)
    shape = np.exp(-0.5 * np.subtract.outer(np.arange(12), np.linspace(0, 12, 25)) ** 2)
    p_curve, p_number, changes = [], [], 0
    for _ in range(150):
        samples = [
            Sample(tally_of(mixed(rng, round(ps / SPACING), time, white, 12) @ shape), ps, 30) for ps in (run_ps, 20.0)
        ]
        held = Held(*samples)
        curve = held.curves("rdf", "{}")["A-A"].difference
        number = held.hydrogen_bonds().difference
        p_curve.append(curve.p_value)
        p_number.append(number.p_value)
        changes += "changes" in (curve.why, number.why)
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
    found = Held(Sample(tally_of(first), 60.0, 30), Sample(tally_of(second), 20.0, 30)).curves("rdf", "{}")["A-A"]
    assert found.difference.p_value < 0.01
    assert found.difference.at == 7


def test_a_difference_is_found_in_a_run_that_changes_too():
    """Where the noise of a run is not chance, a difference beyond even that noise stands, and agreement does not."""
    rng = np.random.default_rng(8)
    changing, reference = (mixed(rng, 200, 0.5, 3.0, 12) for _ in range(2))
    changing += 40.0 * (np.arange(200) >= 140)[:, None]
    for shift, why, tested in ((-12.0, "changes", False), (300.0, None, True)):
        samples = (Sample(tally_of(series), 20.0, 30) for series in (changing + shift, reference))
        held = Held(*samples)
        for found in (held.curves("rdf", "{}")["A-A"].difference, held.hydrogen_bonds().difference):
            assert found.why == why
            assert (found.p_value is not None) == tested


def test_a_larger_system_lends_its_noise_by_the_number_of_its_atoms():
    """Eight times as many atoms scatter by 1/8 of the variance, so neither of the two is widened for it."""
    rng = np.random.default_rng(6)
    small = rng.normal(size=(400, 12))
    large = rng.normal(size=(400, 12)) / np.sqrt(8)
    both = {}
    for atoms in (30, 240):
        held = Held(Sample(tally_of(large), 40.0, atoms), Sample(tally_of(small), 40.0, 30))
        both[atoms] = held.curves("rdf", "{}")["A-A"].difference.band_half_width
    assert both[240] < 0.9 * both[30]
