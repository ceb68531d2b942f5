"""Sum of losses and forces by the fused kernel, with neither OpenMM nor torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from openmm_duality.errors import DualityError
from openmm_duality.losses.model import AgentLosses
from openmm_duality.lowering.fused import threads as team
from openmm_duality.lowering.fused.arguments import Arguments, aligned
from openmm_duality.lowering.fused.boxes import kind_of, packed
from openmm_duality.lowering.fused.kernel import agents_module, arguments
from openmm_duality.lowering.fused.machine import compiled
from openmm_duality.lowering.fused.neighbours import Candidates, find_candidates
from openmm_duality.lowering.fused.search import ARRANGE, COLLECT, moves_module
from openmm_duality.lowering.fused.shape import BLOCK, Shape
from openmm_duality.lowering.fused.tables import shape_of, tables
from openmm_duality.lowering.limits import check_box, check_precision

FloatArray = npt.NDArray[np.float64]
Function = Callable[[int], None]

SKIN = 0.1  # nm
TRAJECTORIES = 8  # that one object can follow in turn


class FusedLosses:
    """The losses of a list of atoms, compiled for this machine; called with positions and a box.

    The neighbour list is kept from call to call. An object follows a few trajectories in turn, each with a list of its
    own, and calls from several threads wait for each other.

    Parameters
    ----------
    losses : AgentLosses
    species : sequence of str, length N
        The species of every atom, in the order of the positions.
    precision : str
        ``single`` or ``double``: of the arithmetic. Displacements, distances and the energy are always double.
    threads : int, optional
        By default OPENMM_DUALITY_THREADS, or as many as the cores that this process may use. Results are the same
        from run to run with one number of threads.
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
        self.kinds = losses.index_of(species)
        self.cutoff = losses.cutoff
        self.precision = check_precision(precision)
        self.threads = threads or team.default_threads()
        self._grid = losses.grid
        self._skin = skin / losses.grid.spacing
        self._shapes = {box: shape_of(losses, box, precision) for box in ("open", "orthorhombic", "triclinic")}
        self._tables = tables(losses, self._shapes["open"])
        self._followed: list[_Trajectory] = []
        self._lock = Lock()

    def __call__(self, positions: FloatArray, box: FloatArray | None = None) -> tuple[float, FloatArray]:
        """Sum of losses in kJ/mol and forces (N, 3) in kJ/mol/nm, from positions (N, 3) and box (3, 3) in nm.

        Raises
        ------
        DualityError
            If the box is less than twice the cutoff wide, the number of positions is another than that of the
            species, or a position is not a finite number.
        """
        positions = np.ascontiguousarray(positions, dtype=np.float64)
        if positions.shape != (len(self.kinds), 3):
            raise DualityError(
                f"the positions have the shape {positions.shape}, and the losses were lowered for {len(self.kinds)} "
                "atoms; lower them for the species of this system"
            )
        if not len(positions):
            return 0.0, np.zeros((0, 3))
        with self._lock:
            return self._trajectory(positions, box).compute(positions)

    def _trajectory(self, positions: FloatArray, box: FloatArray | None) -> _Trajectory:
        """The trajectory whose list holds for these positions; with a new list if none does."""
        for number, trajectory in enumerate(self._followed):
            if trajectory.in_box(box) and trajectory.holds(positions):
                self._followed.insert(0, self._followed.pop(number))
                return trajectory
        self._check(positions, box)
        scale = 1.0 / self._grid.spacing
        found = find_candidates(
            positions * scale,
            None if box is None else np.asarray(box, dtype=np.float64) * scale,
            self.kinds,
            self._shapes["open"].species,
            float(self._grid.intervals),
            self._skin,
            self.threads,
        )
        # a trajectory that went on by a step needs its old list no longer; another one that passes near by does
        step = 0.25 * self._skin / scale
        gone_on = next((followed for followed in self._followed if followed.is_near(positions, step)), None)
        if gone_on is not None:
            self._followed.remove(gone_on)
        self._followed.insert(0, _Trajectory(self, self._shapes[kind_of(box)], found, box))
        del self._followed[TRAJECTORIES:]
        self._followed[0].holds(positions)
        return self._followed[0]

    def _check(self, positions: FloatArray, box: FloatArray | None) -> None:
        wrong = ~np.isfinite(positions).all(axis=1)
        if wrong.any():
            raise DualityError(
                f"the position of atom {int(wrong.argmax())} is not a finite number: the dynamics has blown up; "
                "take a shorter time step, or look at what the losses were inferred from"
            )
        if box is not None:
            check_box(box, self.cutoff)


