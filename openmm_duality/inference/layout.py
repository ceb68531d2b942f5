"""Where each coefficient of the losses stands in the vector that inference solves for.

Columns come in groups: pair columns of a pair of species, and for every species and rank the upper triangle of W.
Under `collective` all columns form one problem and u_AB = u_BA share theirs (the gauge); under `agent` every species
is a problem of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from openmm_duality.losses.forms import Form

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Layout:
    """The columns of the problems.

    Parameters
    ----------
    form : Form
    gradient : str
    n_species, n_pair, n : int
        Species S, functions of the pair part, functions of the contracted moments.
    """

    form: Form
    gradient: str
    n_species: int
    n_pair: int
    n: int

    @cached_property
    def triangle(self) -> tuple[IntArray, IntArray]:
        """Rows and columns of the upper triangle of W^l_A, each of length S·n (S·n + 1)/2."""
        rows, columns = np.triu_indices(self.n_species * self.n)
        return rows.astype(np.int64), columns.astype(np.int64)

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
        contracted = len(problem) * len(self.form.ranks) * len(self.triangle[0])
        return len(self.pairs(problem)) * self.n_pair + contracted

    def unpack(self, solutions: list[FloatArray]) -> tuple[FloatArray, dict[int, FloatArray]]:
        """Pair coefficients (S, S, n_p) and W^l (S, S·n, S·n) by rank, from the solution of every problem."""
        s, width = self.n_species, self.n_species * self.n
        u = np.zeros((s, s, self.n_pair))
        weights = {rank: np.zeros((s, width, width)) for rank in self.form.ranks}
        for problem, solution in zip(self.problems, solutions, strict=True):
            parts = iter(np.split(solution, np.cumsum(self._part_sizes(problem))[:-1]))
            for a, b in self.pairs(problem):
                u[a, b] = next(parts)
                if self.gradient == "collective":
                    u[b, a] = u[a, b]
            for a in problem:
                for rank in self.form.ranks:
                    upper = np.zeros((width, width))
                    upper[self.triangle] = next(parts)
                    weights[rank][a] = upper + upper.T - np.diag(np.diag(upper))
        return u, weights

    def pack(self, u: FloatArray, weights: dict[int, FloatArray]) -> list[FloatArray]:
        """The inverse of `unpack`, for coefficients in the gauge of the layout."""
        return [
            np.concatenate(
                [u[a, b] for a, b in self.pairs(problem)]
                + [weights[rank][a][self.triangle] for a in problem for rank in self.form.ranks]
            )
            for problem in self.problems
        ]

    def _part_sizes(self, problem: tuple[int, ...]) -> list[int]:
        contracted = [len(self.triangle[0])] * (len(problem) * len(self.form.ranks))
        return [self.n_pair] * len(self.pairs(problem)) + contracted
