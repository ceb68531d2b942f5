"""Limits that a quantity passes once in so many frames, extrapolated from the largest value of each frame."""

from __future__ import annotations

import numpy as np

from openmm_duality.geometry.arrays import FloatArray

FALSE_ALARMS = 1e-6  # per frame; looks in a run are more than frames in the data, and its tails longer
FURTHEST = 3.0  # times the largest value there is: so far at the most does an extrapolation reach
_TAIL = 0.2  # of the frames, whose values make up the tail


def limit(largest: FloatArray, rate: float = FALSE_ALARMS, power_law: bool = False) -> float:
    """The value that a frame of the same kind passes at a rate, by an exponential tail, or that of a power.

    Parameters
    ----------
    largest : array, shape (T,)
        The largest value in every frame, above zero.
    rate : float
        Frames above the limit, as a share of all.
    power_law : bool
        Whether the logarithm has the exponential tail.
    """
    values = np.log(largest) if power_law else largest
    begin = float(np.quantile(values, 1.0 - _TAIL))
    excess = values[values >= begin] - begin
    found = begin + float(excess.mean()) * float(np.log(_TAIL / rate))
    furthest = FURTHEST * float(largest.max())
    return min(float(np.exp(min(found, np.log(furthest)))) if power_law else found, furthest)