class _Trajectory:
    """One neighbour list, and the memory of the kernels that use it."""

    def __init__(self, losses: FusedLosses, shape: Shape, found: Candidates, box: FloatArray | None) -> None:
        self._box = None if box is None else np.array(box, dtype=np.float64)
        atoms, parts = len(found.order), len(found.parts)
        self._agents = _agents(shape)
        self._arrange, self._collect = _moves(shape.precision)
        real = np.dtype("<f4" if shape.precision == "single" else "<f8")
        scale = 1.0 / losses._grid.spacing
        positions = aligned(4 * atoms, "<f8")
        forces = aligned(parts * 4 * atoms, real)
        self._energies = np.zeros(parts)
        self._moved = np.zeros(1, dtype=np.int64)
        self._last = np.zeros((atoms, 3))
        # finite, so that a position that is not finite has moved too far even where every pair is a candidate
        limit = min(0.25 * found.skin**2, 1e300)
        self._arranging = Arguments(ARRANGE)
        self._arranging.set(begin=0, end=atoms, order=found.order, scale=np.array([scale]), target=positions)
        self._arranging.set(reference=found.positions, limit=np.array([limit]), moved=self._moved)
        self._collecting = Arguments(COLLECT)
        self._collecting.set(begin=0, end=atoms, atoms=atoms, parts=parts, source=forces, order=found.order)
        self._collecting.set(scale=np.array([scale]))
        kinds = losses.kinds[found.order].astype(np.int32)
        scaled = packed(None if self._box is None else self._box * scale)
        capacity = found.most + BLOCK
        self._calls = []
        for number, part in enumerate(found.parts):
            call = Arguments(arguments(shape))
            call.set(begin=part.begin, end=part.end, atoms=atoms, positions=positions, kinds=kinds, box=scaled)
            call.set(list=part.candidates, offsets=part.offsets, capacity=capacity, **losses._tables)
            call.set(intervals_of_grid=losses._grid.intervals, energy=self._energies[number : number + 1])
            call.set(forces=forces[number * 4 * atoms : (number + 1) * 4 * atoms])
            call.set(**{name: aligned(size, kind) for name, (kind, size) in shape.work(capacity).items()})
            self._calls.append(call)
        self._addresses = [call.address for call in self._calls]
        self._threads = losses.threads

    def in_box(self, box: FloatArray | None) -> bool:
        """Whether the list was made in this box."""
        if box is None or self._box is None:
            return box is self._box
        return np.array_equal(box, self._box)

    def holds(self, positions: FloatArray) -> bool:
        """Whether the list holds for these positions, which are then where the kernels read them."""
        self._arranging.set(source=positions)
        self._arrange(self._arranging.address)
        return not self._moved[0]

    def is_near(self, positions: FloatArray, step: float) -> bool:
        """Whether no atom is further than a step (nm) from where the last call had it."""
        return bool((np.square(positions - self._last).sum(axis=1) <= step**2).all())

    def compute(self, positions: FloatArray) -> tuple[float, FloatArray]:
        """Sum of losses and forces of the positions that the list holds for."""
        np.copyto(self._last, positions)
        team.run(self._agents, self._addresses, self._threads)
        result = np.empty_like(positions)
        self._collecting.set(target=result)
        self._collect(self._collecting.address)
        return float(self._energies.sum()), result


@cache
def _agents(shape: Shape) -> Function:
    return compiled(agents_module(shape), "agents")[0]


@cache
def _moves(precision: str) -> tuple[Any, ...]:
    return compiled(moves_module(precision), "arrange", "collect")
