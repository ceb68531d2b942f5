"""Radial distribution functions and running coordination numbers.

Index suffixes: b block, s pair of species, k bin.
"""

from __future__ import annotations

from itertools import combinations_with_replacement

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.signal import find_peaks

from openmm_duality.geometry.arrays import FloatArray, IntArray
from openmm_duality.geometry.cells import volume
from openmm_duality.observables.curves import Curve, merged
from openmm_duality.observables.local_structure import Frame
from openmm_duality.observables.trajectory import counts, species_codes

BIN = 0.002  # nm
_SMOOTHING = 4.0  # bins; wide enough that the noise of g(r) makes no extrema
_PROMINENCE = 0.1  # of g(r)


class PairCounts:
    """Histogram of the distances of all pairs of atoms, by block and pair of species.

    Parameters
    ----------
    species : tuple of str, length N
        The species of every atom.
    n_blocks : int
        Number of blocks.
    r_max : float
        In nm, at most half the shortest width of the cell.
    """

    def __init__(self, species: tuple[str, ...], n_blocks: int, r_max: float) -> None:
        self.number = counts(species)
        distinct = list(self.number)
        self.names = [f"{a}-{b}" for a, b in combinations_with_replacement(distinct, 2)]
        self.code = species_codes(species)
        self.pair = np.zeros((len(distinct), len(distinct)), dtype=np.int64)
        self.pairs_of = np.zeros(len(self.names))
        for s, (a, b) in enumerate(combinations_with_replacement(range(len(distinct)), 2)):
            self.pair[a, b] = self.pair[b, a] = s
            n_a, n_b = self.number[distinct[a]], self.number[distinct[b]]
            self.pairs_of[s] = n_a * n_b if a != b else n_a * (n_a - 1) / 2
        self.n_bins = max(1, int(r_max / BIN + 1e-9))
        self.edges = np.asarray(np.arange(self.n_bins + 1) * BIN, dtype=np.float64)
        shape = (n_blocks, len(self.names), self.n_bins)
        self.counts = {selection: np.zeros(shape) for selection in ("whole", "between", "plain")}
        self.closest = np.full(len(self.names), np.inf)

    def add(self, b: int, frame: Frame, molecule: IntArray) -> None:
        """Count one frame, which must have a cell, with the molecule of every atom, shape (N,)."""
        if frame.cell is None:
            raise ValueError("g(r) asked of frames without a cell")
        near = frame.r < self.edges[-1]
        i, j, r = frame.i[near], frame.j[near], frame.r[near]
        s = self.pair[self.code[i], self.code[j]]
        np.minimum.at(self.closest, s, r)
        at = s * self.n_bins + np.minimum((r / BIN).astype(int), self.n_bins - 1)
        between = molecule[i] != molecule[j]
        size, shape = len(self.names) * self.n_bins, (len(self.names), self.n_bins)
        v = volume(frame.cell)
        apart = np.bincount(at[between], minlength=size).reshape(shape)
        self.counts["whole"][b] += v * np.bincount(at, minlength=size).reshape(shape)
        self.counts["between"][b] += v * apart
        self.counts["plain"][b] += apart

    def shortest(self) -> dict[str, float]:
        """The shortest distance of every pair of species, in nm."""
        return {name: float(r) for name, r in zip(self.names, self.closest, strict=True) if np.isfinite(r)}

    def rdf(self, selection: str, group: IntArray, frames_in: IntArray) -> dict[str, Curve]:
        """g(r) in coarser blocks.

        Parameters
        ----------
        selection : str
            ``"between"`` molecules or the ``"whole"``.
        group : array of int
            The coarse block of every block.
        frames_in : array of int
            Number of frames in every coarse block.
        """
        shells = 4 / 3 * np.pi * np.diff(self.edges**3)
        centres = 0.5 * (self.edges[1:] + self.edges[:-1])
        totals = merged(self.counts[selection], group)
        return {
            name: Curve(centres, totals[:, s] / (frames_in[:, None] * self.pairs_of[s] * shells))
            for s, name in enumerate(self.names)
            if self.pairs_of[s] > 0
        }

    def coordination(self, group: IntArray, frames_in: IntArray) -> dict[str, Curve]:
        """Running coordination numbers between molecules: under "A-B", the B within r of an A."""
        running = np.cumsum(merged(self.counts["plain"], group), axis=2) / frames_in[:, None, None]
        found = {}
        for s, name in enumerate(self.names):
            a, b = name.split("-")
            for key, around in ((name, a), (f"{b}-{a}", b)):
                ends = 2 if a == b else 1
                found[key] = Curve(self.edges[1:], np.asarray(running[:, s] * ends / self.number[around]))
        return dict(sorted(found.items()))


def first_minimum(r: FloatArray, g: FloatArray) -> float | None:
    """Edge of the first shell of a g(r): the lowest point between its first two maxima, in nm; None if there is none.

    Parameters
    ----------
    r, g : array, shape (K,)
        Distances in nm and g(r); smoothed here over 8 pm.
    """
    smooth = gaussian_filter1d(g, _SMOOTHING)
    peaks = find_peaks(smooth, prominence=_PROMINENCE)[0]
    if not len(peaks):
        return None
    end = peaks[1] if len(peaks) > 1 else len(g) - 1
    lowest = peaks[0] + int(np.argmin(smooth[peaks[0] : end + 1]))
    return None if lowest >= len(g) - 1 else float(r[lowest])
