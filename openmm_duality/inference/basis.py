"""Radial bases that fit the data: knots close together where pair distances are sharply distributed.

The O–H bond of water is 0.01 nm wide and its outer shells are smooth; knots are placed at equal shares of a measure
that grows with the density of pair distances.
"""

from __future__ import annotations

import numpy as np

from openmm_duality.errors import DualityError
from openmm_duality.inference.layout import FloatArray
from openmm_duality.inference.survey import Survey
from openmm_duality.invariants.radial import Grid, RadialBasis, b_splines, inverse_powers
from openmm_duality.losses.model import core_onsets, levelled

FAMILIES = ("b-splines", "inverse-powers")
_SHARPNESS = 0.5  # exponent of the density in the measure


def make_basis(family: str, grid: Grid, size: int, survey: Survey) -> RadialBasis:
    """`size` functions for every pair of species, constant below its shortest distance.

    Parameters
    ----------
    family : str
        ``b-splines`` or ``inverse-powers``.

    Raises
    ------
    DualityError
        If the family is unknown or the grid too coarse for so many functions.
    """
    if family not in FAMILIES:
        raise DualityError(f"radial basis {family!r} is not known; the families are {', '.join(FAMILIES)}")
    onsets = core_onsets(survey.shortest, grid)
    s = len(onsets)
    coefficients = np.empty((s, s, size, grid.intervals + 3))
    for a in range(s):
        for b in range(s):
            if not size:
                continue
            if family == "b-splines":
                coefficients[a, b] = b_splines(grid, place_knots(grid, size, onsets[a, b], survey.density[a, b]))
            else:
                coefficients[a, b] = inverse_powers(grid, np.arange(1.0, size + 1), float(onsets[a, b]))
    return levelled(RadialBasis(grid, coefficients), survey.shortest)


def place_knots(grid: Grid, size: int, onset: float, density: FloatArray) -> FloatArray:
    """`size` + 1 knots on the grid from the shortest distance to the cutoff, in nm.

    Raises
    ------
    DualityError
        If there are fewer grid points than knots.
    """
    first = min(grid.below(onset), grid.intervals - 1)
    if grid.intervals - first < size:
        raise DualityError(
            f"{size} radial functions need at least as many grid intervals between the shortest distance "
            f"({onset:.4f} nm) and the cutoff ({grid.cutoff:.4f} nm), and there are {grid.intervals - first}; "
            "ask for fewer functions or a finer grid"
        )
    measure = density[first:] / max(density.max(), 1e-300)
    smooth = np.convolve(measure, np.ones(3) / 3.0, mode="same") ** _SHARPNESS
    share = smooth / max(smooth.sum(), 1e-300) + 1.0 / len(smooth)
    cumulative = np.concatenate([[0.0], np.cumsum(share) / share.sum()])
    wanted = np.interp(np.linspace(0.0, 1.0, size + 1), cumulative, np.arange(len(cumulative)))
    return (first + _distinct(np.round(wanted).astype(np.int64), len(smooth))) * grid.spacing


def _distinct(points: FloatArray, last: int) -> FloatArray:
    """The same increasing integers, moved apart so that none occurs twice, the last one fixed."""
    ramp = np.arange(len(points))
    forward = np.maximum.accumulate(points - ramp) + ramp
    return np.minimum(forward, last - ramp[::-1])
