"""The main bands of a vibrational spectrum and their centroids."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.signal import find_peaks

from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.observables.curves import Curve

Band = tuple[float, float]  # first and last wavenumber in cm⁻¹

_FLOOR = 0.01  # of the highest density: below lies no band
_SMALLEST = 0.02  # of the area: a band holds more
_VALLEY = 0.4  # of the lower of two peaks: a deeper valley parts two bands
_SMOOTHING = 20.0  # cm⁻¹
_GRID = 50.0  # cm⁻¹, to which limits are rounded


def find_bands(spectrum: Curve) -> tuple[Band, ...]:
    """Where the main bands of a density of states lie: parted by deep valleys, and each with 2 % of the area or more.

    Parameters
    ----------
    spectrum : Curve
        Against evenly spaced wavenumbers in cm⁻¹.
    """
    nu, width = spectrum.centres, spectrum.centres[1] - spectrum.centres[0]
    density = gaussian_filter1d(spectrum.mean, _SMOOTHING / width)
    floor = _FLOOR * density.max()
    # a peak at the border counts too, as the diffusive end of a liquid's spectrum
    peaks = find_peaks(np.concatenate([[0.0], density, [0.0]]), prominence=floor, height=2 * floor)[0] - 1
    cuts = [0]
    for left, right in pairwise(peaks):
        valley = left + int(np.argmin(density[left : right + 1]))
        if density[valley] < _VALLEY * min(density[left], density[right]):
            cuts.append(valley)
    bands: list[Band] = []
    for start, end in pairwise([*cuts, len(nu)]):
        if spectrum.mean[start:end].sum() < _SMALLEST * spectrum.mean.sum():
            continue
        inside = start + np.flatnonzero(density[start:end] > floor)
        low, high = _GRID * np.floor(nu[inside[0]] / _GRID), _GRID * np.ceil(nu[inside[-1]] / _GRID)
        bands.append((float(max(low, bands[-1][1] if bands else 0.0)), float(high)))
    return tuple(bands)


def shares(spectrum: Curve, band: Band) -> FloatArray:
    """How much of the whole density lies in a band, in every block, shape (n_blocks,)."""
    inside = (spectrum.centres >= band[0]) & (spectrum.centres <= band[1])
    return np.asarray(spectrum.blocks[:, inside].sum(axis=1) / spectrum.blocks.sum(axis=1))


def centroids(spectrum: Curve, band: Band) -> FloatArray:
    """Mean wavenumber of a band in every block, weighted by the density, shape (n_blocks,) in cm⁻¹."""
    nu = spectrum.centres
    inside = (nu >= band[0]) & (nu <= band[1])
    weights = spectrum.blocks[:, inside]
    with np.errstate(invalid="ignore"):
        return np.asarray((weights @ nu[inside]) / weights.sum(axis=1))
