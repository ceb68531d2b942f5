"""Harmonics against the addition theorem, and their gradients against differences."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import eval_legendre

from openmm_duality.invariants.harmonics import HIGHEST_RANK, contracted_gradient, solid_harmonics
from openmm_duality.invariants.moments import harmonics

RANKS = range(HIGHEST_RANK + 1)


def directions(n, seed):
    u = np.random.default_rng(seed).normal(size=(n, 3))
    return u / np.linalg.norm(u, axis=1)[:, None]


@pytest.mark.parametrize("rank", RANKS)
def test_addition_theorem(rank):
    u, v = directions(40, 0), directions(30, 1)
    product = harmonics(rank, u)[0] @ harmonics(rank, v)[0].T
    np.testing.assert_allclose(product, eval_legendre(rank, np.clip(u @ v.T, -1, 1)), atol=1e-13)


@pytest.mark.parametrize("rank", RANKS)
def test_gradient_is_that_of_the_homogeneous_polynomial(rank):
    u, step = directions(20, 2), 1e-6
    _, gradient = harmonics(rank, u)
    for x in range(3):
        shift = step * np.eye(3)[x]
        numerical = (harmonics(rank, u + shift)[0] - harmonics(rank, u - shift)[0]) / (2 * step)
        np.testing.assert_allclose(gradient[..., x], numerical, atol=1e-8)
    # Euler: u · ∇Y = l Y
    np.testing.assert_allclose((gradient * u[:, None]).sum(-1), rank * harmonics(rank, u)[0], atol=1e-13)


@pytest.mark.parametrize("rank", RANKS)
def test_plain_numbers_go_through_the_definition_too(rank):
    u, w = directions(1, 3)[0], np.random.default_rng(4).normal(size=2 * rank + 1)
    y, dy = harmonics(rank, u)
    np.testing.assert_allclose(solid_harmonics(rank, *u.tolist()), y, atol=1e-15)
    if rank:
        np.testing.assert_allclose(contracted_gradient(rank, w.tolist(), *u.tolist()), w @ dy, atol=1e-14)


def test_a_rank_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="rank 4"):
        harmonics(4, directions(1, 0))
