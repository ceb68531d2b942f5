"""Radial functions, all represented as cubic splines on one uniform grid from 0 to the cutoff.

Families of functions (B-splines, inverse powers, Chebyshev polynomials) only differ in their spline coefficients, so
that all implementations of the evaluator use the same table; how they continue below the distances in the data is set
by the coefficients too.

Index suffixes: a, b species, n radial function, k grid interval.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.polynomial.chebyshev import chebvander
from scipy.interpolate import BSpline

from openmm_duality.geometry.arrays import FloatArray, IntArray

# monomial coefficients of the four cubic B-splines that overlap one interval, lowest power first
_TO_POWERS = np.array([[1, 4, 1, 0], [-3, 0, 3, 0], [3, -6, 3, 0], [-1, 3, -3, 1]]) / 6.0


@dataclass(frozen=True)
class Grid:
    """Uniform grid of K intervals from 0 to the cutoff (nm)."""

    cutoff: float
    intervals: int

    @property
    def spacing(self) -> float:
        """Width of an interval in nm."""
        return self.cutoff / self.intervals

    @property
    def centres(self) -> FloatArray:
        """Centres of the K + 3 B-splines in nm, from one interval below 0 to one beyond the cutoff."""
        return np.asarray((np.arange(self.intervals + 3) - 1) * self.spacing, dtype=np.float64)

    def below(self, distance: float) -> int:
        """Index of the last grid point at or below a distance."""
        return int(np.floor(distance / self.spacing * (1 + 1e-12)))

    def coefficients(self, value: FloatArray, second_derivative: FloatArray) -> FloatArray:
        """Spline coefficients from f and f'' at the centres, shape (…, K + 3).

        Exact for a cubic spline with its knots on the grid (the blossom of a cubic at three neighbouring knots is
        f − h² f''/6 at the middle one), and of fourth order in the spacing h for any other smooth function.
        """
        return np.asarray(value - self.spacing**2 / 6.0 * second_derivative, dtype=np.float64)


@dataclass(frozen=True)
class RadialBasis:
    """Table of n radial functions as cubic splines for each pair of S species, ordered or not.

    Parameters
    ----------
    grid : Grid
    coefficients : array, shape (S, S, n, K + 3)
        Spline coefficients; those of a basis are symmetric in the species, those of pair potentials need not be.
    """

    grid: Grid
    coefficients: FloatArray

    @property
    def size(self) -> int:
        """Number n of functions per pair of species."""
        return int(self.coefficients.shape[2])

    @cached_property
    def reaches(self) -> FloatArray:
        """Distance in nm from which on each function is zero for all pairs, on a grid point, shape (n,)."""
        present = (self.coefficients != 0.0).any(axis=(0, 1))
        ends = np.where(present, np.arange(1, present.shape[-1] + 1), 0)  # that centred at point k − 1 ends at k + 1
        return np.asarray(np.minimum(ends.max(axis=-1, initial=0), self.grid.intervals) * self.grid.spacing)

    @property
    def reach(self) -> float:
        """Distance in nm from which on every function is zero, on a grid point."""
        return float(self.reaches.max(initial=0.0))

    @cached_property
    def powers(self) -> FloatArray:
        """Coefficients of the powers 0…3 of the fractional position in an interval, shape (S, S, K, 4, n)."""
        c = self.coefficients
        k = self.grid.intervals
        windows = np.stack([c[..., m : m + k] for m in range(4)], axis=-1)  # (S, S, n, K, 4)
        return np.ascontiguousarray(np.einsum("pm,abnkm->abkpn", _TO_POWERS, windows))

    def evaluate(self, distances: FloatArray, a: IntArray, b: int) -> tuple[FloatArray, FloatArray]:
        """Evaluate f_n(r) and f_n'(r) for agents of species a and neighbours of species b.

        Parameters
        ----------
        distances : array, shape (N, J)
            Distances in nm; at and beyond the cutoff the functions are zero.
        a : array of int, shape (N,)
            Species of the agents.
        b : int
            Species of all neighbours.

        Returns
        -------
        f, df : arrays, shape (N, J, n)
            Values (dimensionless, or kJ/mol for pair potentials) and slopes (the same per nm).
        """
        return self.cubics(distances, a, b).evaluate(distances)

    def cubics(self, distances: FloatArray, a: IntArray, b: int) -> Cubics:
        """The cubics that the functions are at distances (N, J); parameters as for `evaluate`."""
        grid = self.grid
        k = np.minimum((distances / grid.spacing).astype(np.int64), grid.intervals - 1)
        rows = (a[:, None] * len(self.coefficients) + b) * grid.intervals + k
        powers = self.powers.reshape(len(self.coefficients) ** 2 * grid.intervals, 4, self.size)
        return Cubics(grid, k, np.take(powers, rows, axis=0))


@dataclass(frozen=True)
class Cubics:
    """Cubics that radial functions are in some intervals of the grid.

    Parameters
    ----------
    grid : Grid
    intervals : array of int, shape (N, J)
    powers : array, shape (N, J, 4, n)
        Coefficients of the powers 0…3 of the fractional position in the interval.
    """

    grid: Grid
    intervals: IntArray
    powers: FloatArray

    def evaluate(self, distances: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Evaluate values and slopes, shape (…, N, J, n), at distances (…, N, J) in or close to the intervals."""
        grid, c = self.grid, self.powers
        x = (np.minimum(distances / grid.spacing, grid.intervals) - self.intervals)[..., None]
        f = c[..., 0, :] + x * (c[..., 1, :] + x * (c[..., 2, :] + x * c[..., 3, :]))
        df = c[..., 1, :] + x * (2.0 * c[..., 2, :] + x * 3.0 * c[..., 3, :])
        return f, df / grid.spacing


