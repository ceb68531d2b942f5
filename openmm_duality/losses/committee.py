"""A committee of losses inferred from resampled blocks of the training data, and its calibrated uncertainty.

Index suffixes: k member, i agent, A species, x Cartesian.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from openmm_duality.geometry.arrays import FloatArray, IntArray


@dataclass(frozen=True)
class Committee:
    """Members that share bases, gradient and core with the losses they belong to, but have different coefficients.

    A member is a refit to contiguous blocks of time drawn with replacement. The members share the systematic errors of
    the form, so that their standard deviation s alone underestimates the error: the standard deviation predicted for a
    component of the force on an agent of species A is σ = √(a_A² + b_A² s²).

    Parameters
    ----------
    pair_coefficients : array, shape (K, S, S, n_p)
        u_ABn of each member in kJ/mol.
    weights : mapping of int to array, shape (K, S, S·n, S·n)
        W^l_A in kJ/mol by rank l.
    couplings : array, shape (K, S, Q, Q)
        C_A in kJ/mol.
    channel_weights : tuple of arrays, shape (K, F_A)
        c_A in kJ/mol, by agent species; empty for a form without channels.
    residual : array, shape (S,)
        a_A in kJ/mol/nm, the error common to all members.
    scale : array, shape (S,)
        b_A, the factor on the standard deviation s.
    limit : array, shape (S,)
        Largest σ in kJ/mol/nm expected within the training distribution.
    """

    pair_coefficients: FloatArray
    weights: Mapping[int, FloatArray]
    couplings: FloatArray
    channel_weights: tuple[FloatArray, ...]
    residual: FloatArray
    scale: FloatArray
    limit: FloatArray

    def to_arrays(self) -> dict[str, FloatArray]:
        """Convert the committee to arrays by their names in a model file."""
        weights = {f"weights_{rank}": w for rank, w in self.weights.items()}
        weights |= {f"channel_weights_{a}": w for a, w in enumerate(self.channel_weights)}
        names = ("pair_coefficients", "couplings", "residual", "scale", "limit")
        return {**{name: getattr(self, name) for name in names}, **weights}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, FloatArray], shapes: Mapping[str, tuple[int, ...]]) -> Committee:
        """Read the committee back from `to_arrays`.

        Parameters
        ----------
        arrays : mapping of str to array
        shapes : mapping of str to tuple of int
            Shapes of the coefficients of the losses themselves, by the names of `to_arrays`.

        Raises
        ------
        KeyError
            If an array is missing.
        ValueError
            If the shapes of the arrays are inconsistent with each other or with the losses.
        """
        members = len(arrays["pair_coefficients"])
        expected = {name: (members, *shape) for name, shape in shapes.items()}
        expected |= dict.fromkeys(("residual", "scale", "limit"), shapes["pair_coefficients"][:1])
        wrong = [name for name, shape in expected.items() if arrays[name].shape != shape]
        if wrong or members < 2 or not (arrays["limit"] > 0.0).all():
            raise ValueError(
                f"the arrays of the committee do not fit each other: {', '.join(wrong) or 'members, limit'}"
            )
        weights = {int(name.removeprefix("weights_")): arrays[name] for name in shapes if name.startswith("weights_")}
        channel_weights = tuple(arrays[name] for name in shapes if name.startswith("channel_weights_"))
        names = ("pair_coefficients", "couplings", "residual", "scale", "limit")
        return cls(weights=weights, channel_weights=channel_weights, **{name: arrays[name] for name in names})

    @property
    def size(self) -> int:
        """Number K of members."""
        return len(self.pair_coefficients)

    def uncertainty(self, forces: FloatArray, species_index: IntArray) -> FloatArray:
        """Predicted standard deviation σ of a force component by agent, shape (…, N) in kJ/mol/nm.

        Parameters
        ----------
        forces : array, shape (K, …, N, 3)
            Forces of the members in kJ/mol/nm.
        species_index : array of int, shape (N,)
        """
        return np.sqrt(self.residual[species_index] ** 2 + self.scale[species_index] ** 2 * variance_of(forces))


def variance_of(forces: FloatArray) -> FloatArray:
    """Variance s² over the members of forces (K, …, N, 3), averaged over the components, shape (…, N)."""
    return np.asarray(forces.var(axis=0, ddof=1).mean(axis=-1))
