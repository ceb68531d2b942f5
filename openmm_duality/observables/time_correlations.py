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
class Lagged:
    """The mean of a function of two times as it depends on their lag.

    Parameters
    ----------
    lags : array, shape (K,)
        In ps, from 0.
    blocks : array, shape (n_blocks, K)
        Means over origins in contiguous blocks of time.
    groups : array, shape (n_groups, K)
        Means over groups of items.
    sampling : float
        Time in ps, times number of owners: the variance of what is made of the curve is inversely proportional to it.
    """

    lags: FloatArray
    blocks: FloatArray
    groups: FloatArray
    sampling: float

    @property
    def mean(self) -> FloatArray:
        """Mean over everything, shape (K,)."""
        return np.asarray(self.blocks.mean(axis=0))

    def estimate(self, function: Callable[[FloatArray], float]) -> Estimate:
        """A number made of the curve, with the larger of two errors: from blocks of time, and from groups of items.

        The few blocks of a short run scatter little by chance now and then; the items share the same time, so their
        scatter alone would miss what moves them all.
        """
        found = [jackknife(parts, function) for parts in (self.blocks, self.groups)]
        return replace(found[0], error=float(np.nanmax([estimate.error for estimate in found])))


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
class Diffusion:
    """The motion of the molecules of one formula.

    Parameters
    ----------
    displacement : Lagged
        Mean squared displacement in nm².
    window : tuple of float
        First and last lag of the fitted line, in ps.
    coefficient : Estimate
        In nm²/ps, for this cell.
    correction : float or None
        What the finite cell takes away, in nm²/ps; None where no viscosity was given.
    """

    displacement: Lagged
    window: tuple[float, float]
    coefficient: Estimate
    correction: float | None


def diffusion_coefficients(paths: Paths, longest: float, correction: float | None = None) -> dict[str, Diffusion]:
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
        window = curve.lags >= ONSET - 1e-9
        found[name] = Diffusion(
            displacement=curve,
            window=(float(curve.lags[window][0]), float(curve.lags[-1])),
            coefficient=curve.estimate(_Slope(curve.lags, window)),
            correction=correction,
        )
    return found


def finite_size(temperature: float, viscosity: float, cell: FloatArray | None) -> float | None:
    """What periodic images take from a diffusion coefficient, in nm²/ps; None unless the cell is a cube.

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


@dataclass(frozen=True)
class _Slope:
    """A sixth of the slope of the straight line through a part of a curve."""

    lags: FloatArray
    window: BoolArray

    def __call__(self, curve: FloatArray) -> float:
        t = self.lags[self.window] - self.lags[self.window].mean()
        return float(t @ curve[self.window] / (t @ t) / 6)


def _squared_distance(a: FloatArray, b: FloatArray) -> FloatArray:
    return np.asarray(((b - a) ** 2).sum(axis=2))


@dataclass(frozen=True)
class Reorientation:
    """The reorientation of the bonds of one pair of species.

    Parameters
    ----------
    correlation : Lagged
        C₂.
    window : tuple of float or None
        First and last lag of the fit, in ps; None where C₂ has decayed before.
    time : Estimate or None
        τ₂ in ps.
    """

    correlation: Lagged
    window: tuple[float, float] | None
    time: Estimate | None


def reorientation_times(paths: Paths, longest: float) -> dict[str, Reorientation]:
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
        fitted = (curve.lags >= ONSET - 1e-9) & (np.minimum.accumulate(curve.mean) > _FAINT)
        if fitted.sum() < _FEWEST:
            found[name] = Reorientation(curve, None, None)
            continue
        lags = curve.lags[fitted]
        time = curve.estimate(_Decay(lags, fitted))
        window = float(lags[0]), float(lags[-1])
        found[name] = Reorientation(curve, window, time if np.isfinite(time.mean) else None)
    return found


@dataclass(frozen=True)
class _Decay:
    """The time of the exponential through a part of a curve."""

    lags: FloatArray
    part: BoolArray

    def __call__(self, curve: FloatArray) -> float:
        heights = np.log(np.maximum(curve[self.part], _NOTHING))
        slope = np.polynomial.polynomial.polyfit(self.lags, heights, 1)[1]
        return float(-1 / slope) if slope < 0 else float("nan")


def _second_legendre(a: FloatArray, b: FloatArray) -> FloatArray:
    return np.asarray(1.5 * np.einsum("tmx,tmx->tm", a, b) ** 2 - 0.5)
