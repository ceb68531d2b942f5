"""Forces of every member of a committee in a configuration; its moments, distances and losses of agents.

Beside a run on any platform: the positions are those of a State.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from openmm_duality.geometry.arrays import FloatArray, IntArray
from openmm_duality.lowering.fused.collecting import collect_members
from openmm_duality.lowering.fused.committee_kernel import evaluate
from openmm_duality.lowering.fused.neighbour_lists import NeighbourList, NeighbourListCache
from openmm_duality.lowering.fused.search import Candidates
from openmm_duality.lowering.fused.tables import committee_shape, committee_tables


@dataclass(frozen=True)
class CommitteeEvaluation:
    """Evaluation of one configuration by the losses and all members of their committee.

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


class _List(NeighbourList[CommitteeEvaluation]):
    """A neighbour list with the kernel of a committee, and its forces, moments and intervals."""

    kernel_of = staticmethod(evaluate)

    def __init__(self, owner: NeighbourListCache[Any], found: Candidates, box: FloatArray | None) -> None:
        super().__init__(owner, found, box)
        species, parts = self._shape.species, found.parts
        self._visited = np.empty((len(parts), species, species, owner.grid.intervals + 1), dtype=np.int64)
        for call, visited in zip(self._calls, self._visited, strict=True):
            call.set(all_agents=found.agents, visited=visited)
        self.share_forces(collect_members(self._shape), 3 * self._shape.padded_members, all_agents=found.agents)

    def evaluate(self) -> CommitteeEvaluation:
        shape = self._shape
        n_agents = len(self._positions)
        size = n_agents * shape.species * shape.functions
        found = np.empty(size * len(shape.components))
        losses = np.empty(n_agents)
        self._visited.fill(-1)
        for call in self._calls:
            call.set(found=found, losses=losses)
        self.run()
        forces = self.sum_forces(np.empty((shape.padded_members, n_agents, 3)))
        moments = {}
        for rank in shape.ranks:
            of_rank = found[size * shape.of(rank).start : size * shape.of(rank).stop]
            moments[rank] = of_rank.reshape(n_agents, shape.species, shape.functions, 2 * rank + 1)
        visited = self._visited.max(axis=0)[..., :-1]
        return CommitteeEvaluation(forces[: shape.members], moments, visited, losses)


class FusedCommittee(NeighbourListCache[CommitteeEvaluation]):
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

    shape_of, tables_of, list_type = staticmethod(committee_shape), staticmethod(committee_tables), _List

    def __call__(self, positions: FloatArray, box: FloatArray | None = None) -> CommitteeEvaluation:
        """Evaluate positions (N, 3) in a box (3, 3), both in nm.

        Raises
        ------
        DualityError
            If the vectors of the box span no volume, the number of positions is another than that of the species, or
            a position is not a finite number.
        """
        return self._evaluate(positions, box)
