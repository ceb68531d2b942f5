"""Error bars from contiguous blocks of time, and the tests whether two results differ by more than those allow.

Neighbouring frames of a trajectory are nearly the same frame. So every mean is taken per block of time first, and its
error comes from the scatter of the blocks, which must be long enough to be independent. Index suffixes: b block, k bin.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import TypeVar

import numpy as np
from scipy import stats

from openmm_duality.errors import DualityError
from openmm_duality.geometry.arrays import FloatArray, IntArray

FEWEST_BLOCKS = 5
MOST_BLOCKS = 20
CONFIDENCE = 0.95
SIGNIFICANCE = 0.01
_NOISIER = 1e-3  # chance at which two noises are called different


class Reason(Enum):
    """Why a difference could not be tested."""

    TOO_SHORT = "short"
    """Run or reference is too short for the correlation time of the observable."""
    TOO_RARE = "seldom"
    """The observable is missing in some blocks."""
    NOT_STATIONARY = "changes"
    """The observable changes along the run."""


@dataclass(frozen=True)
class Estimate:
    """A mean with its error.

    Parameters
    ----------
    mean : float
        Mean of the blocks.
    error : float
        Standard error of the mean; NaN from a single block.
    n_blocks : int
        Number of blocks it comes from.
    """

    mean: float
    error: float
    n_blocks: int

    @property
    def interval(self) -> float:
        """Half-width of the 95 % confidence interval (Student's t for the few blocks there are)."""
        return self.error * _student(self.n_blocks)

    def p_value(self, expected: float) -> float | None:
        """Chance of a mean at least this far from what is expected (Student's t); None from too few blocks."""
        if self.n_blocks < FEWEST_BLOCKS or not self.error > 0:
            return None
        return float(2 * stats.t.sf(abs(self.mean - expected) / self.error, self.n_blocks - 1))

    def to_dict(self) -> dict[str, float | int]:
        """Mean, standard error, half-width of the 95 % interval and number of blocks."""
        return {"mean": self.mean, "error": self.error, "interval_95": self.interval, "blocks": self.n_blocks}


@dataclass(frozen=True)
class CurveDifference:
    """Difference of two curves, and the difference to be expected by chance.

    Parameters
    ----------
    max_difference : float
        Largest absolute difference over all bins.
    at : int
        The bin of the largest difference.
    mean_absolute_difference : float
        Absolute difference averaged over bins.
    p_value : float or None
        Chance of a largest difference at least this big between two equal sources; None if there are too few blocks.
    band_half_width : float or None
        The largest difference that equal sources stay below in 95 % of cases; None if there are too few blocks.
    reason : Reason or None
        Why there is no test, where that is known.
    """

    max_difference: float
    at: int
    mean_absolute_difference: float
    p_value: float | None
    band_half_width: float | None
    reason: Reason | None = None

    def untested(self, reason: Reason) -> CurveDifference:
        """The differences alone, and why there is no test."""
        return replace(self, p_value=None, band_half_width=None, reason=reason)


@dataclass(frozen=True)
class MeanDifference:
    """The difference of two means (first less second), the half-width of its 95 % interval, and Welch's p-value.

    `p_value` and `interval` are None if there are too few blocks; `reason` as in `CurveDifference`.
    """

    difference: float
    interval: float | None
    p_value: float | None
    reason: Reason | None = None

    def untested(self, reason: Reason) -> MeanDifference:
        """The difference alone, and why there is no test."""
        return replace(self, p_value=None, interval=None, reason=reason)


Difference = TypeVar("Difference", CurveDifference, MeanDifference)


def block_of(n_frames: int, n_blocks: int) -> IntArray:
    """The block of every frame: contiguous, equally long to within one frame, shape (n_frames,)."""
    return np.arange(n_frames) * n_blocks // n_frames


def block_means(values: FloatArray, n_blocks: int) -> FloatArray:
    """Means of contiguous blocks.

    Parameters
    ----------
    values : array, shape (T, ...)
        One value, or one row of values, per frame.
    n_blocks : int
        Number of blocks.

    Returns
    -------
    array, shape (n_blocks, ...)
    """
    if not 1 <= n_blocks <= len(values):
        raise DualityError(f"cannot cut {len(values)} frames into {n_blocks} blocks; ask for fewer blocks")
    return np.stack([part.mean(axis=0) for part in np.array_split(values, n_blocks)])


def estimate(blocks: FloatArray) -> Estimate:
    """The mean of block means, shape (n_blocks,), with its error."""
    count = len(blocks)
    error = float(np.std(blocks, ddof=1) / np.sqrt(count)) if count > 1 else float("nan")
    return Estimate(float(np.mean(blocks)), error, count)


def series_estimate(values: FloatArray, n_blocks: int) -> Estimate:
    """The mean of a series with the larger of two errors: from the scatter of blocks, and from its autocorrelation.

    The scatter of a handful of blocks is sometimes small by chance; the autocorrelation, summed up to five times the
    correlation time it gives (Sokal's window), is the steadier of the two where the series is long.

    Parameters
    ----------
    values : array, shape (T,)
        Evenly spaced.
    n_blocks : int
        Number of contiguous blocks.
    """
    blocks = estimate(block_means(values, n_blocks))
    correlated = float(np.sqrt(np.var(values) * correlation_steps(values) / len(values)))
    return replace(blocks, error=max(blocks.error, correlated))


def correlation_steps(values: FloatArray) -> float:
    """1 + 2 Σ ρ(k), the number of steps of a series that are worth one independent value; at least 1."""
    x = values - values.mean()
    power = np.abs(np.fft.rfft(x, 2 * len(x))) ** 2
    correlation = np.fft.irfft(power)[: len(x)]
    if not correlation[0] > 0.0:
        return 1.0
    sums = 2.0 * np.cumsum(correlation / correlation[0]) - 1.0
    window = int(np.argmax(np.arange(len(sums)) >= 5.0 * sums))
    return max(1.0, float(sums[window]))


def curve_error(blocks: FloatArray) -> FloatArray:
    """Half-width of the 95 % confidence interval of the mean in every bin.

    Parameters
    ----------
    blocks : array, shape (n_blocks, K)
        One curve per block.

    Returns
    -------
    array, shape (K,)
        NaN from a single block.
    """
    count = len(blocks)
    if count < 2:
        return np.full(blocks.shape[1], np.nan)
    return np.asarray(np.std(blocks, axis=0, ddof=1) / np.sqrt(count) * _student(count))


def slope(times: FloatArray, values: FloatArray, n_blocks: int) -> Estimate:
    """The slope of a straight line through block means, with its standard error.

    Parameters
    ----------
    times : array, shape (T,)
        In ps.
    values : array, shape (T,)
        Any unit.
    n_blocks : int
        Number of blocks; from fewer than three the error is NaN.
    """
    n_blocks = min(n_blocks, len(values))
    if n_blocks < 2:
        return Estimate(float("nan"), float("nan"), n_blocks)
    fit = stats.linregress(block_means(times, n_blocks), block_means(values, n_blocks))
    # The line has two parameters: one degree of freedom fewer than a mean, so the error is widened to suit `interval`.
    widening = _student(n_blocks - 1) / _student(n_blocks) if n_blocks > 2 else float("nan")
    return Estimate(float(fit.slope), float(fit.stderr) * widening, n_blocks)


def compare_means(first: FloatArray, second: FloatArray) -> MeanDifference:
    """Welch's t-test of the means of two sets of blocks, shapes (n,) and (m,); no test of fewer than five blocks."""
    difference = float(np.mean(first) - np.mean(second))
    if min(len(first), len(second)) < FEWEST_BLOCKS:
        return MeanDifference(difference, None, None)
    result = stats.ttest_ind(first, second, equal_var=False)
    interval = result.confidence_interval(CONFIDENCE)
    return MeanDifference(difference, float(interval.high - interval.low) / 2, float(result.pvalue))


def compare_estimates(first: Estimate, second: Estimate) -> MeanDifference:
    """Welch's t-test of two means with their errors, where those do not come from the scatter of blocks alone."""
    difference = first.mean - second.mean
    squares = np.array([first.error, second.error]) ** 2
    blocks = np.array([first.n_blocks, second.n_blocks])
    if blocks.min() < FEWEST_BLOCKS or not np.isfinite(difference) or not squares.sum() > 0:
        return MeanDifference(difference, None, None)
    freedom = squares.sum() ** 2 / (squares**2 / (blocks - 1)).sum()
    error = float(np.sqrt(squares.sum()))
    p_value = float(2 * stats.t.sf(abs(difference) / error, freedom))
    return MeanDifference(difference, error * float(stats.t.ppf(0.5 + CONFIDENCE / 2, freedom)), p_value)


def with_common_noise(first: Estimate, second: Estimate, sampling: tuple[float, float]) -> tuple[Estimate, Estimate]:
    """Two estimates with the larger noise of both, which equal sources share.

    A short trajectory samples its slow fluctuations poorly, and so its error is too small: the diffusion coefficients
    of windows of 20 ps of water scatter twice as much as the error of each of them says.

    Parameters
    ----------
    first, second : Estimate
    sampling : tuple of float
        What the variance of each is inversely proportional to, as time times number of molecules.
    """
    noises = [e.error**2 * weight for e, weight in zip((first, second), sampling, strict=True)]
    if not np.isfinite(noises).all():
        return first, second
    larger = int(np.argmax(noises))
    other = 1 - larger
    found = [first, second]
    error = float(np.sqrt(noises[larger] / sampling[other]))
    found[other] = replace(found[other], error=error, n_blocks=found[larger].n_blocks)
    return found[0], found[1]


def noisier(noises: tuple[float, float], blocks: tuple[int, int]) -> bool:
    """Whether the first of two sources fluctuates more than equal sources do: an F-test at 0.1 %.

    A first noise that is larger than chance allows means that its source is not stationary. Where one of them is zero
    or unknown there is nothing to compare.

    Parameters
    ----------
    noises : tuple of float
        Variances of the mean in one unit of time and size.
    blocks : tuple of int
        How many blocks each comes from.
    """
    first, second = noises
    if min(blocks) < 2 or not (np.isfinite(first) and first > 0 and second > 0):
        return False
    return bool(stats.f.sf(first / second, blocks[0] - 1, blocks[1] - 1) < _NOISIER)


def without_test(difference: Difference) -> Difference:
    """Difference of a source that is not stationary, without its test unless that rejects in spite of the noise."""
    p_value = difference.p_value
    return difference if p_value is None or p_value < SIGNIFICANCE else difference.untested(Reason.NOT_STATIONARY)


def jackknife(groups: FloatArray, function: Callable[[FloatArray], float]) -> Estimate:
    """A number made of the mean of several equal groups of data, with the error that leaving out one at a time gives.

    Efron and Tibshirani, An Introduction to the Bootstrap (1993), ch. 11.

    Parameters
    ----------
    groups : array, shape (n, ...)
        Independent groups.
    function : callable
        From the mean of groups to the number.
    """
    count = len(groups)
    value = function(groups.mean(axis=0))
    if count < 2:
        return Estimate(value, float("nan"), count)
    without = np.array([function((groups.sum(axis=0) - group) / (count - 1)) for group in groups])
    error = np.sqrt((count - 1) / count * np.sum((without - without.mean()) ** 2))
    return Estimate(value, float(error), count)


def compare_curves(
    first: FloatArray, second: FloatArray, *, enough: bool = True, replicates: int = 2000, seed: int = 0
) -> CurveDifference:
    """Block bootstrap of the largest difference of two curves.

    Under the hypothesis that both sources are equal, the difference of the means is noise. It is imitated by drawing
    blocks with replacement from each source, centred on the source's own mean; each draw is scaled by √(n/(n − 1)),
    which the scatter of n resampled blocks lacks. Efron and Tibshirani, An Introduction to the Bootstrap (1993),
    ch. 16.

    Parameters
    ----------
    first, second : array, shapes (n, K) and (m, K)
        One curve per block of each source, on the same bins.
    enough : bool
        False where the blocks are known to be too short to be independent; the differences then stand without test.
    replicates, seed : int
        Number of bootstrap draws and the seed of their generator.
    """
    difference = np.abs(first.mean(axis=0) - second.mean(axis=0))
    at = int(np.argmax(difference))
    largest, mean = float(difference[at]), float(difference.mean())
    if not enough or min(len(first), len(second)) < FEWEST_BLOCKS:
        return CurveDifference(largest, at, mean, None, None)
    rng = np.random.default_rng(seed)
    noise = _resampled(first, replicates, rng) - _resampled(second, replicates, rng)
    by_chance = np.abs(noise).max(axis=1)
    p_value = (1 + np.count_nonzero(by_chance >= largest)) / (replicates + 1)
    return CurveDifference(largest, at, mean, float(p_value), float(np.quantile(by_chance, CONFIDENCE)))


def _resampled(blocks: FloatArray, replicates: int, rng: np.random.Generator) -> FloatArray:
    """Means of n centred blocks drawn with replacement, shape (replicates, K)."""
    count = len(blocks)
    weights = rng.multinomial(count, np.full(count, 1 / count), size=replicates) / count
    return np.asarray(weights @ (blocks - blocks.mean(axis=0)) * np.sqrt(count / (count - 1)))


def _student(n_blocks: int) -> float:
    """The factor from standard error to 95 % half-width."""
    return float(stats.t.ppf(0.5 + CONFIDENCE / 2, n_blocks - 1)) if n_blocks > 1 else float("nan")
