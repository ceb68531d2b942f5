"""Means over pairs of times a lag apart, by block of the earlier time and by group of the items.

Index suffixes: t time, m item, g group, k lag, b block.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from openmm_duality.geometry.arrays import FloatArray, IntArray
from openmm_duality.observables.statistics import FEWEST_BLOCKS, MOST_BLOCKS, Estimate, block_of, jackknife

LONGEST = 10.0  # ps, of a lag
SHARE = 0.2  # of a trajectory; lags beyond are seen too seldom
ONSET = 1.0  # ps; before, molecules rattle among their neighbours
_LAGS = 60
_GROUPS = 20


@dataclass(frozen=True)
class Lagged:
    """A function of two times as it depends on their lag.

    Parameters
    ----------
    lags : array, shape (K,)
        In ps, from 0.
    blocks : array, shape (n_blocks, K)
        Means over origins in contiguous blocks of time.
    groups : array, shape (n_groups, K)
        Means over groups of items.
    seen : float
        Time in ps, times number of owners: the variance of what is made of the curve goes with its inverse.
    """

    lags: FloatArray
    blocks: FloatArray
    groups: FloatArray
    seen: float

    @property
    def mean(self) -> FloatArray:
        """Mean over everything, shape (K,)."""
        return np.asarray(self.blocks.mean(axis=0))

    def estimate(self, function: Callable[[FloatArray], float]) -> Estimate:
        """A number made of the curve, with the larger of two errors: from blocks of time, and from groups of items.

        The few blocks of a short run scatter little by chance now and then; the items see the same time, so their
        scatter alone would forget what they share.
        """
        found = [jackknife(parts, function) for parts in (self.blocks, self.groups)]
        return replace(found[0], error=float(np.nanmax([estimate.error for estimate in found])))


def longest_lag(duration: float) -> float:
    """The longest lag worth looking at in a trajectory of this many ps."""
    return min(LONGEST, SHARE * duration)


def lagged(
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
    seen = len(series) * spacing * len(np.unique(owners))
    return Lagged(np.asarray(steps * spacing, dtype=np.float64), blocks, groups, seen)
