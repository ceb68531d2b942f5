"""Order of the coefficients of the losses in the vectors that inference solves for.

Columns come in blocks: the pair part of each pair of species, then for each species the upper triangles of W of every
rank and of the couplings. Those of a shared part come before those of an own part. If energies are fitted, the last
columns are the energy constants of the species.

Species form groups, each with its own system of equations. The gradient determines which species can be separated
(`separable_groups`); apart from that any partition of the species is a valid layout.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from openmm_duality.geometry.arrays import FloatArray, IntArray
from openmm_duality.inference.equations.own_columns import OwnColumns
from openmm_duality.invariants.contractions import count_invariants
from openmm_duality.losses.coefficients import Coefficients
from openmm_duality.losses.forms import GRADIENTS, Form

Group = tuple[int, ...]
Triangle = tuple[IntArray, IntArray]  # rows and columns of entries
# by the names of the parts, the sign in u_BA = ± u_AB (the gauge), or 0 where both are determined
_SYMMETRY = {("own",): (0,), ("shared",): (1,), ("shared", "own"): (1, -1)}
GAUGE = {
    "collective": "u_AB = u_BA; the constant of every loss is zero",
    "agent": "the constant of every loss is zero",
    "mutual": "u_AB = u_BA in the shared and u_AB = -u_BA in the own part; the constant of every loss is zero",
}


def separable_groups(gradient: str, n_species: int) -> tuple[Group, ...]:
    """Finest partition of the species into systems of equations that share no coefficient.

    If there is only an own part, a force depends on the coefficients of the agent's species alone, otherwise on those
    of all.
    """
    alone = GRADIENTS[gradient] == ("own",)
    return tuple((a,) for a in range(n_species)) if alone else joint_group(n_species)


def joint_group(n_species: int) -> tuple[Group, ...]:
    """The partition into one group, for a penalty on the coefficients of all species together."""
    return (tuple(range(n_species)),)


@dataclass(frozen=True)
class Part:
    """One part of the losses.

    Parameters
    ----------
    shared : bool
        Whether all agents descend it, so that its forces contain the reactions of neighbours.
    symmetry : int
        1 if u_AB and u_BA share their columns, −1 if they do with opposite signs, 0 if they have columns of their own.
        Only the sum of u_AB and u_BA is determined in a shared part; that of an own part beside it would be the same.
    """

    shared: bool
    symmetry: int


@dataclass(frozen=True)
class Layout:
    """Columns of each group of species.

    Parameters
    ----------
    form : Form
    gradient : str
        It determines the parts of the losses.
    n_species, n_pair, n, n_coarse : int
        Numbers of species S and of functions of the pair part, the contracted moments and the coupled invariants.
    n_constants : int
        Number of energy constants: one per species, or zero under `agent`, without energies, or with those of isolated
        atoms.
    n_invariants : tuple of int
        Number of invariants of the channels of each species; empty for a form without channels.
    own : OwnColumns, optional
        Columns of an own part beside a shared one; all by default.
    groups : tuple of tuple of int, optional
        Partition of the species; `separable_groups` by default.
    """

    form: Form
    gradient: str
    n_species: int
    n_pair: int
    n: int
    n_coarse: int = 0
    n_constants: int = 0
    n_invariants: tuple[int, ...] = ()
    own: OwnColumns | None = None
    groups: tuple[Group, ...] = ()

    def __post_init__(self) -> None:
        if not self.groups:
            object.__setattr__(self, "groups", separable_groups(self.gradient, self.n_species))

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """Parts of the losses, whose columns follow each other."""
        names = GRADIENTS[self.gradient]
        return tuple(Part(name == "shared", _SYMMETRY[names][k]) for k, name in enumerate(names))

    def first_columns(self, group: Group) -> Iterator[tuple[Part, int]]:
        """Parts, each with its first column."""
        first = 0
        for part in self.parts:
            yield part, first
            first += sum(self._part_sizes(part, group))

    @cached_property
    def triangle(self) -> Triangle:
        """Rows and columns of the upper triangle of W^l_A, each of length S·n (S·n + 1)/2."""
        return _triangle(self.n_species * self.n)

    @cached_property
    def coupled_triangle(self) -> Triangle:
        """Rows and columns of the upper triangle of C_A, each of length Q (Q + 1)/2."""
        return _triangle(count_invariants(self.n_species * self.n_coarse, self.form.coupled))

    def triangles_of(self, part: Part) -> tuple[Triangle, Triangle]:
        """Those of W^l_A and C_A that have columns in a part."""
        own = self._restriction(part)
        if own is None:
            return self.triangle, self.coupled_triangle
        (a, b), (p, q) = self.triangle, self.coupled_triangle
        return (a[own.contracted], b[own.contracted]), (p[own.coupled], q[own.coupled])

    def invariants_of(self, part: Part, a: int) -> IntArray:
        """The invariants of the channels of a species that have columns in a part."""
        own, every = self._restriction(part), np.arange(self.n_invariants[a])
        return every if own is None else every[own.invariants[a]]

    def _restriction(self, part: Part) -> OwnColumns | None:
        """The only columns that a part has; None if it has all."""
        return None if part.shared or len(self.parts) == 1 else self.own

    def pairs(self, part: Part, group: Group) -> list[tuple[int, int]]:
        """Pairs of species (A, B) that have pair columns in a part, in the order of the columns."""
        every = [(a, b) for a in group for b in range(self.n_species)]
        return [(a, b) for a, b in every if not part.symmetry or a < b or (a == b and part.symmetry > 0)]

    def size(self, group: Group) -> int:
        """Number of columns of a group."""
        return sum(self.block_sizes(group))

    def block_sizes(self, group: Group) -> list[int]:
        """Number of columns of each block: of each part the pairs, then by species the ranks and the couplings."""
        return [*(size for part in self.parts for size in self._part_sizes(part, group)), self.n_constants]

    def _part_sizes(self, part: Part, group: Group) -> list[int]:
        sizes = [self.n_pair] * len(self.pairs(part, group))
        contracted, coupled = (len(rows) for rows, _ in self.triangles_of(part))
        for a in group:
            sizes += [contracted] * len(self.form.ranks) + [coupled]
            sizes += [len(self.invariants_of(part, a))] if self.n_invariants else []
        return sizes

    def scale_blocks(self, group: Group) -> list[int]:
        """Numbers of columns that share a lower bound of their scales (`column_scale`).

        Those are the blocks, but the invariants of channels have none in common: of them the variance of the data is
        the prior, and a small column is one of high degree.
        """
        if not self.n_invariants:
            return self.block_sizes(group)
        blocks: list[int] = []
        for part in self.parts:
            alone = sum(len(self.invariants_of(part, a)) for a in group)
            blocks += [self.n_pair] * len(self.pairs(part, group)) + [1] * alone
        return [*blocks, self.n_constants]

    def block_names(self, group: Group, species: Sequence[str]) -> list[str]:
        """Names of the blocks of columns."""
        names = []
        for part in self.parts:
            of_part = [f"pair {species[a]}-{species[b]}" for a, b in self.pairs(part, group)]
            for a in group:
                of_part += [f"{species[a]}, rank {rank}" for rank in self.form.ranks]
                of_part.append(f"{species[a]}, coupled")
                of_part += [f"{species[a]}, channels"] * len(self.n_invariants[a : a + 1])
            prefix = "" if part is self.parts[0] else "own part, "
            names += [prefix + name for name in of_part]
        return [*names, "constants of the energy"]

    def shares(self, max_coefficients: int | None) -> list[int]:
        """Maximum number of coefficients per group, in proportion to its size; empty if all are kept."""
        sizes = [self.size(group) - self.n_constants for group in self.groups]
        if max_coefficients is None or max_coefficients >= sum(sizes):
            return []
        return [max(1, max_coefficients * size // sum(sizes)) for size in sizes]

    def unpack(self, solutions: Sequence[FloatArray]) -> dict[str, Any]:
        """Split the solutions of all groups into the coefficients of `AgentLosses`, by the names of its fields."""
        split = [
            iter(np.split(solution, np.cumsum(self.block_sizes(group))[:-1]))
            for group, solution in zip(self.groups, solutions, strict=True)
        ]
        first, *more = (self._unpack_part(part, split) for part in self.parts)
        return replace(first, own=more[0] if more else None).coefficient_fields()

    def _unpack_part(self, part: Part, split: Sequence[Iterator[FloatArray]]) -> Coefficients:
        """Coefficients of one part, from the next blocks of each group."""
        s, width = self.n_species, self.n_species * self.n
        invariants = count_invariants(s * self.n_coarse, self.form.coupled)
        u = np.zeros((s, s, self.n_pair))
        weights = {rank: np.zeros((s, width, width)) for rank in self.form.ranks}
        couplings = np.zeros((s, invariants, invariants))
        channel_weights = [np.zeros(size) for size in self.n_invariants]
        contracted, coupled = self.triangles_of(part)
        for group, blocks in zip(self.groups, split, strict=True):
            for a, b in self.pairs(part, group):
                u[a, b] = next(blocks)
                if part.symmetry:
                    u[b, a] = part.symmetry * u[a, b]
            for a in group:
                for rank in self.form.ranks:
                    weights[rank][a] = _symmetric(contracted, next(blocks), width)
                couplings[a] = _symmetric(coupled, next(blocks), invariants)
                if self.n_invariants:
                    channel_weights[a][self.invariants_of(part, a)] = next(blocks)
        return Coefficients(u, weights, couplings, tuple(channel_weights))

    def pack(self, losses: Coefficients) -> list[FloatArray]:
        """Join the coefficients of losses into vectors by group, the inverse of `unpack`; energy constants are zero."""
        solutions = []
        for group in self.groups:
            blocks: list[FloatArray] = []
            for part, coefficients in zip(self.parts, (losses, losses.own), strict=False):
                assert coefficients is not None
                blocks += [coefficients.pair_coefficients[a, b] for a, b in self.pairs(part, group)]
                contracted, coupled = self.triangles_of(part)
                for a in group:
                    blocks += [coefficients.weights[rank][a][contracted] for rank in self.form.ranks]
                    blocks.append(coefficients.couplings[a][coupled])
                    blocks += [c[self.invariants_of(part, a)] for c in coefficients.channel_weights[a : a + 1]]
            solutions.append(np.concatenate([*blocks, np.zeros(self.n_constants)]))
        return solutions


def _triangle(width: int) -> Triangle:
    rows, columns = np.triu_indices(width)
    return rows.astype(np.int64), columns.astype(np.int64)


def _symmetric(triangle: Triangle, values: FloatArray, width: int) -> FloatArray:
    matrix = np.zeros((width, width))
    matrix[triangle] = values
    return np.asarray(matrix + matrix.T - np.diag(np.diag(matrix)))
