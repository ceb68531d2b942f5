"""Equations of one group of species as a model stores them, so that frames can be added to it later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isqrt

import numpy as np

from openmm_duality.geometry.arrays import BoolArray, FloatArray
from openmm_duality.inference.equations.penalties import ROTAMERS, SEPARATIONS, SYMMETRIES, Penalty
from openmm_duality.inference.equations.solution import NormalEquations

_RHS = "rhs"  # behind the name of a penalty
_FURTHER = (ROTAMERS, SEPARATIONS, *SYMMETRIES)


@dataclass(frozen=True)
class StoredEquations:
    """Normal equations of P columns, and what stays fixed when frames are added to them.

    Parameters
    ----------
    total : NormalEquations
        Of all frames.
    scale : array, shape (P,)
        Scales of the columns.
    selected : array of bool, shape (P,), optional
        Columns whose coefficients are fitted; all by default.
    curvature_changes : array, shape (P, P), optional
        Penalty of a form with channels (`displaced_frames`).
    further : mapping of str to (matrix, right-hand side), arrays of shape (p, p) and (p,)
        Penalties on synthetic frames and on symmetries by name, on the last p columns.
    """

    total: NormalEquations
    scale: FloatArray
    selected: BoolArray | None = None
    curvature_changes: FloatArray | None = None
    further: Mapping[str, tuple[FloatArray, FloatArray]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        total: NormalEquations,
        scale: FloatArray,
        selected: BoolArray | None,
        curvature_changes: FloatArray | None,
        penalties: Sequence[Penalty],
    ) -> StoredEquations:
        """Equations, with those penalties that are on synthetic frames and on symmetries."""
        found = {}
        for one in penalties:
            if one.name in _FURTHER and one.rhs is not None:
                ((_, matrix),) = one.blocks
                found[one.name] = matrix, one.rhs[len(one.rhs) - len(matrix) :]
        return cls(total, scale, selected, curvature_changes, found)

    @property
    def further_penalties(self) -> tuple[Penalty, ...]:
        """The penalties on synthetic frames and on symmetries."""
        size = len(self.scale)
        return tuple(Penalty.of_last(name, size, *parts) for name, parts in self.further.items())

    def to_arrays(self, prefix: str) -> dict[str, FloatArray]:
        """Convert to arrays for a model file; of symmetric matrices only the upper triangle is stored."""
        found = {
            "gram": _upper_triangle(self.total.gram),
            "rhs": self.total.rhs,
            "column_squares": self.total.column_squares,
            "sums": np.array([self.total.target_squares, self.total.weight]),
            "scale": self.scale,
        }
        if self.selected is not None:
            found["selected"] = self.selected.astype(np.float64)
        if self.curvature_changes is not None:
            found["curvature_changes"] = _upper_triangle(self.curvature_changes)
        for name, (matrix, rhs) in self.further.items():
            found |= {name: _upper_triangle(matrix), f"{name} {_RHS}": rhs}
        return {prefix + name: array for name, array in found.items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, FloatArray], prefix: str) -> StoredEquations:
        """Read back what `to_arrays` wrote."""
        found = {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
        target_squares, weight = map(float, found["sums"])
        gram, rhs, squares = _symmetric(found["gram"]), found["rhs"].copy(), found["column_squares"].copy()
        further = {}
        for name in (name for name in _FURTHER if name in found):
            matrix = _symmetric(found[name])
            # a model of version 0.6 has only the pump, without its right-hand side, which is zero
            further[name] = matrix, found.get(f"{name} {_RHS}", np.zeros(len(matrix)))
        return cls(
            NormalEquations(gram, rhs, squares, target_squares, weight),
            found["scale"],
            found["selected"] > 0.0 if "selected" in found else None,
            _symmetric(found["curvature_changes"]) if "curvature_changes" in found else None,
            further,
        )


def _upper_triangle(matrix: FloatArray) -> FloatArray:
    return np.concatenate([row[k:] for k, row in enumerate(matrix)])


def _symmetric(triangle: FloatArray) -> FloatArray:
    size = isqrt(2 * len(triangle))
    matrix = np.zeros((size, size))
    ends = np.cumsum(np.arange(size, 0, -1))[:-1]
    for k, row in enumerate(np.split(triangle, ends)):
        matrix[k, k:] = matrix[k:, k] = row
    return matrix
