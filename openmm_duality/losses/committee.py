"""A committee of losses inferred from resampled blocks of the training data, and its calibrated uncertainty.

Index suffixes: k member, i agent, A species, x Cartesian.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from openmm_duality.geometry.arrays import FloatArray, IntArray
from openmm_duality.losses.coefficients import Coefficients, combine, read_coefficients
from openmm_duality.losses.domain import REFERENCE_SHARE

_OF_NORMAL = 1.4826  # standard deviation of normal numbers over their median absolute deviation
_NO_TAIL = 1e-3  # in place of zero, where a share falls at once
_CALIBRATION = ("residual", "scale", "limit", "tail")


@dataclass(frozen=True)
class Committee(Coefficients):
    """Members that share bases, gradient and core with the losses they belong to, but have different coefficients.

    A member is a refit to contiguous blocks of time drawn with replacement. The members share the systematic errors of
    the form, so that their standard deviation s alone underestimates the error: the standard deviation predicted for a
    component of the force on an agent of species A is σ = √(a_A² + b_A² s²). The first axis of all coefficients has the
    K members.

    Parameters
    ----------
    residual : array, shape (S,)
        a_A in kJ/mol/nm, the error common to all members.
    scale : array, shape (S,)
        b_A, the factor on the standard deviation s.
    limit : array, shape (S,)
        σ in kJ/mol/nm that `domain.REFERENCE_SHARE` of the agents exceed within the training distribution.
    tail : array, shape (S,)
        Growth of the logarithm of the limit where the share is smaller by a factor of e.
    """

    residual: FloatArray
    scale: FloatArray
    limit: FloatArray
    tail: FloatArray

    def limit_of(self, share: float) -> FloatArray:
        """Limits of σ that a share of the agents exceeds, shape (S,), by a tail that is a power law."""
        return self.limit * (REFERENCE_SHARE / share) ** self.tail

    def share_of(self, sigma: FloatArray, species_index: IntArray) -> FloatArray:
        """Share of the agents that exceeds each σ (N,), the inverse of `limit_of`."""
        ratio, tail = sigma / self.limit[species_index], np.maximum(self.tail[species_index], _NO_TAIL)
        with np.errstate(over="ignore"):
            return np.asarray(REFERENCE_SHARE * ratio ** (-1.0 / tail))

    def to_arrays(self) -> dict[str, FloatArray]:
        """Convert the committee to arrays by their names in a model file."""
        return {**{name: getattr(self, name) for name in _CALIBRATION}, **self.coefficient_arrays()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, FloatArray], losses: Coefficients) -> Committee:
        """Read the committee of losses back from `to_arrays`.

        Raises
        ------
        KeyError
            If an array is missing.
        ValueError
            If the shapes of the arrays are inconsistent with each other or with the losses.
        """
        arrays = {"tail": np.zeros_like(arrays["limit"]), **arrays}  # which older models lack
        members = len(arrays["pair_coefficients"])
        expected = {name: (members, *array.shape) for name, array in losses.coefficient_arrays().items()}
        expected |= dict.fromkeys(_CALIBRATION, losses.pair_coefficients.shape[:1])
        wrong = [name for name, shape in expected.items() if arrays[name].shape != shape]
        if wrong or members < 2 or not (arrays["limit"] > 0.0).all() or not (arrays["tail"] >= 0.0).all():
            raise ValueError(
                f"the arrays of the committee do not fit each other: {', '.join(wrong) or 'members, limit, tail'}"
            )
        found = read_coefficients(arrays, list(losses.weights), len(losses.channel_weights), losses.own is not None)
        calibration: dict[str, Any] = {name: arrays[name] for name in _CALIBRATION}
        return cls(**found.coefficient_fields(), **calibration)

    def member(self, k: int) -> Coefficients:
        """Coefficients of one member."""
        return combine(lambda arrays: arrays[0][k], [self])

    @property
    def size(self) -> int:
        """Number K of members."""
        return len(self.pair_coefficients)

    def uncertainty(self, forces: FloatArray, species_index: IntArray, robust: bool = False) -> FloatArray:
        """Predicted standard deviation σ of a force component by agent, shape (…, N) in kJ/mol/nm.

        Parameters
        ----------
        forces : array, shape (K, …, N, 3)
            Forces of the members in kJ/mol/nm.
        species_index : array of int, shape (N,)
        robust : bool
            Whether a few members that differ from all others do not count: those without the block in which alone
            something rare occurs extrapolate, while the others know it.
        """
        variance = (robust_variance_of if robust else variance_of)(forces)
        return np.sqrt(self.residual[species_index] ** 2 + self.scale[species_index] ** 2 * variance)


def variance_of(forces: FloatArray) -> FloatArray:
    """Variance s² over the members of forces (K, …, N, 3), averaged over the components, shape (…, N)."""
    return np.asarray(forces.var(axis=0, ddof=1).mean(axis=-1))


def robust_variance_of(forces: FloatArray) -> FloatArray:
    """The same from the median absolute deviations from the medians, which for normal numbers is the variance."""
    deviations = np.median(np.abs(forces - np.median(forces, axis=0)), axis=0)
    return np.asarray(((_OF_NORMAL * deviations) ** 2).mean(axis=-1))
