"""Limits extrapolated from exponential tails."""

from __future__ import annotations

import numpy as np
import pytest

from openmm_duality.inference.uncertainty.domain import frames_of_agents, tail_limit


@pytest.mark.parametrize("rate", [1e-2, 1e-3])
def test_the_limit_is_exceeded_at_the_given_rate_for_exponential_tails(rate):
    rng = np.random.default_rng(0)
    passed = []
    for _ in range(60):
        found, _ = tail_limit(3.0 + 2.0 * rng.exponential(size=3000), np.arange(3000), share=rate)
        passed.append(np.exp(-(found - 3.0) / 2.0))  # the fraction of all such values above the limit
    assert 0.01 * rate < np.median(passed) < 1.1 * rate
    assert max(passed) < 3.0 * rate


def test_tails_that_decay_faster_exceed_it_less_often():
    rng = np.random.default_rng(1)
    normal = rng.normal(size=(200, 400))
    limits = np.array([tail_limit(sample, np.arange(400), share=1e-3)[0] for sample in normal])
    assert np.median((rng.normal(size=400_000) > np.median(limits)).mean()) < 1e-3


def test_agents_of_a_frame_are_one_event():
    """With ten equal agents in every frame the tail is as uncertain as with one, and the limit as seldom passed."""
    rng = np.random.default_rng(3)
    by_frame = [np.full(10, value) for value in rng.exponential(size=600)]
    values, frames = np.concatenate(by_frame), frames_of_agents(by_frame)
    found, tail = tail_limit(values, frames)
    alone, tail_alone = tail_limit(values, np.arange(len(values)))
    assert (found, tail) > (alone, tail_alone)
    confidence = (1.0 + 2.0 / 3.0**0.5) / (1.0 + 2.0 / 30.0**0.5)  # the 30 outermost agents are those of three frames
    assert tail == pytest.approx(confidence * tail_alone)


def test_the_limit_moves_and_grows_with_the_values_and_their_rate():
    values, frames = np.random.default_rng(2).exponential(size=300), np.arange(300)
    found, tail = tail_limit(values, frames, share=1e-4)
    assert found > values.max()
    moved = tail_limit(5.0 * values - 2.0, frames, share=1e-4)
    assert moved == (pytest.approx(5.0 * found - 2.0), pytest.approx(5.0 * tail))
    for share in (1e-2, 1e-5):
        assert tail_limit(values, frames, share=share)[0] == pytest.approx(found + tail * np.log(1e-4 / share))
    assert tail_limit(np.full(7, 3.5), np.arange(7)) == pytest.approx((3.5, 0.0))
