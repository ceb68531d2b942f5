"""Numbers of every frame, of a run and of a reference, compared: means with their test, distributions and widths.

Index suffixes: t frame, b block, k bin.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.observables.correlation_times import CorrelationTime, slower
from openmm_duality.observables.curves import Distribution
from openmm_duality.observables.differences import MeanDifference
from openmm_duality.observables.paired_blocks import PairedBlocks, Series, widened
from openmm_duality.observables.results import DistributionComparison
from openmm_duality.observables.statistics import Reason, block_means, block_of

_BINS = 60


@dataclass(frozen=True)
class FrameSeries:
    """A number of every frame, evenly spaced in time.

    Parameters
    ----------
    values : array, shape (T,)
        In any unit.
    duration : float
        Of all frames, in ps.
    atoms : int
        In a frame, among which the number is averaged.
    """

    values: FloatArray
    duration: float
    atoms: int

    def means(self) -> Series:
        """Its means in blocks of time."""
        return Series(lambda n: block_means(self.values, n), len(self.values), self.duration, self.atoms)

    def distribution(self, edges: FloatArray, means: FloatArray, factor: float) -> Distribution:
        """Its distribution in as many blocks of time as there are means, with its standard deviation.

        Parameters
        ----------
        edges : array, shape (K + 1,)
            Of the bins, evenly spaced.
        means : array, shape (n_blocks,)
            Of the blocks, widened.
        factor : float
            By which their scatter was widened.
        """
        n_bins, block = len(edges) - 1, block_of(len(self.values), len(means))
        k = np.clip(np.searchsorted(edges, self.values, side="right") - 1, 0, n_bins - 1)
        counts = np.bincount(block * n_bins + k, minlength=len(means) * n_bins).reshape(-1, n_bins)
        density = counts / counts.sum(axis=1, keepdims=True) / np.diff(edges)
        spreads = np.sqrt(
            np.maximum(block_means(self.values**2, len(means)) - block_means(self.values, len(means)) ** 2, 0)
        )
        return Distribution(0.5 * (edges[1:] + edges[:-1]), widened(density, factor), means, widened(spreads, factor))


def compare_series(
    run: FrameSeries, reference: FrameSeries, least: float
) -> tuple[DistributionComparison, tuple[CorrelationTime, CorrelationTime]]:
    """Compare a number of every frame; the correlation times are those of the run and of the reference.

    The means are tested. Numbers that never change in either have no noise to test with: they are the same or not.

    Parameters
    ----------
    run, reference : FrameSeries
    least : float
        The least length of a block in ps.
    """
    both = PairedBlocks.of(run.means(), reference.means(), least)
    slowest = slower(*both.times)
    low, high = (float(of([of(run.values), of(reference.values)])) for of in (np.min, np.max))
    edges = np.linspace(low, high, _BINS + 1) if high > low else np.linspace(low - 0.5, low + 0.5, _BINS + 2)
    sides = [
        one.distribution(edges, means, slowest.widening(one.duration, len(means)))
        for one, means in ((run, both.run), (reference, both.reference))
    ]
    mean = both.means()
    if not np.ptp(run.values) and not np.ptp(reference.values):
        mean = mean.untested(Reason.CONSTANT)
    wider = MeanDifference(sides[0].spread.mean - sides[1].spread.mean, None, None, Reason.IMPLIED)
    return DistributionComparison(sides[0], sides[1], mean, wider), both.times
