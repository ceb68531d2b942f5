"""Diffusion and reorientation of molecules: means over pairs of times a lag apart, and what is fitted to them.

D is a sixth of the slope of the mean squared displacement of the centres of mass, drift of the system removed. In a
periodic cubic cell of edge L it is too small by 2.837297 kT / (6π η L) (Yeh and Hummer, J. Phys. Chem. B 108, 15873
(2004)), which a viscosity η corrects.

The orientation of a bond is correlated by C₂(t) = ⟨P₂(u(0)·u(t))⟩. After the first rattle C₂ decays exponentially; τ₂
is the time of that decay, fitted to ln C₂. In rotational diffusion of a rod, τ₂ = 1/(6 D_rot).

Index suffixes: t time, m item, g group, k lag, b block.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from openmm_duality.geometry.arrays import BoolArray, FloatArray, IntArray
from openmm_duality.geometry.cells import volume
from openmm_duality.observables.curves import Curve
from openmm_duality.observables.paths import Paths
from openmm_duality.observables.statistics import FEWEST_BLOCKS, MOST_BLOCKS, Estimate, block_of, jackknife
from openmm_duality.units import BOLTZMANN

LONGEST = 10.0  # ps, of a lag
SHARE = 0.2  # of a trajectory; longer lags are sampled too rarely
ONSET = 1.0  # ps; before, molecules rattle among their neighbours
_LAGS = 60
_GROUPS = 20

YEH_HUMMER = 2.837297
PASCAL_SECOND = 1.66053906660e-6  # Pa s in 1 dalton/nm/ps
_CUBIC = 1e-3

_FAINT = 0.05  # below, C₂ is noise
_FEWEST = 4  # lags in a fit
_NOTHING = 1e-6  # what a part of the data may sink to below zero counts as


@dataclass(frozen=True)
class Lagged(Curve):
    """The mean of a function of two times against their lag in ps, from 0; every block has its own origins of time.

    Parameters
    ----------
    groups : array, shape (n_groups, K)
        Means over groups of items.
    sampling : float
        Time in ps, times number of owners: the variance of what is made of the curve is inversely proportional to it.
    """

    groups: FloatArray
    sampling: float

    def estimate(self, function: Callable[[FloatArray], float]) -> Estimate:
        """A number made of the curve, with the larger of two errors: from blocks of time, and from groups of items.

        The few blocks of a short run scatter little by chance now and then; the items share the same time, so their
        scatter alone would miss what moves them all.
        """
        found = [jackknife(groups, function) for groups in (self.blocks, self.groups)]
        errors = [estimate.error for estimate in found if not np.isnan(estimate.error)]
        return replace(found[0], error=max(errors, default=np.nan))


def longest_lag(duration: float) -> float:
    """The longest lag that a trajectory of this many ps samples well enough."""
    return min(LONGEST, SHARE * duration)


def lagged_mean(
    series: FloatArray,
    spacing: float,
    longest: float,
    owners: IntArray,
    function: Callable[[FloatArray, FloatArray], FloatArray],
) -> Lagged:
    """Average a function of the items at two times.

    Parameters
    ----------
    series : array, shape (T, M, 3)
        Evenly spaced in time.
    spacing, longest : float
        Between times, and of the longest lag, in ps.
    owners : array of int, shape (M,)
        What every item belongs to; items of one owner are kept in one group.
    function : callable
        From values at two times, each of shape (t, M, 3), to shape (t, M).
    """
    most = min(len(series) - 1, round(longest / spacing))
    steps = np.unique(np.linspace(0, most, _LAGS).round().astype(np.int64))
    n_origins = len(series) - most
    n_blocks = int(np.clip(n_origins * spacing / (2 * longest), FEWEST_BLOCKS, MOST_BLOCKS))
    n_blocks = max(1, min(n_blocks, n_origins))
    starts = np.searchsorted(block_of(n_origins, n_blocks), np.arange(n_blocks))
    group = np.unique(owners, return_inverse=True)[1] % _GROUPS
    sizes = np.bincount(group)
    blocks, groups = np.empty((n_blocks, len(steps))), np.empty((len(sizes), len(steps)))
    widths = np.diff(np.append(starts, n_origins))
    for k, step in enumerate(steps):
        values = function(series[:n_origins], series[step : step + n_origins])
        blocks[:, k] = np.add.reduceat(values.mean(axis=1), starts) / widths
        groups[:, k] = np.bincount(group, values.mean(axis=0)) / sizes
    sampling = len(series) * spacing * len(np.unique(owners))
    return Lagged(np.asarray(steps * spacing, dtype=np.float64), blocks, groups, sampling)


@dataclass(frozen=True)
class LaggedFit:
    """A curve against the lag, and the number fitted to it behind the first rattle.

    Parameters
    ----------
    curve : Lagged
        Mean squared displacement of the molecules of one formula in nm², or C₂ of the bonds of one pair of species.
    window : tuple of float or None
        First and last lag of the fit, in ps; None where C₂ has decayed before.
    value : Estimate or None
        Diffusion coefficient in nm²/ps, for this cell, or τ₂ in ps; None where the fit gives none.
    correction : float or None
        What the finite cell takes away from a diffusion coefficient, in nm²/ps; None where no viscosity was given.
    """

    curve: Lagged
    window: tuple[float, float] | None
    value: Estimate | None
    correction: float | None = None


def diffusion_coefficients(paths: Paths, longest: float, correction: float | None = None) -> dict[str, LaggedFit]:
    """Diffusion of the molecules of every formula.

    Parameters
    ----------
    paths : Paths
        As `follow_molecules` gives them.
    longest : float
        The longest lag in ps, at least twice `ONSET`.
    correction : float, optional
        Of the finite cell, in nm²/ps.
    """
    found = {}
    for name, centres in paths.centres.items():
        curve = lagged_mean(centres, paths.spacing, longest, np.arange(centres.shape[1]), _squared_distance)
        found[name] = _fit(curve, curve.centres >= ONSET - 1e-9, _diffusion_coefficient, correction)
    return found


def finite_size(temperature: float, viscosity: float, cell: FloatArray | None) -> float | None:
    """Finite-size correction of a diffusion coefficient in nm²/ps; None unless the cell is a cube.

    Parameters
    ----------
    temperature : float
        In K.
    viscosity : float
        In dalton/nm/ps.
    cell : array, shape (3, 3), or None
        In nm.
    """
    if cell is None:
        return None
    edge = volume(cell) ** (1 / 3)
    if np.abs(cell @ cell.T / edge**2 - np.eye(3)).max() > _CUBIC:
        return None
    return float(YEH_HUMMER * BOLTZMANN * temperature / (6 * math.pi * viscosity * edge))


def _fit(
    curve: Lagged,
    part: BoolArray,
    function: Callable[[FloatArray, FloatArray], float],
    correction: float | None = None,
) -> LaggedFit:
    """The fit of a function of lags and values to a part of a curve."""
    lags = curve.centres[part]
    value = curve.estimate(lambda values: function(lags, values[part]))
    return LaggedFit(curve, (float(lags[0]), float(lags[-1])), value if np.isfinite(value.mean) else None, correction)


def _diffusion_coefficient(lags: FloatArray, displacement: FloatArray) -> float:
    """A sixth of the slope of a straight line."""
    t = lags - lags.mean()
    return float(t @ displacement / (t @ t) / 6)


def _decay_time(lags: FloatArray, correlation: FloatArray) -> float:
    """The time of an exponential."""
    heights = np.log(np.maximum(correlation, _NOTHING))
    slope = np.polynomial.polynomial.polyfit(lags, heights, 1)[1]
    return float(-1 / slope) if slope < 0 else float("nan")


def _squared_distance(a: FloatArray, b: FloatArray) -> FloatArray:
    return np.asarray(((b - a) ** 2).sum(axis=2))


def reorientation_times(paths: Paths, longest: float) -> dict[str, LaggedFit]:
    """Reorientation of the bonds of every pair of species.

    Parameters
    ----------
    paths : Paths
        As `follow_molecules` gives them.
    longest : float
        The longest lag in ps.
    """
    found = {}
    for name, along in paths.directions.items():
        curve = lagged_mean(along, paths.spacing, longest, paths.owners[name], _second_legendre)
        fitted = (curve.centres >= ONSET - 1e-9) & (np.minimum.accumulate(curve.mean) > _FAINT)
        enough = fitted.sum() >= _FEWEST
        found[name] = _fit(curve, fitted, _decay_time) if enough else LaggedFit(curve, None, None)
    return found


def _second_legendre(a: FloatArray, b: FloatArray) -> FloatArray:
    return np.asarray(1.5 * np.einsum("tmx,tmx->tm", a, b) ** 2 - 0.5)
