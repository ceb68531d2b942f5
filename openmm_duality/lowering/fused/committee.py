"""Forces of every member of a committee in a configuration; its moments, distances and losses of agents.

Beside a run on any platform: the positions are those of a State.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from openmm_duality.geometry.arrays import FloatArray, IntArray
from openmm_duality.losses.model import AgentLosses
from openmm_duality.lowering.fused import threads as pool
from openmm_duality.lowering.fused.boxes import kind_of
from openmm_duality.lowering.fused.committee_kernel import arguments, collect_members_module, committee_module
from openmm_duality.lowering.fused.kernel import COLLECT
from openmm_duality.lowering.fused.machine import Arguments, aligned, compiled
from openmm_duality.lowering.fused.neighbour_lists import SKIN, Function, NeighbourList, NeighbourListCache
from openmm_duality.lowering.fused.search import Candidates
from openmm_duality.lowering.fused.shape import BOXES, Shape
from openmm_duality.lowering.fused.tables import committee_shape, committee_tables


@dataclass(frozen=True)
class CommitteeEvaluation:
    """What a committee and its losses say of one configuration.

    Parameters
    ----------
    forces : array, shape (K, N, 3)
        Of every member of the committee in kJ/mol/nm; K is 0 without one.
    moments : mapping of int to array, shape (N, S, n + n_c, 2l + 1)
        Of the functions of `basis`, then of `coarse`, by rank, as `losses.evaluator` has them; for a form without
        contractions the sums, if there are functions.
    visited : array of int, shape (S, S, intervals of the grid)
        By species of the agent and of the neighbour: an atom with a neighbour at a distance in that interval, −1 where
        there is none.
    losses : array, shape (N,)
        H_A(φ^i) of every agent in kJ/mol, by the losses themselves.
    """

    forces: FloatArray
    moments: Mapping[int, FloatArray]
    visited: IntArray
    losses: FloatArray


class FusedCommittee(NeighbourListCache["_List"]):
    """The evaluation of a committee over a list of atoms, compiled for this machine; called with positions and a box.

    The members of the committee share neighbours, moments and invariants, so that the forces of all of them cost little
    more than those of the losses. Neighbour lists and threads are those of `FusedLosses`.

    Parameters
    ----------
    losses : AgentLosses
        With or without a committee.
    species : sequence of str, length N
        The species of every atom, in the order of the positions.
    precision : str
        ``single`` or ``double``: of the arithmetic. Displacements and distances are always double.
    threads : int, optional
        By default OPENMM_DUALITY_THREADS, or as many as the cores that this process may use.
    skin : float
        In nm: a neighbour list holds until an atom has moved half of it.

    Raises
    ------
    DualityError
        If a species is unknown to the model, or the precision is not one of the two.
    """

    def __init__(
        self,
        losses: AgentLosses,
        species: Sequence[str],
        precision: str = "single",
        threads: int | None = None,
        skin: float = SKIN,
    ) -> None:
        super().__init__(losses, species, precision, threads, skin)
        self._shapes = {box: committee_shape(losses, box, precision) for box in BOXES}
        self._tables = committee_tables(losses, self._shapes["open"])

    def __call__(self, positions: FloatArray, box: FloatArray | None = None) -> CommitteeEvaluation:
        """Evaluate positions (N, 3) in a box (3, 3), both in nm.

        Raises
        ------
        DualityError
            If the box is less than twice the cutoff wide, the number of positions is another than that of the
            species, or a position is not a finite number.
        """
        positions = self._checked(positions)
        if not len(positions):
            return _empty(self._shapes["open"], self.grid.intervals)
        with self._lock:
            return self._list_for(positions, box).evaluate(positions)

    def _new_list(self, found: Candidates, box: FloatArray | None) -> _List:
        return _List(self, found, box, self._shapes[kind_of(box)], self._tables)


class _List(NeighbourList):
    """A neighbour list with the kernel of a committee, and its forces, moments and intervals."""

    def __init__(
        self,
        owner: FusedCommittee,
        found: Candidates,
        box: FloatArray | None,
        shape: Shape,
        tables: Mapping[str, npt.NDArray[Any]],
    ) -> None:
        super().__init__(owner, found, box, arguments(shape), shape.committee_work)
        self._shape = shape
        self._kernel, self._collect = _evaluate(shape), _collect(shape)
        atoms, parts = len(found.order), len(found.parts)
        size = atoms * 3 * shape.padded_members
        forces = aligned(parts * size, shape.dtype)
        self._visited = np.empty((parts, shape.species, shape.species, owner.grid.intervals + 1), dtype=np.int64)
        self._collecting = []
        for number, (part, call) in enumerate(zip(found.parts, self._calls, strict=True)):
            call.set(order=found.order, forces=forces[number * size :], visited=self._visited[number], **tables)
            collect = Arguments(COLLECT)
            collect.set(begin=part.begin, end=part.end, atoms=atoms, parts=parts, source=forces, order=found.order)
            collect.set(scale=np.array([1.0 / owner.grid.spacing]))
            self._collecting.append(collect)

    def evaluate(self, positions: FloatArray) -> CommitteeEvaluation:
        """Evaluate the positions that the list holds for."""
        shape = self._shape
        components = shape.species * shape.functions * len(shape.components)
        found = np.empty(len(positions) * components)
        forces = np.empty((shape.padded_members, len(positions), 3))
        losses = np.empty(len(positions))
        self._visited.fill(-1)
        for call, collect in zip(self._calls, self._collecting, strict=True):
            call.set(found=found, losses=losses)
            collect.set(target=forces)
        self.run(self._kernel, positions)
        if shape.members:
            pool.run(self._collect, [collect.address for collect in self._collecting], self._threads)
        visited = self._visited.max(axis=0)[..., :-1]
        return CommitteeEvaluation(forces[: shape.members], _by_rank(found, shape, len(positions)), visited, losses)


def _by_rank(found: FloatArray, shape: Shape, atoms: int) -> dict[int, FloatArray]:
    moments, size = {}, atoms * shape.species * shape.functions
    for rank in shape.ranks:
        of_rank = found[size * shape.first(rank) : size * (shape.first(rank) + 2 * rank + 1)]
        moments[rank] = of_rank.reshape(atoms, shape.species, shape.functions, 2 * rank + 1)
    return moments


def _empty(shape: Shape, intervals: int) -> CommitteeEvaluation:
    visited = np.full((shape.species, shape.species, intervals), -1)
    return CommitteeEvaluation(np.zeros((shape.members, 0, 3)), _by_rank(np.zeros(0), shape, 0), visited, np.zeros(0))


@cache
def _evaluate(shape: Shape) -> Function:
    return compiled(committee_module(shape), "evaluate")[0]


@cache
def _collect(shape: Shape) -> Function:
    return compiled(collect_members_module(shape), "collect_members")[0]
