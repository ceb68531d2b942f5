"""Neighbour lists that are kept from call to call, a few of them for trajectories that take turns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from threading import Lock
from typing import Any, Generic, TypeVar

import numpy as np
from llvmlite import ir

from openmm_duality.errors import DualityError
from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.geometry.cells import check_cutoff
from openmm_duality.losses.model import AgentLosses
from openmm_duality.lowering.fused import threads as pool
from openmm_duality.lowering.fused.boxes import packed
from openmm_duality.lowering.fused.checks import check_particles, check_precision
from openmm_duality.lowering.fused.code import DOUBLE, I64, Code, Variable
from openmm_duality.lowering.fused.machine import Arguments, aligned, compiled
from openmm_duality.lowering.fused.search import Candidates, find_candidates
from openmm_duality.lowering.fused.shape import BLOCK

Function = Callable[[int], None]

ARRANGE = ("begin", "end", "source", "order", "scale", "target", "reference", "limit", "moved")

SKIN = 0.1  # nm
LISTS = 8  # that one object keeps, for trajectories that take turns


class NeighbourList:
    """One neighbour list, and the memory of the kernels that use it.

    Parameters
    ----------
    owner : NeighbourListCache
    found : Candidates
    box : array, shape (3, 3), or None
        In nm.
    names : sequence of str
        Names of the arguments of the kernel, in their order.
    work : callable
        Type and length of the arrays that one thread works in, given the most neighbours of an agent.
    """

    def __init__(
        self,
        owner: NeighbourListCache[Any],
        found: Candidates,
        box: FloatArray | None,
        names: Sequence[str],
        work: Callable[[int], Mapping[str, tuple[Any, int]]],
    ) -> None:
        self._box = None if box is None else np.array(box, dtype=np.float64)
        self._arrange = _arrange()
        atoms, scale = len(found.order), 1.0 / owner.grid.spacing
        positions = aligned(4 * atoms, "<f8")
        self._moved = np.zeros(1, dtype=np.int64)
        self._last = np.zeros((atoms, 3))
        # finite, so that a position that is not finite has moved too far even where every pair is a candidate
        limit = min(0.25 * found.skin**2, 1e300)
        self._arranging = Arguments(ARRANGE)
        self._arranging.set(begin=0, end=atoms, order=found.order, scale=np.array([scale]), target=positions)
        self._arranging.set(reference=found.positions, limit=np.array([limit]), moved=self._moved)
        species_index = owner.species_index[found.order].astype(np.int32)
        scaled = packed(None if self._box is None else self._box * scale)
        capacity = found.most + BLOCK
        self._calls = []
        for part in found.parts:
            call = Arguments(names)
            call.set(
                begin=part.begin,
                end=part.end,
                atoms=atoms,
                positions=positions,
                species_index=species_index,
                box=scaled,
            )
            call.set(list=part.candidates, offsets=part.offsets, capacity=capacity)
            call.set(intervals_of_grid=owner.grid.intervals)
            call.set(**{name: aligned(size, kind) for name, (kind, size) in work(capacity).items()})
            self._calls.append(call)
        self._addresses = [call.address for call in self._calls]
        self._threads = owner.threads

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

    def run(self, kernel: Function, positions: FloatArray) -> None:
        """A kernel over the agents, at the positions that the list holds for."""
        np.copyto(self._last, positions)
        pool.run(kernel, self._addresses, self._threads)


OwnList = TypeVar("OwnList", bound=NeighbourList)


class NeighbourListCache(ABC, Generic[OwnList]):
    """The neighbour lists of some atoms, which are called with positions and a box.

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
    particles : sequence of int, length N, optional
        Indices of these atoms among others, by which they are named in errors.

    Raises
    ------
    DualityError
        If a species is unknown to the model, the precision is not one of the two, or the particles are wrong.
    """

    def __init__(
        self,
        losses: AgentLosses,
        species: Sequence[str],
        precision: str,
        threads: int | None,
        skin: float,
        particles: Sequence[int] | None = None,
    ) -> None:
        self.species_index = losses.index_of(species)
        self.cutoff = losses.cutoff
        self.grid = losses.grid
        self.precision = check_precision(precision)
        self.threads = threads or pool.default_threads()
        self._skin = skin / losses.grid.spacing
        self._particles = check_particles(particles, n_species=len(species))
        self._species = len(losses.species)
        self._lists: list[OwnList] = []
        self._lock = Lock()

    @abstractmethod
    def _new_list(self, found: Candidates, box: FloatArray | None) -> OwnList:
        """A neighbour list of candidates that were found."""

    def _checked(self, positions: FloatArray) -> FloatArray:
        """Positions as the kernels read them; refused if they are not of these atoms."""
        positions = np.ascontiguousarray(positions, dtype=np.float64)
        if positions.shape != (len(self.species_index), 3):
            raise DualityError(
                f"the positions have the shape {positions.shape}, and the losses were lowered for "
                f"{len(self.species_index)} atoms; lower them for the species of this system"
            )
        return positions

    def _list_for(self, positions: FloatArray, box: FloatArray | None) -> OwnList:
        """The neighbour list that holds for these positions; a new one if none does."""
        for number, one in enumerate(self._lists):
            if one.in_box(box) and one.holds(positions):
                self._lists.insert(0, self._lists.pop(number))
                return one
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
        self._lists.insert(0, self._new_list(found, box))
        del self._lists[LISTS:]
        self._lists[0].holds(positions)
        return self._lists[0]

    def _check(self, positions: FloatArray, box: FloatArray | None) -> None:
        wrong = ~np.isfinite(positions).all(axis=1)
        if wrong.any():
            first = int(wrong.argmax())
            atom = first if self._particles is None else int(self._particles[first])
            raise DualityError(
                f"the position of atom {atom} is not a finite number: the dynamics has blown up; "
                "take a shorter time step, or look at what the losses were inferred from"
            )
        check_cutoff(self.cutoff, box)


@cache
def _arrange() -> Function:
    return compiled(arrange_module(), "arrange")[0]


def arrange_module() -> ir.Module:
    """A module with the function ``arrange``: positions (N, 3) scaled and in order as (x, y, z, 0).

    It counts those further than a limit from where they were.
    """
    module = ir.Module(name="arrange")
    code = Code(module, "arrange", ARRANGE)
    source, target, reference = (code.array(name, DOUBLE) for name in ("source", "target", "reference"))
    order, scale, limit = code.array("order", I64), code.array("scale", DOUBLE)[0], code.array("limit", DOUBLE)[0]
    moved = Variable(code, code.integer(0))
    with code.loop(code.argument("begin"), code.argument("end")) as i:
        atom, square = order[i] * 3, code.constant(DOUBLE, 0.0)
        for c in range(3):
            value = source[atom + c] * scale
            target[i * 4 + c] = value
            change = value - reference[i * 4 + c]
            square = square + change * change
        # a comparison that NaN fails counts as a move
        moved.set(moved.get() + 1 - square.compare("<=", limit).to(I64))
    code.array("moved", I64)[0] = moved.get()
    code.finish()
    return module
