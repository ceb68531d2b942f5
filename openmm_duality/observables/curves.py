"""Curves and distributions measured in contiguous blocks of time, and the histograms that collect them.

Index suffixes: b block, s label, k bin.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from openmm_duality.geometry.arrays import FloatArray, IntArray
from openmm_duality.observables.statistics import Estimate, estimate


@dataclass(frozen=True)
class Curve:
    """A curve measured in every block.

    Parameters
    ----------
    centres : array, shape (K,)
        Where it is known: the middles of the bins, in nm, degrees, ps or cm⁻¹.
    blocks : array, shape (n_blocks, K)
        The curve of every block.
    """

    centres: FloatArray
    blocks: FloatArray

    @property
    def mean(self) -> FloatArray:
        """Mean over the blocks, shape (K,)."""
        return np.asarray(self.blocks.mean(axis=0))


@dataclass(frozen=True)
class Distribution(Curve):
    """A normalised distribution, with its mean and standard deviation in every block, shapes (n_blocks,)."""

    block_means: FloatArray
    block_spreads: FloatArray

    @property
    def average(self) -> Estimate:
        """The mean of the distribution with its error."""
        return estimate(self.block_means)

    @property
    def spread(self) -> Estimate:
        """The standard deviation of the distribution with its error."""
        return estimate(self.block_spreads)


class Histogram:
    """Histogram and moments of one number per item and frame, by block and label of the item.

    Parameters
    ----------
    names : list of str
        The labels.
    edges : array, shape (K + 1,)
        Evenly spaced.
    n_blocks : int
        Number of blocks.
    """

    def __init__(self, names: list[str], edges: FloatArray, n_blocks: int) -> None:
        self.names, self.edges = names, edges
        self.counts = np.zeros((n_blocks, len(names), len(edges) - 1))
        self.sums = np.zeros((n_blocks, len(names), 3))  # number, sum, sum of squares

    def add(self, b: int, values: FloatArray, label: IntArray) -> None:
        """Count values of block b, shape (n,), with the place of their label in `names`."""
        n_bins, width = len(self.edges) - 1, self.edges[1] - self.edges[0]
        k = np.floor((values - self.edges[0]) / width).astype(int)
        inside = (k >= 0) & (k < n_bins)  # the moments hold the rest too, so a broken bond is not lost
        at = label[inside] * n_bins + k[inside]
        self.counts[b] += np.bincount(at, minlength=len(self.names) * n_bins).reshape(-1, n_bins)
        self.sums[b] += np.stack([np.bincount(label, values**p, minlength=len(self.names)) for p in range(3)], axis=1)

    def distributions(self, group: IntArray) -> dict[str, Distribution]:
        """The distributions in coarser blocks, of the labels that every one of them has seen.

        Parameters
        ----------
        group : array of int, shape (n_blocks,)
            The coarse block of every block.
        """
        counts, sums = merged(self.counts, group), merged(self.sums, group)
        centres = 0.5 * (self.edges[1:] + self.edges[:-1])
        found = {}
        for s, name in enumerate(self.names):
            number = sums[:, s, 0]
            if not number.all():
                continue
            means = sums[:, s, 1] / number
            spreads = np.sqrt(np.maximum(sums[:, s, 2] / number - means**2, 0))
            density = counts[:, s] / number[:, None] / np.diff(self.edges)
            found[name] = Distribution(centres, density, means, spreads)
        return found


def merged(sums: FloatArray, group: IntArray) -> FloatArray:
    """Sums of blocks, shape (n_blocks, ...), added up in coarser blocks, shape (n_groups, ...)."""
    out = np.zeros((int(group[-1]) + 1, *sums.shape[1:]))
    np.add.at(out, group, sums)
    return out
