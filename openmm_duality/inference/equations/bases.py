"""Radial bases adapted to the data, with denser knots where pair distances are sharply distributed.

The O–H bond of water is 0.01 nm wide, whereas its outer shells are smooth. The knots divide the integral of a weight
that increases with the density of pair distances into equal parts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from openmm_duality.errors import DualityError
from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.inference.equations.pair_statistics import PairStatistics
from openmm_duality.invariants.radial import Grid, RadialBasis, b_splines, chebyshev, inverse_powers
from openmm_duality.losses.cores import core_onsets

FAMILIES = ("b-splines", "inverse-powers")
SHARPNESS = 0.5
_DECAY = 0.1  # nm; with half the onset, the distance in which the resolution of smooth functions falls to 1/e


def make_basis(
    family: str,
    grid: Grid,
    size: int,
    statistics: PairStatistics,
    sharpness: float = SHARPNESS,
    knots: Mapping[tuple[int, int], Sequence[float]] | None = None,
) -> RadialBasis:
    """Make `size` radial functions for every pair of species.

    Parameters
    ----------
    family : str
        ``b-splines`` or ``inverse-powers``.
    grid : Grid
    size : int
    statistics : PairStatistics
    sharpness : float
        Exponent of the density of pair distances in the weight that determines the knots.
    knots : mapping of (A, B), A ≤ B, to sequence of float, optional
        Knots in nm, moved to the nearest grid points; those of other pairs follow from the density.

    Raises
    ------
    DualityError
        If the family is unknown, the grid is too coarse for `size` functions, or given knots do not fit.
    """
    if family not in FAMILIES:
        raise DualityError(f"radial basis {family!r} is not known; the families are {', '.join(FAMILIES)}")
    onsets = core_onsets(statistics.shortest, grid)
    nearest = np.where(np.isnan(statistics.shortest), onsets, np.minimum(statistics.shortest, grid.cutoff))
    s = len(onsets)
    coefficients = np.empty((s, s, size, grid.intervals + 3))
    for a in range(s):
        for b in range(s):
            if not size:
                continue
            if family == "b-splines":
                given = (knots or {}).get((min(a, b), max(a, b)))
                placed = (
                    place_knots(grid, size, onsets[a, b], nearest[a, b], statistics.density[a, b], sharpness)
                    if given is None
                    else given_knots(grid, size, given)
                )
                coefficients[a, b] = b_splines(grid, placed)
            else:
                coefficients[a, b] = inverse_powers(grid, np.arange(1.0, size + 1), float(nearest[a, b]))
    return RadialBasis(grid, coefficients)


def smooth_basis(grid: Grid, size: int, statistics: PairStatistics, end: float) -> RadialBasis:
    """Make `size` Chebyshev polynomials for every pair of species, from the onset of its core to a distance in nm."""
    onsets = core_onsets(statistics.shortest, grid)
    s = len(onsets)
    coefficients = np.empty((s, s, size, grid.intervals + 3))
    for a in range(s):
        for b in range(s):
            begin = min(float(onsets[a, b]), 0.5 * end)
            coefficients[a, b] = chebyshev(grid, size, begin, end, _DECAY + 0.5 * begin)
    return RadialBasis(grid, coefficients)


def given_knots(grid: Grid, size: int, knots: Sequence[float]) -> FloatArray:
    """User-defined knots, moved to the nearest grid points, in nm.

    Raises
    ------
    DualityError
        If they are not `size` + 1 increasing knots that end at the cutoff.
    """
    points = np.round(np.asarray(knots, dtype=np.float64) / grid.spacing).astype(np.int64)
    if len(points) != size + 1 or (np.diff(points) < 1).any() or points[0] < 0 or points[-1] != grid.intervals:
        raise DualityError(
            f"knots: {size} radial functions need {size + 1} increasing knots, at least {grid.spacing:.4f} nm apart, "
            f"that end at the cutoff ({grid.cutoff:.4f} nm); got {', '.join(f'{x:g}' for x in knots)}"
        )
    return np.asarray(points * grid.spacing, dtype=np.float64)


def place_knots(
    grid: Grid, size: int, onset: float, shortest: float, density: FloatArray, sharpness: float = SHARPNESS
) -> FloatArray:
    """Place `size` + 1 knots on the grid: the first at the onset, the others above the shortest distance, in nm.

    The first interval reaches into the data, which thus determine how the functions continue below them.

    Raises
    ------
    DualityError
        If there are fewer grid points than knots.
    """
    first = min(grid.below(shortest), grid.intervals - 1)
    if grid.intervals - first < size:
        raise DualityError(
            f"{size} radial functions need at least as many grid intervals between the shortest distance "
            f"({shortest:.4f} nm) and the cutoff ({grid.cutoff:.4f} nm), but there are {grid.intervals - first}; "
            "choose fewer functions or a finer grid"
        )
    measure = density[first:] / max(density.max(), 1e-300)
    smooth = np.convolve(measure, np.ones(3) / 3.0, mode="same") ** sharpness
    share = smooth / max(smooth.sum(), 1e-300) + 1.0 / len(smooth)
    cumulative = np.concatenate([[0.0], np.cumsum(share) / share.sum()])
    wanted = np.interp(np.linspace(0.0, 1.0, size + 1), cumulative, np.arange(len(cumulative)))
    points = first + _distinct(np.round(wanted).astype(np.int64), len(smooth))
    points[0] = min(grid.below(onset), first)
    return np.asarray(points * grid.spacing, dtype=np.float64)


def _distinct(points: FloatArray, last: int) -> FloatArray:
    """Move non-decreasing integers apart so that all differ, keeping the last one fixed."""
    ramp = np.arange(len(points))
    forward = np.maximum.accumulate(points - ramp) + ramp
    return np.minimum(forward, last - ramp[::-1])
