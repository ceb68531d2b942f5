"""The coefficients of agent losses, of one model or of all members of a committee.

Index suffixes: A species of the agent, B of the neighbour, n radial function, a = (B, n) moment, l rank, k member.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from openmm_duality.geometry.arrays import FloatArray


@dataclass(frozen=True)
class Coefficients:
    """Coefficients of the losses of all species; those of a committee have the members as their first axis.

    Parameters
    ----------
    pair_coefficients : array, shape (S, S, n_p)
        u_ABn in kJ/mol.
    weights : mapping of int to array, shape (S, S·n, S·n)
        W^l_A in kJ/mol, symmetric in its last two axes, by rank l.
    couplings : array, shape (S, Q, Q)
        C_A in kJ/mol, symmetric, of the Q invariants φ.
    channel_weights : tuple of arrays, shape (F_A,)
        Coefficients c_A of the invariants B in kJ/mol, by agent species; empty for a form without channels.
    own : Coefficients or None
        Under `mutual` the coefficients δ of the own part, the others being those of the shared part.
    """

    pair_coefficients: FloatArray
    weights: Mapping[int, FloatArray]
    couplings: FloatArray
    channel_weights: tuple[FloatArray, ...]
    own: Coefficients | None = field(default=None, kw_only=True)

    def coefficient_fields(self) -> dict[str, Any]:
        """The coefficients by the names of the fields."""
        return {one.name: getattr(self, one.name) for one in fields(Coefficients)}

    def coefficient_arrays(self) -> dict[str, FloatArray]:
        """Convert the coefficients to arrays by their names in a model file."""
        arrays = {"pair_coefficients": self.pair_coefficients, "couplings": self.couplings}
        arrays |= {f"weights_{rank}": w for rank, w in self.weights.items()}
        arrays |= {f"channel_weights_{a}": w for a, w in enumerate(self.channel_weights)}
        if self.own is not None:
            arrays |= {f"own/{name}": array for name, array in self.own.coefficient_arrays().items()}
        return arrays


def read_coefficients(
    arrays: Mapping[str, FloatArray], ranks: Sequence[int], n_channels: int, with_own: bool
) -> Coefficients:
    """Read coefficients back from `Coefficients.coefficient_arrays`.

    Parameters
    ----------
    arrays : mapping of str to array
    ranks : sequence of int
        Contracted ranks of the form.
    n_channels : int
        Number of species with channels.
    with_own : bool
        Whether there is an own part beside the shared one.

    Raises
    ------
    KeyError
        If an array is missing.
    """
    own = {name.removeprefix("own/"): array for name, array in arrays.items() if name.startswith("own/")}
    return Coefficients(
        arrays["pair_coefficients"],
        {rank: arrays[f"weights_{rank}"] for rank in ranks},
        arrays["couplings"],
        tuple(arrays[f"channel_weights_{a}"] for a in range(n_channels)),
        own=read_coefficients(own, ranks, n_channels, False) if with_own else None,
    )


def combine(function: Callable[[Sequence[FloatArray]], FloatArray], parts: Sequence[Coefficients]) -> Coefficients:
    """Combine the corresponding arrays of several sets of coefficients by a function, such as their sum."""
    owns = [part.own for part in parts if part.own is not None]
    return Coefficients(
        function([part.pair_coefficients for part in parts]),
        {rank: function([part.weights[rank] for part in parts]) for rank in parts[0].weights},
        function([part.couplings for part in parts]),
        tuple(function(arrays) for arrays in zip(*(part.channel_weights for part in parts), strict=True)),
        own=combine(function, owns) if owns else None,
    )
