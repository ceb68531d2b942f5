"""Neighbour lists cached from call to call, a few of them for trajectories that are evaluated alternately."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cache
from threading import Lock
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from openmm_duality.errors import DualityError
from openmm_duality.geometry.arrays import FloatArray, IntArray
from openmm_duality.geometry.cells import check_cell
from openmm_duality.losses.model import AgentLosses
from openmm_duality.lowering.fused import threads as pool
from openmm_duality.lowering.fused.boxes import kind_of, packed
from openmm_duality.lowering.fused.checks import check_precision
from openmm_duality.lowering.fused.search import Candidates, find_candidates
from openmm_duality.lowering.fused.shape import BLOCK, BOXES, Shape
from openmm_duality.machine_code.code import DOUBLE, I64, Code, Variable
from openmm_duality.machine_code.machine import Call, Function, aligned

SKIN = 0.1  # nm
LISTS = 8  # cached by one object, for trajectories that are evaluated alternately


Result = TypeVar("Result")


class NeighbourList(ABC, Generic[Result]):
    """One neighbour list, with a kernel and the memory that it works in.

    Parameters
    ----------
    owner : NeighbourListCache
    found : Candidates
    box : array, shape (3, 3), or None
        In nm.
    """

    kernel_of: Callable[[Shape], Function]  # over the agents of a part

    def __init__(self, owner: NeighbourListCache[Result], found: Candidates, box: FloatArray | None) -> None:
        self._box = None if box is None else np.array(box, dtype=np.float64)
        self._found = found
        self._shape = owner.shapes[kind_of(found.box)]
        self._scale = np.array([1.0 / owner.grid.spacing])
        atoms = len(found.order)
        positions = aligned(4 * atoms, "<f8")
        self._moved = np.zeros(1, dtype=np.int64)
        self._last = np.zeros((found.agents, 3))
        self._arrange = Call(
            arrange(),
            begin=0,
            end=atoms,
            order=found.order,
            scale=self._scale,
            shifts=found.shifts,
            target=positions,
            reference=found.positions,
            limit=np.array([0.25 * found.skin**2]),
            moved=self._moved,
        )
        self._kernel = self.kernel_of(self._shape)
        species_index = owner.species_index[found.order].astype(np.int32)
        capacity = found.most * self._shape.together + 2 * BLOCK
        self._calls = [
            Call(
                self._kernel,
                begin=part.begin,
                end=part.end,
                atoms=atoms,
                positions=positions,
                species_index=species_index,
                box=packed(found.box),
                list=part.candidates,
                offsets=part.offsets,
                capacity=capacity,
                intervals_of_grid=owner.grid.intervals,
                **owner.tables,
                **{name: aligned(size, kind) for name, (kind, size) in self._shape.work(capacity).items()},
            )
            for part in found.parts
        ]
        self._addresses = [call.address for call in self._calls]
        self._threads = owner.threads

    @abstractmethod
    def evaluate(self, positions: FloatArray) -> Result:
        """Evaluate the positions that the list holds for."""

    def in_box(self, box: FloatArray | None) -> bool:
        """Whether the list was made in this box."""
        if box is None or self._box is None:
            return box is self._box
        return np.array_equal(box, self._box)

    def load(self, positions: FloatArray) -> bool:
        """Copy positions to where the kernels read them; returns whether the list holds for them."""
        self._arrange.set(source=positions)
        self._arrange()
        return not self._moved[0]

    def is_near(self, positions: FloatArray, step: float) -> bool:
        """Whether no atom is further than a step (nm) from where the last call had it."""
        return bool((np.square(positions - self._last).sum(axis=1) <= step**2).all())

    def run(self, positions: FloatArray) -> None:
        """Run the kernel over the agents, at the positions that the list holds for."""
        np.copyto(self._last, positions)
        pool.run(self._kernel.call, self._addresses, self._threads)

    def share_forces(self, collect: Function, per_atom: int, ranges: Sequence[tuple[int, int]]) -> None:
        """Give every part room for forces, `per_atom` numbers; another function adds them up for ranges of atoms."""
        order, parts = self._found.order, len(self._calls)
        self._by_atom = np.argsort(order, kind="stable")
        self._firsts = np.searchsorted(order[self._by_atom], np.arange(self._found.agents))
        if len(order) > self._found.agents:
            order = np.arange(len(order))
        size = per_atom * len(order)
        forces = aligned(parts * size, self._shape.dtype)
        for number, call in enumerate(self._calls):
            call.set(forces=forces[number * size :])
        shared: dict[str, Any] = {"parts": parts, "atoms": len(order), "source": forces, "order": order}
        self._collect = collect
        self._collecting = [Call(collect, begin=b, end=e, scale=self._scale, **shared) for b, e in ranges]

    def sum_forces(self, target: FloatArray) -> FloatArray:
        """Put the forces of all parts, added up, into an array (…, N, 3); those on images act on their atoms."""
        n_atoms, n_agents = len(self._by_atom), self._found.agents
        forces = target if n_atoms == n_agents else np.empty((*target.shape[:-2], n_atoms, 3))
        for call in self._collecting:
            call.set(target=forces)
        pool.run(self._collect.call, [call.address for call in self._collecting], self._threads)
        if n_atoms > n_agents:
            np.add.reduceat(forces[..., self._by_atom, :], self._firsts, axis=-2, out=target)
        return target


class NeighbourListCache(Generic[Result]):
    """Base of the evaluators of fixed atoms: it finds or makes the neighbour list of a call in its cache.

    Parameters
    ----------
    losses : AgentLosses
    species : sequence of str, length N
        The species of every atom, in the order of the positions.
    precision : str
        ``single`` or ``double``.
    threads : int, optional
        By default OPENMM_DUALITY_THREADS, or as many as the cores that this process may use.
    skin : float
        In nm: a neighbour list holds until an atom has moved half of it.

    Raises
    ------
    DualityError
        If a species is unknown to the model, or the precision is not one of the two.
    """

    shape_of: Callable[[AgentLosses, str, str], Shape]
    tables_of: Callable[[AgentLosses, Shape], dict[str, npt.NDArray[Any]]]
    list_type: type[NeighbourList[Result]]

    def __init__(
        self,
        losses: AgentLosses,
        species: Sequence[str],
        precision: str = "single",
        threads: int | None = None,
        skin: float = SKIN,
    ) -> None:
        self.species_index = losses.index_of(species)
        self.cutoff = losses.cutoff
        self.intervals_of_moments = int(np.ceil(losses.moment_basis.reach / losses.grid.spacing))
        self.grid = losses.grid
        check_precision(precision)
        self.shapes = {box: self.shape_of(losses, box, precision) for box in BOXES}
        self.tables = self.tables_of(losses, self.shapes["open"])
        self.threads = threads or pool.default_threads()
        self._skin = skin / losses.grid.spacing
        self._particles: IntArray | None = None  # by which atoms are named in errors
        self._species = len(losses.species)
        self._lists: list[NeighbourList[Result]] = []
        self._lock = Lock()

    def _evaluate(self, positions: FloatArray, box: FloatArray | None) -> Result:
        """Evaluate positions, refused if they are not of these atoms."""
        positions = np.ascontiguousarray(positions, dtype=np.float64)
        if positions.shape != (len(self.species_index), 3):
            raise DualityError(
                f"the positions have the shape {positions.shape}, and the losses were lowered for "
                f"{len(self.species_index)} atoms; lower them for the species of this system"
            )
        with self._lock:
            return self._list_for(positions, box).evaluate(positions)

    def _list_for(self, positions: FloatArray, box: FloatArray | None) -> NeighbourList[Result]:
        """The neighbour list that holds for these positions; a new one if none does."""
        for number, one in enumerate(self._lists):
            if one.in_box(box) and one.load(positions):
                self._lists.insert(0, self._lists.pop(number))
                return one
        if len(positions):
            self._check(positions, box)
        scale = 1.0 / self.grid.spacing
        found = find_candidates(
            positions * scale,
            None if box is None else np.asarray(box, dtype=np.float64) * scale,
            self.species_index,
            self._species,
            float(self.grid.intervals),
            self._skin,
            self.threads,
        )
        # a trajectory that went on by a step needs its old list no longer; another one that passes near by does
        step = 0.25 * self._skin / scale
        gone_on = next((one for one in self._lists if one.is_near(positions, step)), None)
        if gone_on is not None:
            self._lists.remove(gone_on)
        self._lists.insert(0, self.list_type(self, found, box))
        del self._lists[LISTS:]
        self._lists[0].load(positions)
        return self._lists[0]

    def _check(self, positions: FloatArray, box: FloatArray | None) -> None:
        wrong = ~np.isfinite(positions).all(axis=1)
        if wrong.any():
            first = int(wrong.argmax())
            atom = first if self._particles is None else int(self._particles[first])
            raise DualityError(
                f"the position of atom {atom} is not a finite number: the dynamics has blown up; "
                "take a shorter time step, or check the training data of the losses"
            )
        check_cell(box)


@cache
def arrange() -> Function:
    """The function ``arrange``: positions (N, 3) scaled, in order and moved, as (x, y, z, 0).

    It counts those further than a limit from where they were.
    """
    code = Code("arrange")
    source, target, reference, shifts = (
        code.array(name, DOUBLE) for name in ("source", "target", "reference", "shifts")
    )
    order, scale, limit = code.array("order", I64), code.array("scale", DOUBLE)[0], code.array("limit", DOUBLE)[0]
    moved = Variable(code, I64)
    with code.loop(code.argument("begin"), code.argument("end")) as i:
        atom, square = order[i] * 3, code.constant(DOUBLE, 0.0)
        for c in range(3):
            value = source[atom + c] * scale + shifts[i * 4 + c]
            target[i * 4 + c] = value
            change = value - reference[i * 4 + c]
            square = square + change * change
        # a comparison that NaN fails counts as a move
        moved.set(moved.get() + 1 - square.compare("<=", limit).to(I64))
    code.array("moved", I64)[0] = moved.get()
    return code.compiled()
