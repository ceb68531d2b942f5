"""Mean squared displacement and diffusion coefficients of the molecules.

D is a sixth of the slope of the mean squared displacement of the centres of mass, drift of the system removed. In a
periodic cubic cell of edge L it is too small by 2.837297 kT / (6π η L) (Yeh and Hummer, J. Phys. Chem. B 108, 15873
(2004)), which a viscosity η corrects.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.geometry.cells import volume
from openmm_duality.observables.displacement import Paths
from openmm_duality.observables.lagged import ONSET, Lagged, lagged
from openmm_duality.observables.statistics import Estimate
from openmm_duality.units import BOLTZMANN

YEH_HUMMER = 2.837297
PASCAL_SECOND = 1.66053906660e-6  # Pa s in 1 dalton/nm/ps
_CUBIC = 1e-3


@dataclass(frozen=True)
class Diffusion:
    """The motion of the molecules of one formula.

    Parameters
    ----------
    displacement : Lagged
        Mean squared displacement in nm².
    window : tuple of float
        First and last lag of the fitted line, in ps.
    coefficient : Estimate
        In nm²/ps, for this cell.
    correction : float or None
        What the finite cell takes away, in nm²/ps; None where no viscosity was given.
    """

    displacement: Lagged
    window: tuple[float, float]
    coefficient: Estimate
    correction: float | None


def diffusion(paths: Paths, longest: float, correction: float | None = None) -> dict[str, Diffusion]:
    """Diffusion of every kind of molecule.

    Parameters
    ----------
    paths : Paths
        As `collect` gives them.
    longest : float
        The longest lag in ps, at least twice `ONSET`.
    correction : float, optional
        Of the finite cell, in nm²/ps.
    """
    found = {}
    for name, centres in paths.centres.items():
        curve = lagged(centres, paths.spacing, longest, np.arange(centres.shape[1]), _squared_distance)
        window = curve.lags >= ONSET - 1e-9
        found[name] = Diffusion(
            displacement=curve,
            window=(float(curve.lags[window][0]), float(curve.lags[-1])),
            coefficient=curve.estimate(_Slope(curve.lags, window)),
            correction=correction,
        )
    return found


def finite_size(temperature: float, viscosity: float, cell: FloatArray | None) -> float | None:
    """What periodic images take from a diffusion coefficient, in nm²/ps; None unless the cell is a cube.

    Parameters
    ----------
    temperature : float
        In K.
    viscosity : float
        In dalton/nm/ps.
    cell : array, shape (3, 3), or None
        In nm.
    """
    if cell is None:
        return None
    edge = volume(cell) ** (1 / 3)
    if np.abs(cell @ cell.T / edge**2 - np.eye(3)).max() > _CUBIC:
        return None
    return float(YEH_HUMMER * BOLTZMANN * temperature / (6 * math.pi * viscosity * edge))


@dataclass(frozen=True)
class _Slope:
    """A sixth of the slope of the straight line through a part of a curve."""

    lags: FloatArray
    window: np.ndarray[tuple[int], np.dtype[np.bool_]]

    def __call__(self, curve: FloatArray) -> float:
        t = self.lags[self.window] - self.lags[self.window].mean()
        return float(t @ curve[self.window] / (t @ t) / 6)


def _squared_distance(a: FloatArray, b: FloatArray) -> FloatArray:
    return np.asarray(((b - a) ** 2).sum(axis=2))