def b_splines(grid: Grid, knots: FloatArray) -> FloatArray:
    """Cubic B-splines of a knot vector as spline coefficients on the grid, shape (n, K + 3).

    The last function vanishes at the last knot with its first two derivatives.

    Parameters
    ----------
    knots : array, shape (n + 1,)
        Increasing knots in nm, all on the grid; the last is the cutoff.
    """
    # the functions need three more knots on the left; another three on either side extend the domain over them
    left = knots[0] - (knots[1] - knots[0]) * np.arange(6, 0, -1)
    right = knots[-1] + (knots[-1] - knots[-2]) * np.arange(1, 4)
    extended = np.concatenate([left, knots, right])
    wanted = slice(3, 3 + len(knots) - 1)
    spline = BSpline(extended, np.eye(len(extended) - 4)[:, wanted], 3, extrapolate=False)
    value = np.nan_to_num(spline(grid.centres))
    curvature = np.nan_to_num(spline.derivative(2)(grid.centres))
    beyond = grid.centres > grid.cutoff - 1.5 * grid.spacing
    value[beyond] = curvature[beyond] = 0.0
    return np.ascontiguousarray(grid.coefficients(value.T, curvature.T))


def inverse_powers(grid: Grid, powers: FloatArray, scale: float) -> FloatArray:
    """Functions (scale/r)^p (1 − (r/r_c)²)³ as spline coefficients on the grid, shape (n, K + 3).

    Parameters
    ----------
    powers : array, shape (n,)
        The exponents p.
    scale : float
        Length in nm near the shortest distance, at which the functions are of order one.
    """

    def function(r: FloatArray) -> FloatArray:
        inside = np.clip(1.0 - (r / grid.cutoff) ** 2, 0.0, None)
        return np.asarray((scale / r) ** powers[:, None] * inside**3)

    return _sampled(grid, function, lowest=0.5 * scale)


def _sampled(grid: Grid, function: Callable[[FloatArray], FloatArray], lowest: float) -> FloatArray:
    """Spline coefficients of a smooth function, which is taken as constant below `lowest`."""
    r = np.maximum(grid.centres, lowest)
    step = 1e-3 * grid.spacing
    value = function(r)
    curvature = (function(r + step) - 2.0 * value + function(r - step)) / step**2
    coefficients = grid.coefficients(value, curvature)
    coefficients[:, grid.centres > grid.cutoff - 1.5 * grid.spacing] = 0.0
    return coefficients


def level_off(grid: Grid, coefficients: FloatArray, distance: float, width: float) -> FloatArray:
    """Let functions level off below a distance, leaving them unchanged above.

    Their slope decays as exp(−δ/width) with the depth δ below the last grid point at or below the distance. All
    functions keep the ratios of their slopes, and so a repulsion that several of them make together decays as a whole.
    As splines on the grid they have two continuous derivatives.
    """
    first = max(grid.below(distance), 1)  # the coefficient centred one interval below that grid point
    decay = np.exp(-grid.spacing / width * np.arange(1, first + 1))
    step = np.diff(coefficients[..., first : first + 2])
    levelled = coefficients.copy()
    levelled[..., :first] = (coefficients[..., first, None] - step * np.cumsum(decay))[..., ::-1]
    return levelled


def chebyshev(grid: Grid, size: int, begin: float, end: float, decay: float) -> FloatArray:
    """Functions T_n(x) (1 − (r/r_e)²)² as spline coefficients on the grid, shape (n, K + 3).

    x falls linearly with exp(−r/r_0) from 1 at `begin` to −1 at r_e. These functions are smooth everywhere, also where
    the data have no distances.

    Parameters
    ----------
    grid : Grid
    size : int
        Number n of functions.
    begin, end : float
        Distance in nm where x is 1, and r_e, at most the cutoff, from which on the functions are zero.
    decay : float
        r_0 in nm.
    """
    far, near = np.exp(-end / decay), np.exp(-begin / decay)

    def function(r: FloatArray) -> FloatArray:
        x = 2.0 * (np.exp(-r / decay) - far) / (near - far) - 1.0
        inside = np.clip(1.0 - (r / end) ** 2, 0.0, None)
        return np.asarray(chebvander(x, size - 1).T * inside**2)

    return _sampled(grid, function, lowest=0.5 * begin)
