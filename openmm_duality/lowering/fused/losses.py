"""Sum of losses and forces by the fused kernel, with neither OpenMM nor torch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from openmm_duality.errors import DualityError
from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.losses.model import AgentLosses
from openmm_duality.lowering.fused.boxes import kind_of
from openmm_duality.lowering.fused.kernel import COLLECT, agents_module, arguments, collect_module
from openmm_duality.lowering.fused.machine import Arguments, aligned, compiled
from openmm_duality.lowering.fused.neighbour_lists import SKIN, Function, NeighbourList, NeighbourListCache
from openmm_duality.lowering.fused.search import Candidates
from openmm_duality.lowering.fused.shape import BOXES, Shape
from openmm_duality.lowering.fused.tables import shape_of, tables


class FusedLosses(NeighbourListCache["_List"]):
    """The losses of a list of atoms, compiled for this machine; called with positions and a box.

    Neighbour lists are kept from call to call, also for a few trajectories that take turns. Calls from several threads
    wait for each other.

    Parameters
    ----------
    losses : AgentLosses
    species : sequence of str, length N
        The species of every atom, in the order of the positions or of the particles.
    precision : str
        ``single`` or ``double``: of the arithmetic. Displacements, distances and the energy are always double.
    particles : sequence of int, length N, optional
        Indices of these atoms among the positions; by default they are all of them.
    threads : int, optional
        By default OPENMM_DUALITY_THREADS, or as many as the cores that this process may use. Results are the same
        from run to run with one number of threads.
    skin : float
        In nm: a neighbour list holds until an atom has moved half of it.

    Raises
    ------
    DualityError
        If a species is unknown to the model, the precision is not one of the two, or the particles are wrong.
    """

    def __init__(
        self,
        losses: AgentLosses,
        species: Sequence[str],
        precision: str = "single",
        particles: Sequence[int] | None = None,
        threads: int | None = None,
        skin: float = SKIN,
    ) -> None:
        super().__init__(losses, species, precision, threads, skin, particles)
        self._shapes = {box: shape_of(losses, box, precision) for box in BOXES}
        self._tables = tables(losses, self._shapes["open"])

    def __call__(self, positions: FloatArray, box: FloatArray | None = None) -> tuple[float, FloatArray]:
        """Sum of losses in kJ/mol and forces (N, 3) in kJ/mol/nm, from positions (N, 3) and box (3, 3) in nm.

        Raises
        ------
        DualityError
            If the box is less than twice the cutoff wide, the number of positions is another than that of the
            species, a position is not a finite number, or there is no position of a particle.
        """
        if self._particles is None:
            return self._compute(positions, box)
        if len(positions) <= self._particles.max():
            raise DualityError(f"the losses act on atom {self._particles.max()}, and there are {len(positions)} atoms")
        forces = np.zeros((len(positions), 3))
        energy, forces[self._particles] = self._compute(positions[self._particles], box)
        return energy, forces

    def _compute(self, positions: FloatArray, box: FloatArray | None) -> tuple[float, FloatArray]:
        positions = self._checked(positions)
        if not len(positions):
            return 0.0, np.zeros((0, 3))
        with self._lock:
            return self._list_for(positions, box).compute(positions)

    def _new_list(self, found: Candidates, box: FloatArray | None) -> _List:
        return _List(self, found, box, self._shapes[kind_of(box)], self._tables)


class _List(NeighbourList):
    """A neighbour list with the kernel of the losses, and its energies and forces."""

    def __init__(
        self,
        losses: FusedLosses,
        found: Candidates,
        box: FloatArray | None,
        shape: Shape,
        tables: dict[str, npt.NDArray[Any]],
    ) -> None:
        super().__init__(losses, found, box, arguments(shape), shape.work)
        self._agents, self._collect = _agents(shape), _collect(shape.precision)
        atoms, parts = len(found.order), len(found.parts)
        forces = aligned(parts * 4 * atoms, shape.dtype)
        self._energies = np.zeros(parts)
        for number, call in enumerate(self._calls):
            call.set(energy=self._energies[number : number + 1], **tables)
            call.set(forces=forces[number * 4 * atoms : (number + 1) * 4 * atoms])
        self._collecting = Arguments(COLLECT)
        self._collecting.set(begin=0, end=atoms, atoms=atoms, parts=parts, source=forces, order=found.order)
        self._collecting.set(scale=np.array([1.0 / losses.grid.spacing]))

    def compute(self, positions: FloatArray) -> tuple[float, FloatArray]:
        """Sum of losses and forces of the positions that the list holds for."""
        self.run(self._agents, positions)
        result = np.empty_like(positions)
        self._collecting.set(target=result)
        self._collect(self._collecting.address)
        return float(self._energies.sum()), result


@cache
def _agents(shape: Shape) -> Function:
    return compiled(agents_module(shape), "agents")[0]


@cache
def _collect(precision: str) -> Function:
    return compiled(collect_module(precision), "collect")[0]
