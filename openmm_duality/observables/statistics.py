"""Error bars from contiguous blocks of time.

Neighbouring frames of a trajectory are nearly the same frame. So every mean is taken per block of time first, and its
error comes from the scatter of the blocks, which must be long enough to be independent. Index suffixes: b block, k bin.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np
from scipy import stats

from openmm_duality.errors import DualityError
from openmm_duality.geometry.arrays import FloatArray, IntArray

FEWEST_BLOCKS = 5
MOST_BLOCKS = 20
CONFIDENCE = 0.95


class Reason(Enum):
    """Why a difference could not be tested."""

    TOO_SHORT = "short"
    """Run or reference is too short for the correlation time of the observable."""
    TOO_RARE = "seldom"
    """The observable is missing in some blocks."""
    NOT_STATIONARY = "changes"
    """The observable changes along the run."""
    SET = "set"
    """Both values are set, not measured, so they have no error."""
    CONSTANT = "constant"
    """It never changes in either, so there is no noise to test with: it is the same or not."""
    IMPLIED = "implied"
    """It follows from others that are tested, or is reported for information."""
    ONE_SIDED = "one-sided"
    """Run or reference does not give it."""


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
    freedom : float, optional
        Degrees of freedom of the error; by default one less than the blocks.
    """

    mean: float
    error: float
    n_blocks: int
    freedom: float | None = None

    @property
    def interval(self) -> float:
        """Half-width of the 95 % confidence interval (Student's t for how well the error is known)."""
        return self.error * _student(self.n_blocks - 1 if self.freedom is None else self.freedom)

    def p_value(self, expected: float) -> float | None:
        """Chance of a mean at least this far from what is expected (Student's t); None from too few blocks."""
        if self.n_blocks < FEWEST_BLOCKS or not self.error > 0:
            return None
        freedom = self.n_blocks - 1 if self.freedom is None else self.freedom
        return float(2 * stats.t.sf(abs(self.mean - expected) / self.error, freedom))

    def to_dict(self) -> dict[str, float | int]:
        """Mean, standard error, half-width of the 95 % interval and number of blocks."""
        return {"mean": self.mean, "error": self.error, "interval_95": self.interval, "blocks": self.n_blocks}


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


def variance_estimate(values: FloatArray, n_blocks: int, expected: float | None = None) -> Estimate:
    """The variance of a series, with an error that does not shrink where the variance is small by chance.

    Squares scatter by their own size, so a variance that came out small seems well known. Its relative error is used,
    at least that of a normal distribution, √(2 τ/T) with τ = 1 + 2 Σ ρ², times what is expected or was found, whichever
    is larger.

    That error is itself poorly known where a few slow oscillations make up most of the variance: it is proportional to
    √Σ S² over the periodogram S, whose values scatter exponentially about the spectrum. With E[S²] = 2σ⁴,
    E[S⁴] = 24σ⁸ the relative variance of Σ S² is 20 Σ S⁴ / (24 (Σ S²)²), that of a χ² of 2.4 (Σ S²)² / Σ S⁴ degrees of
    freedom.

    Parameters
    ----------
    values : array, shape (T,)
        Evenly spaced.
    n_blocks : int
        Number of contiguous blocks.
    expected : float, optional
        The variance by the ensemble.
    """
    deviations = values - values.mean()
    found = series_estimate(deviations**2, n_blocks)
    if not found.mean > 0.0:
        return found
    normal = np.sqrt(2 * correlation_steps(values, power=2) / len(values))
    error = max(found.error / found.mean, float(normal)) * max(found.mean, expected or 0.0)
    power = np.abs(np.fft.rfft(deviations)[1:]) ** 4
    freedom = 2.4 * float(power.sum() ** 2 / (power**2).sum())
    return replace(found, error=error, freedom=max(1.0, min(freedom, n_blocks - 1.0)))


def correlation_steps(values: FloatArray, power: int = 1) -> float:
    """1 + 2 Σ ρ(k), the number of steps of a series that are worth one independent value; at least 1.

    Parameters
    ----------
    values : array, shape (T,)
    power : int
        Of the correlation in the sum: 2 for the variance of a series of normal distribution.
    """
    x = values - values.mean()
    correlation = np.fft.irfft(np.abs(np.fft.rfft(x, 2 * len(x))) ** 2)[: len(x)]
    if not correlation[0] > 0.0:
        return 1.0
    sums = 2.0 * np.cumsum((correlation / correlation[0]) ** power) - 1.0
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
    return np.asarray(np.std(blocks, axis=0, ddof=1) / np.sqrt(count) * _student(count - 1))


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
    widening = _student(n_blocks - 2) / _student(n_blocks - 1) if n_blocks > 2 else float("nan")
    return Estimate(float(fit.slope), float(fit.stderr) * widening, n_blocks)


def mean_rate(times: FloatArray, values: FloatArray, n_blocks: int) -> Estimate:
    """Mean rate of change of a quantity that fluctuates like a random walk: the slope of the line through all values.

    The residuals of a random walk are correlated, so that they would give too small an error. It comes from the slopes
    in contiguous blocks, which are independent; beside a random walk also from noise, of which the line through all
    values has less.

    Parameters
    ----------
    times : array, shape (T,)
        In ps.
    values : array, shape (T,)
        Any unit.
    n_blocks : int
        Number of blocks.
    """
    n_blocks = min(n_blocks, len(values) // 2)
    if n_blocks < 1:
        return Estimate(float("nan"), float("nan"), 0)
    parts = zip(np.array_split(times, n_blocks), np.array_split(values, n_blocks), strict=True)
    slopes = [stats.linregress(t, x).slope for t, x in parts]
    error = float(np.std(slopes, ddof=1) / np.sqrt(n_blocks)) if n_blocks > 1 else float("nan")
    return Estimate(float(stats.linregress(times, values).slope), error, n_blocks)


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


def _student(freedom: float) -> float:
    """The factor from standard error to 95 % half-width."""
    return float(stats.t.ppf(0.5 + CONFIDENCE / 2, freedom)) if freedom > 0 else float("nan")
