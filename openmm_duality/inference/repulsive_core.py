"""The repulsive pair core below the distances in the training data.

Below the onset of the core the radial functions level off, and the core ε (r_0/r − 1)³ takes over. In training frames
atoms are moved towards each other, and the strength is doubled until every two atoms repel wherever they are the
closest contact. As the force of the core is linear in its strength, the configurations are evaluated once, without it.

Index suffixes: k configuration, j the moved atom, A, B species.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations_with_replacement

import numpy as np
import numpy.typing as npt

from openmm_duality.geometry.arrays import FloatArray, IntArray
from openmm_duality.geometry.contacts import have_met, screened_repulsion
from openmm_duality.geometry.pairs import pair_vectors_within
from openmm_duality.invariants.neighbours import neighbour_tables
from openmm_duality.invariants.radial import RadialBasis
from openmm_duality.losses.cores import core_onsets, unit_cores
from openmm_duality.losses.evaluator import LocalEnvironments
from openmm_duality.losses.model import AgentLosses
from openmm_duality.parallel import on_all_cores
from openmm_duality.reference.frames import Frames, evenly_spaced

Neighbours = tuple[IntArray, FloatArray, FloatArray]  # of one atom: their numbers, distances and displacements (nm)
Joined = tuple[IntArray, IntArray, FloatArray, FloatArray]  # the same of several configurations, after their numbers

CLOSEST = 0.03  # nm, final distance of an approach
_FARTHEST = 0.9  # of the onset, first distance of an approach: above it the core is too weak to be tested
_POINTS = 12  # configurations of an approach
_DOUBLINGS = 12
_QUANTILES = (0.0, 0.02, 0.1, 0.3)  # of the pair distances, at which an approach starts
_FRAMES = 3
_DEPTH = 0.03  # nm, where the core of the widest pair of species reaches the largest force in the data
_WITHIN = 0.7  # of the onset: where a core has the energy of the nuclei, if the data do not show the pair in contact
_CLOSEST_BY = 0.8  # a pair is the closest contact if its r/r_0 is below this fraction of every other's


def with_core(
    losses: AgentLosses,
    data: Sequence[tuple[Frames, Collection[tuple[str, str]]]],
    largest_force: float,
    weakest: FloatArray | None = None,
) -> AgentLosses:
    """Add a core, no harder than it must be, that repels at every distance below its onset.

    The metadata of the result contain under ``core`` the onset (nm) and the strength (kJ/mol) of every pair of species,
    under ``attracting`` those pairs that no strength within reach keeps apart, whose core is as weak as possible, and
    under ``unseen`` those that the data never show.

    Parameters
    ----------
    losses : AgentLosses
    data : sequence of (Frames, pairs of species)
        Training frames, and the pairs of species (each in alphabetical order) to test in them.
    largest_force : float
        Largest force on an agent in the data, in kJ/mol/nm. The weakest core of the pair of species with the largest
        r_0 reaches it at r_0 − 0.03 nm; those of the others have the same force at the same r/r_0. Where the data show
        no pair near a contact, the weakest core has the energy of the nuclei.
    weakest : array, shape (S, S), optional
        Lower bounds of the strengths in kJ/mol.
    """
    onsets = core_onsets(losses.contacts, losses.grid)
    strength, nuclei = largest_force * onsets * onsets.max() ** 2 / (3.0 * _DEPTH**2), _of_nuclei(losses, onsets)
    strength = np.where(np.isnan(nuclei), strength, nuclei)
    if weakest is not None:
        strength = np.maximum(strength, weakest)
    bare = replace(losses, core_strength=np.zeros_like(strength))
    tasks = [
        (start, pair)
        for frames, pairs in data
        for t in evenly_spaced(len(frames), _FRAMES)
        for start in [_Start.of(bare, frames[t : t + 1])]
        for pair in _approaches(losses, frames, int(t), pairs)
    ]
    approaches = list(on_all_cores(partial(_approach_from, bare), tasks))
    strength, attracting = _strong_enough(approaches, strength)
    names = {pair: "-".join(losses.species[a] for a in pair) for pair in _pairs(len(losses.species))}
    report = {
        "onset_nm": {name: float(onsets[pair]) for pair, name in names.items()},
        "strength": {name: float(strength[pair]) for pair, name in names.items()},
        "attracting": [names[pair] for pair in attracting],
        "unseen": [name for pair, name in names.items() if np.isnan(losses.shortest[pair])],
    }
    return replace(losses, core_strength=strength, metadata={**losses.metadata, "core": report})


def attraction(losses: AgentLosses) -> str:
    """Describe the pairs of species that the core cannot keep apart; empty if there are none."""
    pairs = losses.metadata["core"]["attracting"]
    if not pairs:
        return ""
    return (
        f"no repulsive core keeps {', '.join(pairs)} apart: the many-body part attracts too strongly below the "
        "shortest distances of the training data"
    )


@dataclass(frozen=True)
class Approach:
    """Forces and energies while atom j is moved towards atom i, from 0.9 of the onset of the core to 0.03 nm.

    Parameters
    ----------
    pair : tuple of int
        Species of the atoms, in increasing order.
    distances : array, shape (K,)
        Distances in nm, decreasing.
    forces : array, shape (K,)
        Force on j away from i, in kJ/mol/nm.
    per_strength : array, shape (K, S, S)
        Force on j away from i per unit strength of the core of each pair of species, in 1/nm; zero below the diagonal.
    energies : array, shape (K,)
        Sum of the losses of j and its neighbours in kJ/mol.
    closest : array of bool, shape (K,)
        Whether i is the closest contact of j, in units of the onset of each pair of species; elsewhere j has run into
        other atoms, whose forces may have any direction.
    """

    pair: tuple[int, int]
    distances: FloatArray
    forces: FloatArray
    per_strength: FloatArray
    energies: FloatArray
    closest: npt.NDArray[np.bool_]

    @property
    def repels(self) -> bool:
        """Whether j is pushed away wherever i is its closest contact, and the sum of losses is finite."""
        return self.repels_with(np.zeros(self.per_strength.shape[1:]))

    def repels_with(self, strength: FloatArray) -> bool:
        """Whether j is pushed away if the strength of the cores is increased by an array of shape (S, S)."""
        forces = self.forces + np.einsum("kab,ab->k", self.per_strength, strength)
        return bool((forces[self.closest] > 0.0).all() and np.isfinite(self.energies).all())


def approach(losses: AgentLosses, frames: Frames, i: int, j: int) -> Approach:
    """Evaluate the approach of atom j to the nearest image of atom i in the first of the frames."""
    return _approach_from(losses, (_Start.of(losses, frames), (i, j)))


@dataclass(frozen=True)
class _Start:
    """A configuration from which atoms are moved: positions (N, 3) in nm, cell, and environments of all atoms."""

    positions: FloatArray
    cell: FloatArray | None
    environments: LocalEnvironments

    @classmethod
    def of(cls, losses: AgentLosses, frames: Frames) -> _Start:
        """The first of the frames."""
        positions, cell = frames.positions[0], frames.cell(0)
        return cls(positions, cell, LocalEnvironments.of(losses, positions, frames.species, cell))

    def neighbours(self, j: int, position: FloatArray, cutoff: float) -> Neighbours:
        """Neighbours of atom j if it is moved to a position."""
        moved = self.positions.copy()
        moved[j] = position
        agents, neighbours, distances, vectors = pair_vectors_within(moved, self.cell, cutoff, full_list=True)
        of_j = agents == j
        return neighbours[of_j], distances[of_j], vectors[of_j]


def _approach_from(losses: AgentLosses, task: tuple[_Start, tuple[int, int]]) -> Approach:
    start, (i, j) = task
    species_index, origin = start.environments.species_index, start.positions[j]
    onsets = core_onsets(losses.contacts, losses.grid)[species_index[j], species_index]
    before = start.neighbours(j, origin, losses.cutoff)
    images = np.flatnonzero(before[0] == i)
    vector = -before[2][images[np.argmin(before[1][images])]]  # from the nearest image of i
    direction = vector / np.linalg.norm(vector)
    first = _FARTHEST * onsets[i]
    distances = np.linspace(first, min(CLOSEST, 0.5 * first), _POINTS)
    after = [start.neighbours(j, origin - vector + r * direction, losses.cutoff) for r in distances]
    forces, energies = _moved(losses, start.environments, j, before, after)
    slopes = RadialBasis(losses.grid, unit_cores(losses.contacts, losses.grid)[:, :, None])
    own = 2.0 if losses.has_reactions else 1.0  # the loss of the neighbour contains the core too
    per_strength = np.zeros((len(distances), *losses.shortest.shape))
    closest = np.empty(len(distances), dtype=bool)
    for k, (m, d, displacements) in enumerate(after):
        u = displacements / d[:, None]
        for b in range(len(losses.species)):
            mine = species_index[m] == b
            _, slope = slopes.evaluate(d[None, mine], species_index[[j]], b)
            a, c = sorted((int(species_index[j]), b))
            per_strength[k, a, c] += own * float(slope[0, :, 0] @ (u[mine] @ direction))
        others = np.ones(len(m), dtype=bool)
        others[np.argmin(np.linalg.norm(displacements + distances[k] * direction, axis=1))] = False
        contacts = d[others] / onsets[m[others]]
        closest[k] = distances[k] / onsets[i] < _CLOSEST_BY * min(contacts.min(initial=np.inf), 1.0 / _CLOSEST_BY)
    pair = tuple(sorted((int(species_index[i]), int(species_index[j]))))
    return Approach((pair[0], pair[1]), distances, forces @ direction, per_strength, energies, closest)


def _moved(
    losses: AgentLosses, start: LocalEnvironments, j: int, before: Neighbours, after: Sequence[Neighbours]
) -> tuple[FloatArray, FloatArray]:
    """Forces on atom j, shape (K, 3), and sums of the losses of j and its neighbours, shape (K,).

    The losses of neighbours are those without their pair potentials with others. Their moments are those at the start,
    less what j adds to them before it is moved, plus what it adds to them after that.

    Parameters
    ----------
    losses : AgentLosses
    start : LocalEnvironments
        Those of all N atoms before j is moved.
    j : int
    before : Neighbours
        Neighbours of j before it is moved.
    after : sequence of Neighbours
        Its neighbours in each of the K configurations.
    """
    species, n, number = start.species_index, len(start.species_index), len(after)
    k, m, d, vectors = _joined(after)
    # j in all configurations, and one agent without neighbours in place of all others, whose forces are not used
    agents = np.append(np.full(number, species[j]), 0)
    mine = _environments(losses, agents, k, np.where(m == j, k, number), d, vectors, species[m]).evaluate(losses)
    rows = np.unique((k * n + m)[m != j])  # the neighbours in all configurations; after them j as their only neighbour
    agents = np.append(species[rows % n], np.full(number, species[j]))

    def with_j(joined: Joined) -> LocalEnvironments:
        """Environments of the neighbours with j alone."""
        k, m, d, vectors = joined
        row = np.searchsorted(rows, k * n + m)
        known = np.flatnonzero((m != j) & (rows[np.minimum(row, len(rows) - 1)] == k * n + m))
        known = known[np.argsort(row[known], kind="stable")]
        of_j = np.full(len(known), species[j])
        return _environments(losses, agents, row[known], len(rows) + k[known], d[known], -vectors[known], of_j)

    less, more = with_j(_joined([before] * number)), with_j((k, m, d, vectors))
    moments = {rank: added - less.moments[rank] for rank, added in more.moments.items()}
    for rank, at_start in start.moments.items():
        moments[rank][: len(rows)] += at_start[rows % n]
    others = replace(more, moments=moments).evaluate(losses)
    energies = mine.losses[:number] + np.bincount(rows // n, others.losses[: len(rows)], number)
    return mine.forces[:number] + others.forces[len(rows) :], energies


def _joined(neighbours: Sequence[Neighbours]) -> Joined:
    """Neighbours of all configurations, after the numbers of these."""
    m, d, vectors = (np.concatenate(parts) for parts in zip(*neighbours, strict=True))
    return np.repeat(np.arange(len(neighbours)), [len(one[0]) for one in neighbours]), m, d, vectors


def _environments(
    losses: AgentLosses,
    species_index: IntArray,
    agents: IntArray,
    neighbours: IntArray,
    distances: FloatArray,
    displacements: FloatArray,
    species_of_neighbours: IntArray,
) -> LocalEnvironments:
    """Environments of agents of given species from pairs, in increasing order of the agent."""
    pairs = (agents, neighbours, distances, displacements, species_of_neighbours)
    tables = neighbour_tables(*pairs, len(species_index), len(losses.species), losses.cutoff)
    return LocalEnvironments.of_tables(losses, species_index, tables)


def _strong_enough(approaches: Sequence[Approach], strength: FloatArray) -> tuple[FloatArray, list[tuple[int, int]]]:
    """Double the strengths until all approaches repel; the second value lists the pairs of species that never do."""
    initial, strength, weak = strength, strength.copy(), set[tuple[int, int]]()
    for _ in range(_DOUBLINGS + 1):
        weak = {found.pair for found in approaches if not found.repels_with(strength)}
        if not weak:
            break
        for a, b in weak:
            strength[a, b] = strength[b, a] = 2.0 * strength[a, b]
    for a, b in weak:  # a core that does not help should not be hard either
        strength[a, b] = strength[b, a] = initial[a, b]
    return strength, sorted(weak)


def _of_nuclei(losses: AgentLosses, onsets: FloatArray) -> FloatArray:
    """Strengths with the energy of the nuclei at 0.7 r_0, where the data show no contact; NaN for other pairs."""
    found = np.full(onsets.shape, np.nan)
    for a, b in np.argwhere(~have_met(losses.shortest, losses.contacts)):
        energy = screened_repulsion((losses.species[a], losses.species[b]), _WITHIN * onsets[a, b])
        if energy is not None:
            found[a, b] = energy / (1.0 / _WITHIN - 1.0) ** 3
    return found


def _pairs(n_species: int) -> list[tuple[int, int]]:
    return list(combinations_with_replacement(range(n_species), 2))


def _approaches(
    losses: AgentLosses, frames: Frames, t: int, pairs: Collection[tuple[str, str]]
) -> list[tuple[int, int]]:
    """Pairs of atoms to test for each pair of species, at the chosen quantiles of their distances."""
    i, j, r, _ = pair_vectors_within(frames.positions[t], frames.cell(t), losses.cutoff)
    species_index = losses.index_of(frames.species)
    low, high = np.minimum(species_index[i], species_index[j]), np.maximum(species_index[i], species_index[j])
    chosen = []
    for a, b in sorted((losses.species.index(one), losses.species.index(other)) for one, other in pairs):
        order = np.flatnonzero((low == a) & (high == b) & (i != j))
        order = order[np.argsort(r[order])]
        if len(order):
            picks = np.unique((np.array(_QUANTILES) * (len(order) - 1)).astype(int))
            chosen += [(int(i[order[k]]), int(j[order[k]])) for k in picks]
    return chosen
