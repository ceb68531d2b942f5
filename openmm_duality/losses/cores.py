"""Repulsion below the distances in the training data: walls that continue what the data show, and cores.

Close below the shortest distances the radial functions continue, and the walls add what they lack; farther down they
level off, and the cores take over. Species that the data show only far apart, or never, have a core that begins where
their elements touch (`geometry.contacts`), and no wall.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.geometry.contacts import contacts, have_met
from openmm_duality.invariants.radial import Grid, RadialBasis, level_off

_ONSET = 0.85  # of the shortest distance in the data, where the core begins
_LEVELLING = 0.2  # of the onset, the length over which the radial functions level off below it
_FLOOR = 0.01  # nm below which the core is a straight line, so that it stays finite


def core_onsets(shortest: FloatArray, grid: Grid) -> FloatArray:
    """A fraction of the shortest distance of each pair of species (nm), or half the cutoff if it has none.

    Radial functions level off there, and a core begins at that fraction of a contact. Between it and the shortest
    distance the functions continue, so that a wall that the data show is continued too.
    """
    return _fraction_of(shortest, _ONSET, grid)


def unit_cores(closest: FloatArray, grid: Grid) -> FloatArray:
    """Spline coefficients of the cores (r_0/r − 1)³ of unit strength, shape (S, S, K + 3); linear below 0.01 nm."""
    # the splines extend one interval beyond r_0, so it is placed one interval below the onset
    intervals = [[grid.below(d) - 1 for d in row] for row in core_onsets(closest, grid)]
    r_0 = np.array(intervals)[..., None] * grid.spacing
    r = np.maximum(grid.centres, _FLOOR)
    x = np.clip(r_0 / r - 1.0, 0.0, None)
    curvature = np.where(grid.centres > _FLOOR, 6.0 * x * (r_0 / r**2) ** 2 + 6.0 * x**2 * r_0 / r**3, 0.0)
    return grid.coefficients(x**3 + 3.0 * x**2 * r_0 / r**2 * (r - grid.centres), curvature)


def wall_onsets(shortest: FloatArray, grid: Grid) -> FloatArray:
    """Onset of the wall of each pair of species (nm): the grid point below its shortest distance, shape (S, S)."""
    distances = _fraction_of(shortest, 1.0, grid)
    return np.array([[grid.spacing * max(grid.below(float(d)), 1) for d in row] for row in distances])


def _fraction_of(shortest: FloatArray, fraction: float, grid: Grid) -> FloatArray:
    """A fraction of the shortest distances within the cutoff, or half the cutoff where there are none."""
    return np.where(np.isnan(shortest), 0.5 * grid.cutoff, fraction * np.minimum(shortest, grid.cutoff))


def unit_walls(shortest: FloatArray, grid: Grid) -> FloatArray:
    """Spline coefficients of the walls (1 − r/r_w)⁴ of unit strength, shape (S, S, K + 3)."""
    onsets = wall_onsets(shortest, grid)[..., None]
    x = 1.0 - grid.centres / onsets
    inside = grid.centres < onsets - 1.5 * grid.spacing  # a spline extends two intervals to either side
    return np.where(inside, grid.coefficients(x**4, 12.0 * x**2 / onsets**2), 0.0)


def levelled(basis: RadialBasis, shortest: FloatArray, species: Sequence[str]) -> RadialBasis:
    """Let every function of a basis level off below the onset of the core of its pair of species.

    Those of pairs that have not met in the data level off below their shortest distance already: what they would
    continue there is no wall but the noise of few distances.
    """
    far = ~have_met(shortest, contacts(shortest, species)) & ~np.isnan(shortest)
    onsets = np.where(far, np.minimum(shortest, basis.grid.cutoff), core_onsets(shortest, basis.grid))
    coefficients = np.array(
        [
            [level_off(basis.grid, c, float(d), _LEVELLING * float(d)) for c, d in zip(row, distances, strict=True)]
            for row, distances in zip(basis.coefficients, onsets, strict=True)
        ]
    )
    return RadialBasis(basis.grid, coefficients)
