"""Blocks of one observable of a run and of its reference, and the tests of their difference.

Under the hypothesis of the tests, run and reference are the same liquid, so they have one correlation time and one
noise. The longer correlation time of the two is used, for a short trajectory gives a poor one and mostly too short a
one, and the noise of both. What is too short to show any noise of its own is tested with the other's. A run that is
noisier than chance allows is not stationary: its noise would hide any difference, so only a rejection counts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.observables.correlation_times import UNCORRELATED, CorrelationTime, correlation_time, slower
from openmm_duality.observables.differences import (
    CurveDifference,
    Difference,
    MeanDifference,
    compare_curves,
    compare_means,
    mean_noise,
    noisier,
    without_test,
)
from openmm_duality.observables.findings import Quantity
from openmm_duality.observables.statistics import Reason, estimate


@dataclass(frozen=True)
class Series:
    """An observable of one trajectory in contiguous blocks of time.

    Parameters
    ----------
    joined : callable
        From a number of blocks to the observable in that number of blocks, shape (n_blocks,) or (n_blocks, K). Raises
        KeyError where a block lacks it.
    n_blocks : int
        Number of short blocks, the most that `joined` can give.
    duration : float
        Of the trajectory, in ps.
    atoms : int
        How many, among which the observable is averaged.
    """

    joined: Callable[[int], FloatArray]
    n_blocks: int
    duration: float
    atoms: int

    @property
    def sampling(self) -> float:
        """Time by number of atoms: the variance of the mean is inversely proportional to it."""
        return max(self.duration, np.finfo(float).tiny) * self.atoms

    def correlation_time(self) -> CorrelationTime | None:
        """Correlation time of the observable, None where some short block lacks it."""
        try:
            return correlation_time(self.joined(self.n_blocks), self.duration / self.n_blocks)
        except KeyError:
            return None

    def blocks(self, slowest: CorrelationTime, least: float) -> FloatArray:
        """The observable in blocks whose scatter gives the error of its mean.

        They are fewer and longer where one of them lacks it.
        """
        blocks = self.joined(1)
        for n_blocks in range(slowest.blocks_in(self.n_blocks, self.duration, least), 1, -1):
            try:
                blocks = self.joined(n_blocks)
                break
            except KeyError:
                continue
        return widened(blocks, slowest.widening(self.duration, len(blocks)))


@dataclass(frozen=True)
class PairedBlocks:
    """The blocks of an observable of the run and of the reference, and why they allow no test, if so.

    Parameters
    ----------
    run, reference : array, shape (n_blocks,) or (n_blocks, K)
    times : tuple of CorrelationTime
        Of both.
    sampling : tuple of float
        As `Series.sampling`, of both.
    noisy : tuple of bool
        Whether each is long enough to show its own noise.
    reason : Reason or None
    """

    run: FloatArray
    reference: FloatArray
    times: tuple[CorrelationTime, CorrelationTime]
    sampling: tuple[float, float]
    noisy: tuple[bool, bool]
    reason: Reason | None

    @staticmethod
    def of(
        run: Series,
        reference: Series,
        least: float,
        block: float | None = None,
        known: CorrelationTime = UNCORRELATED,
    ) -> PairedBlocks:
        """Divide both into blocks that suit the longer correlation time of the two.

        Parameters
        ----------
        run, reference : Series
        least : float
            The least length of a block in ps; a test needs five such blocks of both.
        block : float, optional
            What blocks last where there is time for five, in ps, if that is longer.
        known : CorrelationTime
            The least that is known of such an observable, where both may be too short to show it. Blocks and errors
            suit it; whether there is a test, the measured times decide.
        """
        series = run, reference
        found = [one.correlation_time() for one in series]
        first, second = (UNCORRELATED if time is None else time for time in found)
        slowest = slower(first, second)
        long = all(UNCORRELATED.allows_test(one.n_blocks, one.duration, least) for one in series)
        noisy = [slowest.allows_test(one.n_blocks, one.duration, least) for one in series]
        reason = None
        if None in found:
            reason = Reason.TOO_RARE
        elif not (long and any(noisy) and all(slowest.fits_in(one.duration) for one in series)):
            reason = Reason.TOO_SHORT
        suited = slower(slowest, known)
        return PairedBlocks(
            run.blocks(suited, block or least),
            reference.blocks(suited, block or least),
            (first, second),
            (run.sampling, reference.sampling),
            (noisy[0], noisy[1]),
            reason,
        )

    def quantity(self) -> Quantity:
        """The means side by side, with their difference."""
        return Quantity(estimate(self.run), estimate(self.reference), self.means())

    def means(self) -> MeanDifference:
        """The difference of the means."""
        return self._checked(compare_means(*self._tested, self.sampling))

    def curves(self) -> CurveDifference:
        """The difference of two curves."""
        return self._checked(compare_curves(*self._tested, self.sampling, enough=self.reason is None))

    @property
    def _tested(self) -> tuple[FloatArray, FloatArray]:
        """The blocks, a single one where they are too short to show their noise."""
        run, reference = (
            blocks if noisy else blocks.mean(axis=0, keepdims=True)
            for blocks, noisy in zip((self.run, self.reference), self.noisy, strict=True)
        )
        return run, reference

    def _checked(self, difference: Difference) -> Difference:
        """A difference, without its test where there can be none."""
        if self.reason is not None:
            return difference.untested(self.reason)
        blocks = self.run, self._tested[1]  # a run too short to show all its noise may show too much even so
        noises = mean_noise(blocks[0], self.sampling[0]), mean_noise(blocks[1], self.sampling[1])
        return without_test(difference) if noisier(noises, (len(blocks[0]), len(blocks[1]))) else difference


def widened(blocks: FloatArray, factor: float) -> FloatArray:
    """Blocks of the same mean whose scatter is multiplied by a factor."""
    mean = blocks.mean(axis=0)
    return np.asarray(mean + factor * (blocks - mean))
