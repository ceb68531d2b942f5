"""Equations of one group of species as a model stores them, so that frames can be added to it later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt

import numpy as np

from openmm_duality.geometry.arrays import BoolArray, FloatArray
from openmm_duality.inference.equations.solution import NormalEquations


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
    pump : array, shape (p, p), optional
        Penalty on the pump of an own part of p columns (`pump`).
    """

    total: NormalEquations
    scale: FloatArray
    selected: BoolArray | None = None
    curvature_changes: FloatArray | None = None
    pump: FloatArray | None = None

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
        for name, matrix in (("curvature_changes", self.curvature_changes), ("pump", self.pump)):
            if matrix is not None:
                found[name] = _upper_triangle(matrix)
        return {prefix + name: array for name, array in found.items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, FloatArray], prefix: str) -> StoredEquations:
        """Read back what `to_arrays` wrote."""
        found = {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
        target_squares, weight = map(float, found["sums"])
        gram, rhs, squares = _symmetric(found["gram"]), found["rhs"].copy(), found["column_squares"].copy()
        return cls(
            NormalEquations(gram, rhs, squares, target_squares, weight),
            found["scale"],
            found["selected"] > 0.0 if "selected" in found else None,
            *(_symmetric(found[name]) if name in found else None for name in ("curvature_changes", "pump")),
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
