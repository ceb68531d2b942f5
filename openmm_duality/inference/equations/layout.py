"""Where each coefficient of the losses stands in the vectors that inference solves for.

Columns come in blocks: pair columns of a pair of species, and for every species the upper triangle of W of each rank,
then that of its couplings. Where energies join the fit, the constant of every composition has a last column.

Species are collected in groups, and every group is one system of equations. Which species may be solved apart follows
from the gradient (`separable_groups`), but nothing else here depends on it: any partition of the species is a layout.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from openmm_duality.geometry.arrays import FloatArray, IntArray
from openmm_duality.invariants.contractions import count
from openmm_duality.losses.forms import Form

Group = tuple[int, ...]


def separable_groups(gradient: str, n_species: int) -> tuple[Group, ...]:
    """The finest partition of the species into systems of equations that share no coefficient.

    Under `agent` a force holds the coefficients of the agent's own species alone; under `collective` those of all.
    """
    everyone = tuple(range(n_species))
    return (everyone,) if gradient == "collective" else tuple((a,) for a in everyone)


@dataclass(frozen=True)
class Layout:
    """The columns of every group.

    Parameters
    ----------
    form : Form
    gradient : str
        Under `collective` u_AB and u_BA share their columns (the gauge).
    n_species, n_pair, n, n_coarse : int
        Species S, functions of the pair part, of the contracted moments, and of the coupled invariants.
    n_constants : int
        Constants of the energy, one for every composition; none under `agent` or without energies.
    groups : tuple of tuple of int, optional
        A partition of the species; by default `separable_groups`.
    """

    form: Form
    gradient: str
    n_species: int
    n_pair: int
    n: int
    n_coarse: int = 0
    n_constants: int = 0
    groups: tuple[Group, ...] = ()

    def __post_init__(self) -> None:
        if not self.groups:
            object.__setattr__(self, "groups", separable_groups(self.gradient, self.n_species))

    @property
    def tied(self) -> bool:
        """Whether u_AB and u_BA are one coefficient."""
        return self.gradient == "collective"

    @cached_property
    def triangle(self) -> tuple[IntArray, IntArray]:
        """Rows and columns of the upper triangle of W^l_A, each of length S·n (S·n + 1)/2."""
        return _triangle(self.n_species * self.n)

    @cached_property
    def coupled_triangle(self) -> tuple[IntArray, IntArray]:
        """Rows and columns of the upper triangle of C_A, each of length Q (Q + 1)/2."""
        return _triangle(count(self.n_species * self.n_coarse, self.form.coupled))

    def pairs(self, group: Group) -> list[tuple[int, int]]:
        """The pairs of species (A, B) with pair columns of their own, in the order of the columns."""
        return [(a, b) for a in group for b in range(self.n_species) if not self.tied or a <= b]

    def size(self, group: Group) -> int:
        """Number of columns of a group."""
        return sum(self.block_sizes(group))

    def block_sizes(self, group: Group) -> list[int]:
        """Number of columns of every block: pairs, then by species the ranks and the couplings, then the constants."""
        of_species = [len(self.triangle[0])] * len(self.form.ranks) + [len(self.coupled_triangle[0])]
        return [self.n_pair] * len(self.pairs(group)) + of_species * len(group) + [self.n_constants]

    def block_names(self, group: Group, species: Sequence[str]) -> list[str]:
        """A name for every block of columns."""
        names = [f"pair {species[a]}-{species[b]}" for a, b in self.pairs(group)]
        for a in group:
            names += [f"{species[a]}, rank {rank}" for rank in self.form.ranks]
            names.append(f"{species[a]}, coupled")
        return [*names, "constants of the energy"]

    def shares(self, at_most: int | None) -> list[int]:
        """Coefficients that each group may have out of a total, in proportion to its size; empty where all may stay."""
        sizes = [self.size(group) - self.n_constants for group in self.groups]
        if at_most is None or at_most >= sum(sizes):
            return []
        return [max(1, at_most * size // sum(sizes)) for size in sizes]

    def unpack(self, solutions: Sequence[FloatArray]) -> tuple[FloatArray, dict[int, FloatArray], FloatArray]:
        """Coefficients from the solution of every group, without the constants of the energy.

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
        for group, solution in zip(self.groups, solutions, strict=True):
            blocks = iter(np.split(solution, np.cumsum(self.block_sizes(group))[:-1]))
            for a, b in self.pairs(group):
                u[a, b] = next(blocks)
                if self.tied:
                    u[b, a] = u[a, b]
            for a in group:
                for rank in self.form.ranks:
                    weights[rank][a] = _symmetric(self.triangle, next(blocks), width)
                couplings[a] = _symmetric(self.coupled_triangle, next(blocks), invariants)
        return u, weights, couplings

    def pack(self, u: FloatArray, weights: Mapping[int, FloatArray], couplings: FloatArray) -> list[FloatArray]:
        """The inverse of `unpack`, for coefficients in the gauge of the layout; the constants are zero."""
        solutions = []
        for group in self.groups:
            blocks = [u[a, b] for a, b in self.pairs(group)]
            for a in group:
                blocks += [weights[rank][a][self.triangle] for rank in self.form.ranks]
                blocks.append(couplings[a][self.coupled_triangle])
            blocks.append(np.zeros(self.n_constants))
            solutions.append(np.concatenate(blocks))
        return solutions


def _triangle(width: int) -> tuple[IntArray, IntArray]:
    rows, columns = np.triu_indices(width)
    return rows.astype(np.int64), columns.astype(np.int64)


def _symmetric(triangle: tuple[IntArray, IntArray], values: FloatArray, width: int) -> FloatArray:
    matrix = np.zeros((width, width))
    matrix[triangle] = values
    return np.asarray(matrix + matrix.T - np.diag(np.diag(matrix)))
