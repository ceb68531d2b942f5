"""Correlation times of observables, and what they do to the scatter of blocks.

An observable is modelled as an uncorrelated part and a part whose correlation decays exponentially, with a share s of
the noise of a long mean and a correlation time T. The variance of a mean over a time N is then proportional to

    A(N) = [1 − s + s h(N/T)] / N,   h(x) = 1 − (1 − e^{−x}) / x.

Blocks of a few T are not quite independent, and their scatter about their own mean is too small; A says by how much.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.observables.statistics import FEWEST_BLOCKS, MOST_BLOCKS

BLOCK_TIME = 1.5  # ps: no block is shorter unless there is too little time for anything else
LONG = 6.0  # times T: what a block lasts where there is time
SHORT = 2.0  # times T: what it has to last for a test
_FEWEST_LAGS = 4
_COARSER = (2, 4, 8)  # values that are averaged
_FEWEST_COARSE = 10
_CLEARLY = 1.5  # times the correlation time
_WINDOW = 6.0  # times T: up to where the correlation is summed


@dataclass(frozen=True)
class CorrelationTime:
    """A correlation time T in ps, and the share s of the noise of a long mean that is correlated over it."""

    time: float
    share: float

    def blocks_in(self, n_frames: int, duration: float, least: float = BLOCK_TIME) -> int:
        """Number of blocks to divide a trajectory into.

        Each lasts at least six times T and `least` ps; where that gives too few, there are five shorter ones.

        Parameters
        ----------
        n_frames : int
            There are never more blocks than frames.
        duration, least : float
            In ps.
        """
        fit = int(duration / max(least, LONG * self.time) + 1e-9)
        return max(1, min(n_frames, MOST_BLOCKS, max(fit, FEWEST_BLOCKS)))

    def allows_test(self, n_frames: int, duration: float, least: float = BLOCK_TIME) -> bool:
        """Whether a trajectory holds five blocks that are long enough for a test: twice T and `least` ps each."""
        block = max(least, SHORT * self.time)
        return n_frames >= FEWEST_BLOCKS and duration >= FEWEST_BLOCKS * block * (1 - 1e-9)

    def fits_in(self, duration: float) -> bool:
        """Whether a trajectory of this many ps holds one block that is long enough for a test."""
        return duration >= SHORT * self.time

    def widening(self, duration: float, n_blocks: int) -> float:
        """Factor on the scatter of blocks that corrects the error of their mean for the correlation between them.

        Parameters
        ----------
        duration : float
            Of all blocks together, in ps.
        n_blocks : int
        """
        if n_blocks < 2 or not duration > 0 or not self.time > 0:
            return 1.0
        block = duration / n_blocks
        time = min(self.time, block)  # shorter blocks know too little of it to be corrected
        of_mean, of_block = (self._variance(t, time) for t in (duration, block))
        return float(np.sqrt((n_blocks - 1) * of_mean / (of_block - of_mean)))

    def _variance(self, duration: float, time: float) -> float:
        x = duration / time
        return float(1 - self.share + self.share * (1 + np.expm1(-x) / x)) / duration


UNCORRELATED = CorrelationTime(0.0, 0.0)
VIBRATIONAL = CorrelationTime(4.0, 0.9)
"""Of the energy of vibrations, which goes from one to another over several ps.

It is a small part of the fluctuations of bonds and angles but nearly all the noise of a long mean, and 20 ps are too
short to show it: 820 ps of flexible water have 4 ps where windows of 20 ps give 1 ps.
"""


def correlation_time(values: FloatArray, spacing: float) -> CorrelationTime:
    """Correlation time of a series, or of a curve: all its bins together, those that fluctuate most first.

    Much noise without correlation, as of the narrow bins of g(r), hides a slow part until it is averaged out. So means
    over two, four and eight values are looked at too, and a correlation time that is clearly longer there counts. The
    few of them are often slow by chance, so such a time is cut to what still allows a test.

    Parameters
    ----------
    values : array, shape (T,) or (T, K)
        Evenly spaced in time.
    spacing : float
        In ps.
    """
    found = _correlation_time(values, spacing)
    for width in _COARSER:
        count = len(values) // width
        if count < _FEWEST_COARSE:
            break
        coarse = values[: count * width].reshape(count, width, *values.shape[1:]).mean(axis=1)
        slow = _correlation_time(coarse, spacing * width)
        if slow.time > _CLEARLY * found.time:
            longest = len(values) * spacing / (FEWEST_BLOCKS * SHORT)
            found = CorrelationTime(min(slow.time, max(found.time, longest)), slow.share)
    return found


def _correlation_time(values: FloatArray, spacing: float) -> CorrelationTime:
    """Correlation time of a series at one spacing.

    T is the mean lag of the correlation behind lag 0. It is summed up to six times T, or to where the sum of two
    neighbouring lags is no longer positive (Geyer, Statistical Science 7, 473 (1992)), for beyond there is only noise.
    """
    x = values.reshape(len(values), -1)
    if len(x) < _FEWEST_LAGS:
        return UNCORRELATED
    power = np.abs(np.fft.rfft(x - x.mean(axis=0), 2 * len(x), axis=0)) ** 2
    correlation = np.fft.irfft(power.sum(axis=1))[: len(x)]
    if not correlation[0] > 0.0:
        return UNCORRELATED
    behind = correlation[1 : 1 + 2 * ((len(x) - 1) // 2)]
    ended = np.flatnonzero(behind.reshape(-1, 2).sum(axis=1) <= 0)
    behind = behind[: 2 * ended[0]] if len(ended) else behind
    if not behind.sum() > 0.0:
        return UNCORRELATED
    lags = np.arange(len(behind)) + 0.5  # of an exponential their mean is T, whatever the spacing
    totals, times = np.cumsum(behind), np.cumsum(lags * behind)
    far = np.flatnonzero(lags * totals >= _WINDOW * times)
    last = int(far[0]) if len(far) else len(behind) - 1
    total = float(totals[last])
    if not (total > 0.0 and times[last] > 0.0):
        return UNCORRELATED
    return CorrelationTime(float(times[last]) / total * spacing, 2 * total / (float(correlation[0]) + 2 * total))


def slower(first: CorrelationTime, second: CorrelationTime) -> CorrelationTime:
    """The longer of two correlation times."""
    return first if first.time >= second.time else second
