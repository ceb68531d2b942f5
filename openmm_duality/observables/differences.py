"""Differences of means and of curves, the tests whether they exceed the noise, and many tests judged together.

Under the hypothesis of the tests both sources are equal and share one noise. Index suffixes: b block, k bin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from scipy import optimize, stats

from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.observables.statistics import CONFIDENCE, FEWEST_BLOCKS, Estimate, Reason

SIGNIFICANCE = 0.01
_LARGEST, _SMALL = 0.9, 1e-12  # p values
_CERTAIN = 1e-2 * SIGNIFICANCE
_NOISIER = 1e-3  # chance at which two noises are called different


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


def mean_noise(blocks: FloatArray, sampling: float) -> float:
    """Variance of the mean of blocks, all bins together, in one unit of sampling; 0 from a single block.

    Parameters
    ----------
    blocks : array, shape (n,) or (n, K)
    sampling : float
        What the variance is inversely proportional to, as time by number of molecules.
    """
    return 0.0 if len(blocks) < 2 else float(np.var(blocks, axis=0, ddof=1).sum()) / len(blocks) * sampling


def compare_means(first: FloatArray, second: FloatArray, sampling: tuple[float, float]) -> MeanDifference:
    """t-test of the means of two sources that share one noise, estimated from both.

    Parameters
    ----------
    first, second : array, shapes (n,) and (m,)
        Independent blocks of each; less than five show no noise, and five of one of them are needed.
    sampling : tuple of float
        Of each, as for `mean_noise`.
    """
    difference = float(np.mean(first) - np.mean(second))
    noise, freedom = _shared_noise(first, second, sampling)
    if not freedom or not noise > 0:
        return MeanDifference(difference, None, None)
    error = float(np.sqrt(noise * (1 / sampling[0] + 1 / sampling[1])))
    p_value = float(2 * stats.t.sf(abs(difference) / error, freedom))
    return MeanDifference(difference, error * float(stats.t.ppf(0.5 + CONFIDENCE / 2, freedom)), p_value)


def _shared_noise(first: FloatArray, second: FloatArray, sampling: tuple[float, float]) -> tuple[float, int]:
    """The noise of both sources, by their degrees of freedom, and those; of sources of less than five blocks none."""
    known = [(b, w) for b, w in zip((first, second), sampling, strict=True) if len(b) >= FEWEST_BLOCKS]
    freedom = sum(len(blocks) - 1 for blocks, _ in known)
    noise = sum((len(blocks) - 1) * mean_noise(blocks, weight) for blocks, weight in known)
    return noise / max(freedom, 1), freedom


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
    """Difference of a source that is not stationary, without its test unless that rejects in spite of the noise.

    By so much that no number of other tests can make it pass again.
    """
    p_value = difference.p_value
    return difference if p_value is None or p_value < _CERTAIN else difference.untested(Reason.NOT_STATIONARY)


def compare_curves(
    first: FloatArray,
    second: FloatArray,
    sampling: tuple[float, float],
    *,
    enough: bool = True,
    draws: int = 2000,
    seed: int = 0,
) -> CurveDifference:
    """Test of the largest difference of two curves of sources that share one noise, estimated from both.

    Under the hypothesis that both sources are equal, the difference of the means is noise with the covariance of the
    blocks. It is imitated by sums of the blocks' deviations with normal weights. As in a t-test, the scale of the noise
    is uncertain by the number of blocks: with ν degrees of freedom the largest difference is that of the noise divided
    by √(χ²_ν/ν), whose distribution given the noise is known, so that p values have no floor.

    Parameters
    ----------
    first, second : array, shapes (n, K) and (m, K)
        One curve per block of each source, on the same bins; less than five show no noise, and five of one of them are
        needed.
    sampling : tuple of float
        Of each, as for `mean_noise`.
    enough : bool
        False where the blocks are known to be too short to be independent; the differences then stand without test.
    draws, seed : int
        Number of draws of the noise and the seed of their generator.
    """
    difference = np.abs(first.mean(axis=0) - second.mean(axis=0))
    at = int(np.argmax(difference))
    largest, mean = float(difference[at]), float(difference.mean())
    noise, freedom = _shared_noise(first, second, sampling)
    if not enough or not freedom or not noise > 0:
        return CurveDifference(largest, at, mean, None, None)
    deviations = np.concatenate(
        [
            (blocks - blocks.mean(axis=0)) * np.sqrt(weight / len(blocks))
            for blocks, weight in zip((first, second), sampling, strict=True)
            if len(blocks) >= FEWEST_BLOCKS
        ]
    )
    deviations *= np.sqrt(noise * (1 / sampling[0] + 1 / sampling[1]) / (deviations**2).sum())
    rng = np.random.default_rng(seed)
    by_chance = np.abs(rng.normal(size=(draws, len(deviations))) @ deviations).max(axis=1)

    def exceeded(size: float) -> float:
        return float(stats.chi2.cdf(freedom * (by_chance / size) ** 2, freedom).mean())

    limits = by_chance.max() * np.array([1e-3, 1e3])
    width = optimize.brentq(lambda size: exceeded(size) - (1 - CONFIDENCE), *limits, xtol=1e-9 * limits[1])
    return CurveDifference(largest, at, mean, exceeded(largest) if largest > 0 else 1.0, float(width))


def joint_p_value(p_values: Sequence[float]) -> float | None:
    """One p value of many tests that depend on each other in unknown ways; None of none.

    Cauchy combination, Liu and Xie, J. Am. Stat. Assoc. 115, 393 (2020): the mean of tan((½ − p)π) follows a Cauchy
    distribution far out in its tail, however the tests depend on each other. P values above 0.9 count as 0.9, so that
    one near 1 hides no small one.
    """
    if not len(p_values):
        return None
    limited = np.clip(p_values, np.finfo(float).tiny, _LARGEST)
    mean = np.where(limited < _SMALL, 1 / (np.pi * limited), np.tan((0.5 - limited) * np.pi)).mean()
    return float(stats.cauchy.sf(mean))


def holm(p_values: Sequence[float]) -> list[float]:
    """P values corrected for their number by Holm's method (Scand. J. Stat. 6, 65 (1979)).

    Of equal sources, the chance that any of them is below α is at most α, however the tests depend on each other.
    """
    order = np.argsort(p_values)
    factors = len(p_values) - np.arange(len(p_values))
    corrected = np.minimum(1.0, np.maximum.accumulate(factors * np.asarray(p_values, dtype=np.float64)[order]))
    return [float(value) for value in corrected[np.argsort(order)]]
