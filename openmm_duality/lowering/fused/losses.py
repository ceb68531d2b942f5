"""Sum of losses and forces by the fused kernel, with neither OpenMM nor torch.

Losses and atoms are packed as one string of bytes for what has to travel inside a force or a file.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cache, lru_cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt

from openmm_duality.errors import DualityError
from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.losses.forms import require_potential_energy
from openmm_duality.losses.means import mean_invariants_of, mean_sums_of
from openmm_duality.losses.model import AgentLosses
from openmm_duality.lowering.fused.channel_kernel import ChannelKernel
from openmm_duality.lowering.fused.checks import LARGEST_FORCE, check_particles, hash_of_atoms
from openmm_duality.lowering.fused.collecting import collect
from openmm_duality.lowering.fused.kernel import AgentKernel
from openmm_duality.lowering.fused.neighbour_lists import SKIN, NeighbourList, NeighbourListCache
from openmm_duality.lowering.fused.search import Candidates
from openmm_duality.lowering.fused.shape import Shape
from openmm_duality.lowering.fused.tables import shape_of, tables
from openmm_duality.machine_code.machine import Function

# in use in this process, by precision, losses and atoms, the last two as hashes: as their forces are named
evaluators: WeakValueDictionary[tuple[str, ...], FusedLosses] = WeakValueDictionary()


@cache
def agents(shape: Shape, with_virial: bool = False) -> Function:
    """The function ``agents``: losses and forces of the agents `begin` to `end`, and their virial if it is wanted."""
    return (ChannelKernel if shape.mixed else AgentKernel)("agents", shape, with_virial).write()


class _List(NeighbourList[tuple[float, FloatArray]]):
    """A neighbour list with the kernel of the losses, and its energies and forces."""

    kernel_of = staticmethod(agents)

    def __init__(self, owner: NeighbourListCache[Any], found: Candidates, box: FloatArray | None) -> None:
        super().__init__(owner, found, box)
        self._energies = np.zeros(len(found.parts))
        for number, (call, part) in enumerate(zip(self._calls, found.parts, strict=True)):
            call.set(energy=self._energies[number : number + 1])
            if self._shape.mixed:
                blocks = blocks_of(call["species_index"][: part.agents], self._shape.together)
                call.set(blocks=blocks, number_of_blocks=len(blocks), intervals_of_moments=owner.intervals_of_moments)
        self.share_forces(collect(self._shape.real), 4)

    def evaluate(self) -> tuple[float, FloatArray]:
        self.run()
        return sum(self._energies.tolist()), self.sum_forces(np.empty_like(self._positions))


class _VirialList(_List):
    """The same with the virial, which takes the place of the energy and the forces."""

    kernel_of = staticmethod(partial(agents, with_virial=True))

    def __init__(self, owner: NeighbourListCache[Any], found: Candidates, box: FloatArray | None) -> None:
        super().__init__(owner, found, box)
        self._virials = np.zeros((len(found.parts), 3, 4))
        for call, virial in zip(self._calls, self._virials, strict=True):
            call.set(virial=virial)

    def evaluate(self) -> tuple[float, FloatArray]:
        self.run()
        return 0.0, -self._virials.sum(axis=0)[:, :3].T  # lengths in units of the grid drop out


def blocks_of(species_index: npt.NDArray[np.int32], width: int) -> npt.NDArray[np.int32]:
    """Agents of one species in blocks of at most `width`: how many, and which, shape (number of blocks, width + 1)."""
    order = np.argsort(species_index, kind="stable")
    counts, of_agent = np.bincount(species_index), species_index[order]
    ends = np.cumsum(counts)[of_agent]  # where the species of every agent ends, and begins
    begins = ends - counts[of_agent]
    firsts = np.flatnonzero((np.arange(len(order)) - begins) % width == 0)[:, None]
    lanes = firsts + np.arange(width)
    filled = lanes < ends[firsts]
    return np.hstack([filled.sum(axis=1, keepdims=True), order[np.where(filled, lanes, firsts)]]).astype(np.int32)


class FusedLosses(NeighbourListCache[tuple[float, FloatArray]]):
    """The losses of a list of atoms, compiled for this machine; called with positions and a box.

    Neighbour lists are kept from call to call, also for a few trajectories that take turns. Calls from several threads
    wait for each other.

    Parameters
    ----------
    losses : AgentLosses
    species : sequence of str, length N
        The species of every atom, in the order of the positions or of the particles.
    precision : str
        ``single`` or ``double``: of the arithmetic. Displacements and distances are always double, and losses are added
        up in it (docs/benchmarks.md has the noise of the energy).
    particles : sequence of int, length N, optional
        Indices of these atoms among the positions; by default they are all of them.
    threads : int, optional
        By default OPENMM_DUALITY_THREADS, or as many as the cores that this process may use. Results are the same
        from run to run with one number of threads.
    skin : float
        In nm: a neighbour list holds until an atom has moved half of it.
    mean_sums : array-like, shape (S, S, n), optional
        As `means.mean_sums_of`, which is the default.
    mean_invariants : array-like, shape (S, Q), optional
        As `means.mean_invariants_of`, which is the default.

    Raises
    ------
    DualityError
        If a species is unknown to the model, the precision is not one of the two, or the particles are wrong.
    """

    shape_of, list_type = staticmethod(shape_of), _List

    def __init__(
        self,
        losses: AgentLosses,
        species: Sequence[str],
        precision: str = "single",
        particles: Sequence[int] | None = None,
        threads: int | None = None,
        skin: float = SKIN,
        mean_sums: npt.ArrayLike | None = None,
        mean_invariants: npt.ArrayLike | None = None,
    ) -> None:
        centres = np.asarray(mean_sums_of(losses) if mean_sums is None else mean_sums, dtype=np.float64)
        mean_phi = np.asarray(mean_invariants_of(losses) if mean_invariants is None else mean_invariants, np.float64)
        self.tables_of = partial(tables, centres=centres, mean_phi=mean_phi)
        super().__init__(losses, species, precision, threads, skin)
        self._gradient = losses.gradient
        self._make_virial = partial(_FusedVirial, losses, species, precision, None, threads, skin, centres, mean_phi)
        self._with_virial: _FusedVirial | None = None
        self._particles = check_particles(particles, n_given=len(species))

    def __call__(self, positions: FloatArray, box: FloatArray | None = None) -> tuple[float, FloatArray]:
        """Sum of losses in kJ/mol and forces (N, 3) in kJ/mol/nm, from positions (N, 3) and box (3, 3) in nm.

        Raises
        ------
        DualityError
            If the vectors of the box span no volume, the number of positions is another than that of the species, a
            position is not a finite number, or there is no position of a particle.
        """
        if self._particles is None:
            return self._bounded(positions, box)
        if len(positions) <= self._particles.max():
            raise DualityError(f"the losses act on atom {self._particles.max()}, and there are {len(positions)} atoms")
        forces = np.zeros((len(positions), 3))
        energy, forces[self._particles] = self._bounded(positions[self._particles], box)
        return energy, forces

    def virial(self, positions: FloatArray, box: FloatArray | None = None) -> FloatArray:
        """Virial W = −∂E/∂ε (3, 3) in kJ/mol of losses with a potential (`evaluator.Evaluation`).

        It has a kernel and neighbour lists of its own, made when it is first asked for.

        Raises
        ------
        DualityError
            If the losses have no potential energy, or as for the forces.
        """
        require_potential_energy(self._gradient, "a virial")
        with self._lock:
            if self._with_virial is None:
                self._with_virial = self._make_virial()
        chosen = positions if self._particles is None else np.asarray(positions)[self._particles]
        return self._with_virial._evaluate(chosen, box)[1]

    def _bounded(self, positions: FloatArray, box: FloatArray | None) -> tuple[float, FloatArray]:
        energy, forces = self._evaluate(positions, box)
        np.minimum(forces, LARGEST_FORCE, out=forces)  # half the time of np.clip for few atoms
        return energy, np.maximum(forces, -LARGEST_FORCE, out=forces)


class _FusedVirial(FusedLosses):
    """The virial of all given atoms, by a kernel of its own."""

    list_type = _VirialList


def pack(losses: AgentLosses, species: Sequence[str], precision: str, particles: Sequence[int] | None = None) -> bytes:
    """Pack losses and atoms: a line of JSON, then the model file without what forces do not need; nothing in it is run.

    Raises
    ------
    DualityError
        If a species is unknown to the model, the precision is not one of the two, or the particles are wrong.
    """
    FusedLosses(losses, species, precision, particles)
    indices = None if particles is None else [int(k) for k in particles]
    header = json.dumps(
        {
            "species": list(species),
            "precision": precision,
            "particles": indices,
            "mean_sums": mean_sums_of(losses).tolist(),
            "mean_invariants": mean_invariants_of(losses).tolist(),
            "identity": [precision, losses.sha256(), hash_of_atoms(species, particles)],
        }
    )
    with TemporaryDirectory() as folder:
        path = Path(folder) / "losses"
        replace(losses, committee=None, domain=None, baseline=None, equations={}, metadata={}).save(path)
        return header.encode() + b"\n" + path.read_bytes()


@lru_cache(maxsize=16)
def unpacked(packed: bytes) -> FusedLosses:
    """The losses that `pack` packed, ready to be called; the same object for the same bytes."""
    header, model = packed.split(b"\n", 1)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "losses"
        path.write_bytes(model)
        losses = AgentLosses.load(path)
    settings = json.loads(header)
    identity = settings.pop("identity", ())  # those of earlier versions have none
    evaluator = FusedLosses(losses, **settings)
    evaluators[tuple(identity)] = evaluator
    return evaluator
