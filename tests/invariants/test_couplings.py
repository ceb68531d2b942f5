"""Couplings of harmonics against the products of Legendre polynomials, and their behaviour under rotations."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
from scipy.special import eval_legendre
from scipy.stats import special_ortho_group

from openmm_duality.invariants.channels import coupled
from openmm_duality.invariants.couplings import can_couple, coupling
from openmm_duality.invariants.harmonics import HIGHEST_RANK
from openmm_duality.invariants.moments import harmonics

TRIPLES = [ranks for ranks in product(range(HIGHEST_RANK + 1), repeat=3) if can_couple(*ranks)]


def directions(n, seed=0):
    u = np.random.default_rng(seed).normal(size=(n, 3))
    return u / np.linalg.norm(u, axis=1)[:, None]


def rotation_of_tensors(rank, rotation):
    """Matrix D of a rotation R of harmonics, Y(R u) = D Y(u)."""
    u = directions(40)
    found = np.linalg.lstsq(harmonics(rank, u)[0], harmonics(rank, u @ rotation.T)[0], rcond=None)[0]
    return found.T


def test_ranks_couple_within_the_triangle_and_without_a_change_of_parity():
    for ranks in product(range(-1, HIGHEST_RANK + 2), repeat=3):
        inside = min(ranks) >= 0 and max(ranks) <= HIGHEST_RANK and 2 * max(ranks) <= sum(ranks)
        assert can_couple(*ranks) == (inside and sum(ranks) % 2 == 0)


@pytest.mark.parametrize("ranks", TRIPLES)
def test_couplings_are_normalised_and_the_same_in_any_order(ranks):
    c = coupling(*ranks)
    assert c.shape == tuple(2 * rank + 1 for rank in ranks)
    assert np.sum(c**2) == pytest.approx(1.0, abs=1e-13)
    for order in permutations(range(3)):
        np.testing.assert_allclose(coupling(*(ranks[k] for k in order)), c.transpose(order), atol=1e-13)


@pytest.mark.parametrize("ranks", TRIPLES)
def test_the_components_of_a_product_are_orthogonal(ranks):
    c = coupling(*ranks).reshape(-1, 2 * ranks[2] + 1)
    np.testing.assert_allclose(c.T @ c, np.eye(len(c.T)) / len(c.T), atol=1e-13)


@pytest.mark.parametrize("ranks", TRIPLES)
def test_the_product_of_tensors_of_one_direction_is_that_of_legendre_polynomials(ranks):
    """Y^l1 and Y^l2 of u couple to k Y^L of u, where k² is the 3j symbol squared, ½ ∫ P_l1 P_l2 P_L dx."""
    u = directions(20)
    x, weights = np.polynomial.legendre.leggauss(2 * HIGHEST_RANK)
    squared = 0.5 * np.sum(weights * np.prod([eval_legendre(rank, x) for rank in ranks], axis=0))
    one, other, expected = (harmonics(rank, u)[0] for rank in ranks)
    np.testing.assert_allclose(coupled(one, other, ranks), np.sqrt(squared) * expected, atol=1e-13)


@pytest.mark.parametrize("reflected", [False, True])
@pytest.mark.parametrize("ranks", TRIPLES)
def test_products_turn_with_their_tensors(ranks, reflected):
    rng = np.random.default_rng(1)
    rotation = special_ortho_group.rvs(3, random_state=2) * (-1.0 if reflected else 1.0)
    turned = [rotation_of_tensors(rank, rotation) for rank in ranks]
    x, y = (rng.normal(size=(10, 2 * rank + 1)) for rank in ranks[:2])
    before = coupled(x, y, ranks)
    after = coupled(x @ turned[0].T, y @ turned[1].T, ranks)
    np.testing.assert_allclose(after, before @ turned[2].T, atol=1e-12)
