"""Neighbour lists cached from call to call, a few of them for trajectories that are evaluated alternately."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
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
from openmm_duality.machine_code.code import DOUBLE, I64, Code, Variable, total
from openmm_duality.machine_code.machine import Call, Function, aligned

SKIN = 0.1  # nm
LISTS = 8  # cached by one object, for trajectories that are evaluated alternately
LEAST = 4096  # atoms in a range of what is done atom by atom, which for fewer takes less time than to wake a thread


Result = TypeVar("Result")


class NeighbourList(ABC, Generic[Result]):
    """One neighbour list, with the calls of a kernel over its parts.

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
        self._positions = np.zeros((found.agents, 3))  # those that the kernel reads, of the last call
        ranges = np.linspace(0, found.agents, pool.parts_of(found.agents, owner.threads, LEAST) + 1).astype(np.int64)
        self._ranges = list(pairwise(ranges.tolist()))  # of atoms, for what is done atom by atom
        self._moved = np.zeros(len(self._ranges), dtype=np.int64)
        limit = np.array([0.25 * found.skin**2])
        check = Call(count_moved(), scale=self._scale, reference=found.positions, limit=limit)
        self._checks = [
            check.with_other(begin=begin, end=end, moved=self._moved[number:])
            for number, (begin, end) in enumerate(self._ranges)
        ]
        self._kernel = self.kernel_of(self._shape)
        idle = owner.idle_calls(self._kernel, self._shape, len(found.parts), found.most)
        shared: dict[str, Any] = {"scale": self._scale, "source": self._positions, "box": packed(found.box)}
        self._calls = [
            call.with_other(
                **shared,
                agents=part.agents,
                atoms=len(part.atoms),
                order=found.order[part.atoms].astype(np.int32),
                shifts=np.zeros(1) if found.shifts is None else found.shifts[part.atoms],
                shifted=0 if found.shifts is None else len(part.atoms),
                positions=aligned(4 * len(part.atoms), "<f8"),
                species_index=owner.species_index[found.order[part.atoms]].astype(np.int32),
                list=part.candidates,
                offsets=part.offsets,
            )
            for call, part in zip(idle, found.parts, strict=True)
        ]
        self._addresses = [call.address for call in self._calls]
        self._addresses_of_checks = [check.address for check in self._checks]
        self._threads = owner.threads

    @abstractmethod
    def evaluate(self) -> Result:
        """Evaluate the positions that were loaded."""

    @property
    def part_sizes(self) -> list[tuple[int, int]]:
        """Agents, and atoms, of every part."""
        return [(part.agents, len(part.atoms)) for part in self._found.parts]

    def memory(self) -> dict[str, int]:
        """Bytes of the arrays of all parts together: per atom, then what the threads work in."""
        names = ("positions", "order", "species_index", "list", "offsets", "forces")
        sizes = {name: sum(call[name].nbytes for call in self._calls) for name in names}
        sizes |= {name: self._collecting[0][name].nbytes for name in ("places", "firsts")}
        return sizes | {"work": sum(call[name].nbytes for call in self._calls for name in self._shape.work(0))}

    @property
    def origin(self) -> FloatArray:
        """The box in nm (zeros without one), then the positions in units of the grid, that the list was made for."""
        return np.vstack([np.zeros((3, 3)) if self._box is None else self._box, self._found.positions])

    def in_box(self, box: FloatArray | None) -> bool:
        """Whether the list was made in this box."""
        if box is None or self._box is None:
            return box is self._box
        return np.array_equal(box, self._box)

    def load(self, positions: FloatArray) -> bool:
        """Make positions those that the kernel reads, if the list holds for them; returns whether it does."""
        for check in self._checks:
            check.set(source=positions)
        pool.run(self._checks[0].function, self._addresses_of_checks, self._threads)
        if self._moved.any():
            return False
        np.copyto(self._positions, positions)
        return True

    def is_near(self, positions: FloatArray, step: float) -> bool:
        """Whether no atom is further than a step (nm) from where the last call had it."""
        return bool((np.square(positions - self._positions).sum(axis=1) <= step**2).all())

    def run(self) -> None:
        """Run the kernel over the agents, at the positions that were loaded."""
        pool.run(self._kernel.call, self._addresses, self._threads)

    def share_forces(self, collect: Function, per_atom: int, **arguments: int) -> None:
        """Give every part room for the forces on its atoms, `per_atom` numbers each, which a function adds up.

        Parameters
        ----------
        collect : Function
            Over ranges of atoms.
        per_atom : int
        **arguments : int
            Others that it has.
        """
        atoms = np.concatenate([call["order"] for call in self._calls])
        forces, first = aligned(per_atom * len(atoms), self._shape.dtype), 0
        for call in self._calls:
            last = first + len(call["order"])
            call.set(forces=forces[per_atom * first : per_atom * last])
            first = last
        counts = np.bincount(atoms, minlength=self._found.agents)
        shared: dict[str, Any] = {
            "source": forces,
            "scale": self._scale,
            "places": np.argsort(atoms, kind="stable"),  # of every atom; forces on images act on their atoms
            "firsts": np.concatenate([[0], np.cumsum(counts)]),
        }
        self._collecting = [Call(collect, begin=b, end=e, **shared, **arguments) for b, e in self._ranges]

    def sum_forces(self, target: FloatArray) -> FloatArray:
        """Put the forces of all parts, added up, into an array (…, N, 3)."""
        for call in self._collecting:
            call.set(target=target)
        pool.run(self._collecting[0].function, [call.address for call in self._collecting], self._threads)
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
        self._idle_calls: dict[Shape, tuple[int, list[Call]]] = {}
        self._lock = Lock()

    def idle_calls(self, kernel: Function, shape: Shape, parts: int, most: int) -> list[Call]:
        """Calls of a kernel, one for every part, which have the tables and memory to work in.

        The lists take turns, so all of them work in the same memory.

        Parameters
        ----------
        kernel : Function
        shape : Shape
        parts : int
        most : int
            The most candidates of an agent.
        """
        needed = most * shape.together + 2 * BLOCK
        capacity, calls = self._idle_calls.get(shape, (0, []))
        if capacity < needed or len(calls) < parts:
            capacity = needed + needed // 8  # so that the next lists fit too
            with_tables = Call(kernel, capacity=capacity, intervals_of_grid=self.grid.intervals, **self.tables)
            work = shape.work(capacity).items()
            calls = [
                with_tables.with_other(**{name: aligned(size, kind) for name, (kind, size) in work})
                for _ in range(parts)
            ]
            self._idle_calls[shape] = capacity, calls
        return calls[:parts]

    def _evaluate(self, positions: FloatArray, box: FloatArray | None) -> Result:
        """Evaluate positions, refused if they are not of these atoms."""
        positions = np.ascontiguousarray(positions, dtype=np.float64)
        if positions.shape != (len(self.species_index), 3):
            raise DualityError(
                f"the positions have the shape {positions.shape}, and the losses were lowered for "
                f"{len(self.species_index)} atoms; lower them for the species of this system"
            )
        with self._lock:
            return self._list_for(positions, box).evaluate()

    def _list_for(self, positions: FloatArray, box: FloatArray | None) -> NeighbourList[Result]:
        """The neighbour list that holds for these positions; a new one if none does."""
        for number, one in enumerate(self._lists):
            if one.in_box(box) and one.load(positions):
                self._lists.insert(0, self._lists.pop(number))
                return one
        if len(positions):
            self._check(positions, box)
        scale = 1.0 / self.grid.spacing
        made = self._list_at(positions * scale, box)
        # a trajectory that went on by a step needs its old list no longer; another one that passes near by does
        step = 0.25 * self._skin / scale
        gone_on = next((one for one in self._lists if one.is_near(positions, step)), None)
        if gone_on is not None:
            self._lists.remove(gone_on)
        self._lists.insert(0, made)
        del self._lists[LISTS:]
        made.load(positions)
        return made

    def _list_at(self, scaled: FloatArray, box: FloatArray | None) -> NeighbourList[Result]:
        """A new neighbour list for positions in units of the grid."""
        found = find_candidates(
            scaled,
            None if box is None else np.asarray(box, dtype=np.float64) * (1.0 / self.grid.spacing),
            self.species_index,
            self._species,
            float(self.grid.intervals),
            self._skin,
            self.threads,
        )
        return self.list_type(self, found, box)

    def origin(self) -> FloatArray:
        """What the neighbour list of the last call was made for, shape (3 + N, 3), as `remake_list` takes it.

        The order in which forces are added up, and so their rounding, depends on it.
        """
        with self._lock:
            return self._lists[0].origin if self._lists else np.zeros((0, 3))

    def remake_list(self, origin: FloatArray) -> None:
        """Make the list anew that `origin` described, in the place of all others.

        Raises
        ------
        DualityError
            If the box or the positions are none.
        """
        box = origin[:3] if origin[:3].any() else None
        self._check(origin[3:], box)
        with self._lock:
            self._lists = [self._list_at(np.ascontiguousarray(origin[3:]), box)]

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
def count_moved() -> Function:
    """The function ``count_moved``: how many of some atoms are further than a limit from where they were."""
    code = Code("count_moved")
    source, reference = code.array("source", DOUBLE), code.array("reference", DOUBLE)
    scale, limit = code.array("scale", DOUBLE)[0], code.array("limit", DOUBLE)[0]
    moved = Variable(code, I64)
    with code.loop(code.argument("begin"), code.argument("end")) as i:
        changes = [source[i * 3 + c] * scale - reference[i * 3 + c] for c in range(3)]
        square = total(change * change for change in changes)
        # a comparison that NaN fails counts as a move
        moved.set(moved.get() + 1 - square.compare("<=", limit).to(I64))
    code.array("moved", I64)[0] = moved.get()
    return code.compiled()
