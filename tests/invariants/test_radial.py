"""Radial functions compared with SciPy, their smoothness, and their constant values at short distances."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.interpolate import BSpline

from openmm_duality.invariants import Grid, RadialBasis
from openmm_duality.invariants.radial import b_splines, inverse_powers, level_off

GRID = Grid(cutoff=0.6, intervals=120)
KNOTS = GRID.spacing * np.array([20, 24, 30, 45, 60, 90, 120])
EVERYWHERE = np.linspace(1e-4, 0.7, 3001)


def values(coefficients, r):
    """Values f and slopes f' of the functions of one pair of species, shape (n, len(r))."""
    basis = RadialBasis(GRID, coefficients[None, None])
    f, df = basis.evaluate(r[None, :], np.zeros(1, dtype=int), 0)
    return f[0].T, df[0].T


def second_derivative(coefficients, r, step=1e-6):
    after, before = values(coefficients, r + step)[1], values(coefficients, r - step)[1]
    return (after - before) / (2 * step)


@pytest.fixture(params=["b-splines", "inverse-powers"])
def functions(request):
    if request.param == "b-splines":
        return b_splines(GRID, KNOTS)
    return inverse_powers(GRID, np.array([1.0, 3.0, 6.0]), 0.1)


def test_b_splines_are_those_of_scipy():
    r = np.linspace(KNOTS[0], KNOTS[-1] - 1e-9, 500)
    ours, slopes = values(b_splines(GRID, KNOTS), r)
    left = KNOTS[0] - (KNOTS[1] - KNOTS[0]) * np.arange(3, 0, -1)
    for n in range(len(KNOTS) - 1):
        five = np.concatenate([left, KNOTS])[n : n + 5]
        spline = BSpline.basis_element(five, extrapolate=False)
        np.testing.assert_allclose(ours[n], np.nan_to_num(spline(r)), atol=1e-12)
        np.testing.assert_allclose(slopes[n], np.nan_to_num(spline.derivative()(r)), atol=1e-9)


def test_b_splines_are_linearly_independent_between_the_knots():
    f, _ = values(b_splines(GRID, KNOTS), np.linspace(KNOTS[0], KNOTS[-1], 400))
    assert f.shape[0] == len(KNOTS) - 1
    assert np.linalg.cond(f @ f.T) < 1e6


def test_inverse_powers_agree_with_their_formula():
    powers, scale = np.array([1.0, 2.0, 6.0]), 0.12
    r = np.linspace(0.1, 0.6, 300)
    expected = (scale / r) ** powers[:, None] * (1 - (r / 0.6) ** 2) ** 3
    fine = Grid(0.6, 480)
    basis = RadialBasis(fine, inverse_powers(fine, powers, scale)[None, None])
    f = basis.evaluate(r[None], np.zeros(1, dtype=int), 0)[0][0].T
    np.testing.assert_allclose(f, expected, atol=1e-5)


def test_slopes_are_central_differences(functions):
    r = np.linspace(0.08, 0.65, 501)
    step = 1e-6
    numerical = (values(functions, r + step)[0] - values(functions, r - step)[0]) / (2 * step)
    np.testing.assert_allclose(values(functions, r)[1], numerical, atol=1e-6 * np.abs(numerical).max())


def test_functions_go_to_zero_at_the_cutoff_with_two_derivatives(functions):
    at = np.array([GRID.cutoff * (1 - 1e-9)])
    f, df = values(functions, at)
    d2f = second_derivative(functions, at - 2e-6)
    assert np.abs(f).max() < 1e-9
    assert np.abs(df).max() < 1e-9 / GRID.spacing
    assert np.abs(d2f).max() < 1e-3 / GRID.spacing**2
    beyond, slopes = values(functions, np.array([0.6, 0.61, 5.0]))
    assert np.abs(beyond).max() < 1e-20
    assert np.abs(slopes).max() < 1e-18


@pytest.mark.parametrize("distance", [0.0999, 0.1, 0.1234])
def test_levelled_functions_are_the_same_beyond_level_off_below_and_are_smooth(functions, distance):
    width = 0.2 * distance
    levelled = level_off(GRID, functions, distance, width)
    beyond = EVERYWHERE[distance <= EVERYWHERE]
    for before, after in zip(values(functions, beyond), values(levelled, beyond), strict=True):
        np.testing.assert_array_equal(before, after)
    point = GRID.below(distance) * GRID.spacing
    f, df = values(levelled, np.linspace(1e-3, point - GRID.spacing, 200))
    assert (np.diff(np.abs(df), axis=1) >= -1e-9 * np.abs(df).max()).all()
    assert np.ptp(f, axis=1).max() < 1.5 * width * np.abs(df).max()
    # the slopes of all functions decay alike, so that a sum that repels keeps repelling
    np.testing.assert_allclose(
        df[:, :1] * df[:1, -1:], df[:, -1:] * df[:1, :1], atol=1e-6 * np.abs(df[:, :1] * df[:1, -1:]).max()
    )
    # f'' does not jump at the grid points where the polynomials change
    for k in range(4):
        left, right = (
            second_derivative(levelled, np.array([point - k * GRID.spacing + s * 2e-6]))[:, 0] for s in (-1, 1)
        )
        scale = np.abs(second_derivative(levelled, EVERYWHERE[point < EVERYWHERE])).max()
        assert np.abs(left - right).max() < 2e-2 * scale


def test_a_cubic_spline_with_knots_on_the_grid_is_reproduced():
    spline = BSpline(
        np.concatenate([[0.0] * 3, np.linspace(0, 0.6, 13), [0.6] * 3]), np.random.default_rng(0).normal(size=15), 3
    )
    centres = np.clip(GRID.centres, 0.0, 0.6)
    coefficients = GRID.coefficients(spline(centres), spline.derivative(2)(centres))
    r = np.linspace(2 * GRID.spacing, 0.6 - 2 * GRID.spacing, 400)
    np.testing.assert_allclose(values(coefficients[None], r)[0][0], spline(r), atol=1e-12)
