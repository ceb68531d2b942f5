"""How molecules forget which way they pointed: C₂(t) = ⟨P₂(u(0)·u(t))⟩ of their bonds, and its time τ₂.

After the first rattle C₂ decays exponentially; τ₂ is the time of that decay, fitted to ln C₂. In rotational diffusion
of a rod, τ₂ = 1/(6 D_rot).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.observables.displacement import Paths
from openmm_duality.observables.lagged import ONSET, Lagged, lagged
from openmm_duality.observables.statistics import Estimate

_FAINT = 0.05  # below, C₂ is noise
_FEWEST = 4  # lags in a fit
_NOTHING = 1e-6  # what a part of the data may sink to below zero counts as


@dataclass(frozen=True)
class Reorientation:
    """The reorientation of the bonds of one pair of species.

    Parameters
    ----------
    correlation : Lagged
        C₂.
    window : tuple of float or None
        First and last lag of the fit, in ps; None where C₂ has decayed before.
    time : Estimate or None
        τ₂ in ps.
    """

    correlation: Lagged
    window: tuple[float, float] | None
    time: Estimate | None


def reorientation(paths: Paths, longest: float) -> dict[str, Reorientation]:
    """Reorientation of the bonds of every pair of species.

    Parameters
    ----------
    paths : Paths
        As `collect` gives them.
    longest : float
        The longest lag in ps.
    """
    found = {}
    for name, along in paths.directions.items():
        curve = lagged(along, paths.spacing, longest, paths.owners[name], _second_legendre)
        fitted = (curve.lags >= ONSET - 1e-9) & (np.minimum.accumulate(curve.mean) > _FAINT)
        if fitted.sum() < _FEWEST:
            found[name] = Reorientation(curve, None, None)
            continue
        lags = curve.lags[fitted]

        time = curve.estimate(_Decay(lags, fitted))
        kept = time if np.isfinite(time.mean) else None
        found[name] = Reorientation(curve, (float(lags[0]), float(lags[-1])), kept)
    return found


@dataclass(frozen=True)
class _Decay:
    """The time of the exponential through a part of a curve."""

    lags: FloatArray
    part: np.ndarray[tuple[int], np.dtype[np.bool_]]

    def __call__(self, curve: FloatArray) -> float:
        heights = np.log(np.maximum(curve[self.part], _NOTHING))
        slope = np.polynomial.polynomial.polyfit(self.lags, heights, 1)[1]
        return float(-1 / slope) if slope < 0 else float("nan")


def _second_legendre(a: FloatArray, b: FloatArray) -> FloatArray:
    return np.asarray(1.5 * np.einsum("tmx,tmx->tm", a, b) ** 2 - 0.5)
