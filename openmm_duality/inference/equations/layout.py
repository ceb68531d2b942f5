"""Where each coefficient of the losses stands in the vector that inference solves for.

Columns come in groups: pair columns of a pair of species, and for every species the upper triangle of W of each rank,
then that of its couplings. Where energies join the fit, the constant of every composition has a last column.
Under `collective` all columns form one problem and u_AB = u_BA share theirs (the gauge); under `agent` every species
is a problem of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from openmm_duality.geometry.arrays import FloatArray, IntArray
from openmm_duality.invariants.contractions import count
from openmm_duality.losses.forms import Form


@dataclass(frozen=True)
class Layout:
    """The columns of the problems.

    Parameters
    ----------
    form : Form
    gradient : str
    n_species, n_pair, n, n_coarse : int
        Species S, functions of the pair part, of the contracted moments, and of the coupled invariants.
    n_constants : int
        Constants of the energy, one for every composition; none under `agent` or without energies.
    """

    form: Form
    gradient: str
    n_species: int
    n_pair: int
    n: int
    n_coarse: int = 0
    n_constants: int = 0

    @cached_property
    def triangle(self) -> tuple[IntArray, IntArray]:
        """Rows and columns of the upper triangle of W^l_A, each of length S·n (S·n + 1)/2."""
        return _triangle(self.n_species * self.n)

    @cached_property
    def coupled_triangle(self) -> tuple[IntArray, IntArray]:
        """Rows and columns of the upper triangle of C_A, each of length Q (Q + 1)/2."""
        return _triangle(count(self.n_species * self.n_coarse, self.form.coupled))

    @property
    def problems(self) -> list[tuple[int, ...]]:
        """The species whose losses each problem infers."""
        everyone = tuple(range(self.n_species))
        return [everyone] if self.gradient == "collective" else [(a,) for a in everyone]

    def pairs(self, problem: tuple[int, ...]) -> list[tuple[int, int]]:
        """The pairs of species (A, B) with pair columns of their own, in the order of the columns."""
        tied = self.gradient == "collective"
        return [(a, b) for a in problem for b in range(self.n_species) if not tied or a <= b]

    def size(self, problem: tuple[int, ...]) -> int:
        """Number of columns of a problem."""
        return sum(self.part_sizes(problem))

    def shares(self, at_most: int | None) -> list[int] | None:
        """How many of at most so many coefficients each problem may have, in proportion to its size; None for all."""
        sizes = [self.size(problem) - self.n_constants for problem in self.problems]
        if at_most is None or at_most >= sum(sizes):
            return None
        return [max(1, at_most * size // sum(sizes)) for size in sizes]

    def unpack(self, solutions: list[FloatArray]) -> tuple[FloatArray, dict[int, FloatArray], FloatArray]:
        """Coefficients from the solution of every problem, without the constants of the energy.

        Returns
        -------
        u : array, shape (S, S, n_p)
        weights : dict of int to array, shape (S, S·n, S·n)
            W^l by rank.
        couplings : array, shape (S, Q, Q)
        """
        s, width = self.n_species, self.n_species * self.n
        invariants = count(s * self.n_coarse, self.form.coupled)
        u = np.zeros((s, s, self.n_pair))
        weights = {rank: np.zeros((s, width, width)) for rank in self.form.ranks}
        couplings = np.zeros((s, invariants, invariants))
        for problem, solution in zip(self.problems, solutions, strict=True):
            parts = iter(np.split(solution, np.cumsum(self.part_sizes(problem))[:-1]))
            for a, b in self.pairs(problem):
                u[a, b] = next(parts)
                if self.gradient == "collective":
                    u[b, a] = u[a, b]
            for a in problem:
                for rank in self.form.ranks:
                    weights[rank][a] = _symmetric(self.triangle, next(parts), width)
                couplings[a] = _symmetric(self.coupled_triangle, next(parts), invariants)
        return u, weights, couplings

    def pack(self, u: FloatArray, weights: Mapping[int, FloatArray], couplings: FloatArray) -> list[FloatArray]:
        """The inverse of `unpack`, for coefficients in the gauge of the layout; the constants are zero."""
        solutions = []
        for problem in self.problems:
            parts = [u[a, b] for a, b in self.pairs(problem)]
            for a in problem:
                parts += [weights[rank][a][self.triangle] for rank in self.form.ranks]
                parts.append(couplings[a][self.coupled_triangle])
            parts.append(np.zeros(self.n_constants))
            solutions.append(np.concatenate(parts))
        return solutions

    def part_sizes(self, problem: tuple[int, ...]) -> list[int]:
        """Number of columns of every group: pairs, then by species the ranks and the couplings, then the constants."""
        of_species = [len(self.triangle[0])] * len(self.form.ranks) + [len(self.coupled_triangle[0])]
        return [self.n_pair] * len(self.pairs(problem)) + of_species * len(problem) + [self.n_constants]


def _triangle(width: int) -> tuple[IntArray, IntArray]:
    rows, columns = np.triu_indices(width)
    return rows.astype(np.int64), columns.astype(np.int64)


def _symmetric(triangle: tuple[IntArray, IntArray], values: FloatArray, width: int) -> FloatArray:
    matrix = np.zeros((width, width))
    matrix[triangle] = values
    return np.asarray(matrix + matrix.T - np.diag(np.diag(matrix)))
