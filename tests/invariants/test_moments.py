"""Harmonics compared with the addition theorem, and their gradients with central differences."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import eval_legendre

from openmm_duality.invariants.moments import HIGHEST_RANK, derivative_factors, harmonics, moments

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
def test_derivative_of_a_moment(rank):
    """∂(f Y_m)/∂q agrees with central differences, for f = exp(-r)."""
    q = np.random.default_rng(3).normal(size=(1, 6, 3))

    def value(q):
        r = np.linalg.norm(q, axis=-1)
        return np.exp(-r)[..., None] * harmonics(rank, q / r[..., None])[0]

    r = np.linalg.norm(q, axis=-1)
    u = q / r[..., None]
    f = np.exp(-r)[..., None]
    g, h = derivative_factors(rank, f, -f, r)
    y, dy = harmonics(rank, u)
    analytical = g[..., None] * y[..., None] * u[..., None, :] + h[..., None] * dy
    step = 1e-6
    for x in range(3):
        shift = step * np.eye(3)[x]
        np.testing.assert_allclose(analytical[..., x], (value(q + shift) - value(q - shift)) / (2 * step), atol=1e-8)


def test_moments_are_sums_over_neighbours():
    rng = np.random.default_rng(4)
    f, y = rng.normal(size=(5, 7, 3)), rng.normal(size=(5, 7, 2))
    np.testing.assert_allclose(moments(f, y), sum(f[:, s, :, None] * y[:, s, None, :] for s in range(7)))
    assert (moments(f[:, :0], y[:, :0]) == 0.0).all()


def test_an_unknown_rank_is_refused():
    with pytest.raises(ValueError, match="rank 4"):
        harmonics(4, directions(1, 0))
