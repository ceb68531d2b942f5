"""Channels: tensors, invariants and adjoints by homogeneity, rotations and central differences."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import special_ortho_group

from openmm_duality.invariants.channels import Channels
from tests.invariants.test_couplings import rotation_of_tensors
from tests.systems import random_channels

RANKS, WIDTH, N = (0, 1, 2, 3), 6, 5


@pytest.fixture(scope="module")
def channels():
    return random_channels(RANKS, WIDTH, np.random.default_rng(0))


@pytest.fixture(scope="module")
def moments():
    rng = np.random.default_rng(1)
    return {rank: rng.normal(size=(N, WIDTH, 2 * rank + 1)) for rank in RANKS}


def values(channels, moments):
    """Invariants of all agents one by one, from the definition."""
    tensors = channels.tensors(channels.channels(moments))
    found = []
    for p, q in channels.invariants:
        rank = channels.ranks[p]
        one, other = (tensors[rank][:, channels.places[t]] for t in (p, q))
        found.append((one * other).sum(axis=1))
    return np.array(found).T


def test_every_order_is_there_and_an_invariant_scales_with_its_order(channels, moments):
    assert set(channels.orders) == {2, 3, 4}
    centred = Channels(channels.mixing, 0.0 * channels.means, channels.products, channels.invariants)
    doubled = values(centred, {rank: 2.0 * m for rank, m in moments.items()})
    np.testing.assert_allclose(doubled, 2.0**centred.orders * values(centred, moments), rtol=1e-12)


def test_invariants_do_not_change_under_rotations_and_reflections(channels, moments):
    for sign in (1.0, -1.0):
        rotation = sign * special_ortho_group.rvs(3, random_state=3)
        turned = {rank: m @ rotation_of_tensors(rank, rotation).T for rank, m in moments.items()}
        np.testing.assert_allclose(values(channels, turned), values(channels, moments), atol=1e-10)


def test_matrices_make_the_sum_of_weighted_invariants(channels, moments):
    weights = np.random.default_rng(2).normal(size=len(channels.invariants))
    tensors, found = channels.tensors(channels.channels(moments)), np.zeros(N)
    for rank, w in channels.matrices(weights).items():
        np.testing.assert_array_equal(w, w.T)
        found += 0.5 * np.einsum("ipm,pq,iqm->i", tensors[rank], w, tensors[rank])
    np.testing.assert_allclose(found, values(channels, moments) @ weights, rtol=1e-12)


def test_adjoints_are_the_derivatives_by_the_moments(channels, moments):
    weights, h = np.random.default_rng(3).normal(size=len(channels.invariants)), 1e-6
    mixed = channels.channels(moments)
    slopes = {rank: channels.matrices(weights)[rank] @ t for rank, t in channels.tensors(mixed).items()}
    adjoints = channels.adjoints(mixed, slopes)
    scale = max(np.abs(g).max() for g in adjoints.values())
    for rank in RANKS:
        for a in range(WIDTH):
            for m in range(2 * rank + 1):
                ends = []
                for sign in (1, -1):
                    moved = {key: value.copy() for key, value in moments.items()}
                    moved[rank][:, a, m] += sign * h
                    ends.append(values(channels, moved) @ weights)
                np.testing.assert_allclose(adjoints[rank][:, a, m], (ends[0] - ends[1]) / (2 * h), atol=1e-7 * scale)


def test_no_agents_have_no_tensors(channels, moments):
    nobody = channels.channels({rank: m[:0] for rank, m in moments.items()})
    tensors = channels.tensors(nobody)
    assert all(len(t) == 0 for t in tensors.values())
    assert all(len(g) == 0 for g in channels.adjoints(nobody, tensors).values())


def test_channels_are_read_back_and_those_that_are_none_are_refused(channels):
    arrays = channels.to_arrays("x/")
    again = Channels.from_arrays(arrays, "x/", RANKS, WIDTH)
    for name, array in again.to_arrays("x/").items():
        np.testing.assert_array_equal(array, arrays[name])
    product = next(k for k, x in enumerate(channels.products) if x[2] > 0)
    wrong = {
        "x/mixing_1": arrays["x/mixing_1"][:, 1:],
        "x/means": arrays["x/means"][1:],
        "x/products": np.where(np.arange(len(channels.products))[:, None] == product, [[99, 99, 0]], channels.products),
        "x/invariants": channels.invariants - channels.invariants.max() // 2,
    }
    for name, array in wrong.items():
        with pytest.raises(ValueError, match="channels"):
            Channels.from_arrays({**arrays, name: np.asarray(array, dtype=np.float64)}, "x/", RANKS, WIDTH)
    parity = channels.products.copy()
    parity[product, 2] += 1
    with pytest.raises(ValueError, match="channels"):
        Channels.from_arrays({**arrays, "x/products": parity.astype(np.float64)}, "x/", RANKS, WIDTH)
    with pytest.raises(KeyError):
        Channels.from_arrays({k: v for k, v in arrays.items() if k != "x/mixing_2"}, "x/", RANKS, WIDTH)


@pytest.mark.parametrize("order", [2, 3, 4])
def test_some_of_the_invariants_have_their_values_and_no_other_products(channels, moments, order):
    kept = (channels.orders <= order) & (channels.highest_ranks <= 2)
    some = channels.only(kept)
    every, found = (one.values(one.tensors(one.channels(moments))) for one in (channels, some))
    np.testing.assert_allclose(found, every[:, kept], rtol=1e-12, atol=1e-12)
    assert 0 < len(some.invariants) < len(channels.invariants)
    assert set(some.invariants.ravel()) >= set(range(some.n_channels, some.n_channels + len(some.products)))
    assert some.highest_ranks.max() == 2
    assert bool(len(some.products)) is (order > 2)
