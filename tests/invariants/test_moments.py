"""Moments as sums over neighbours, and their derivatives compared with central differences."""

from __future__ import annotations

import numpy as np
import pytest

from openmm_duality.invariants.harmonics import HIGHEST_RANK
from openmm_duality.invariants.moments import derivative_factors, harmonics, moments

RANKS = range(HIGHEST_RANK + 1)


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
