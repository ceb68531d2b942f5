"""The repulsive pair core below the shortest distances in the training data.

Below those distances the radial functions are constant, so that only the core ε (r_0/r − 1)³ acts along a pair. Its
strength starts from the largest force in the data and is doubled until, in training frames, every two atoms moved
towards each other repel wherever they are the closest contact.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from openmm_duality.errors import DualityError
from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.geometry.cells import minimum_image
from openmm_duality.geometry.pairs import pairs_within
from openmm_duality.losses.evaluator import evaluate_agents
from openmm_duality.losses.model import AgentLosses, core_onsets
from openmm_duality.parallel import on_all_cores
from openmm_duality.reference.frames import Frames, evenly_spaced

CLOSEST = 0.03  # nm, final distance of an approach
_DOUBLINGS = 12
_QUANTILES = (0.0, 0.02, 0.1, 0.3)  # of the pair distances, at which an approach starts
_FRAMES = 3
_DEPTH = 0.01  # nm, where the core of the widest pair of species reaches the largest force in the data
_CLOSEST_BY = 0.8  # a pair is the closest contact if its r/r_0 is below this fraction of every other's


def with_core(
    losses: AgentLosses,
    data: Sequence[tuple[Frames, Collection[tuple[str, str]]]],
    largest_force: float,
    weakest: FloatArray | None = None,
) -> AgentLosses:
    """Add a core that is repulsive at every distance below the shortest in the training data.

    Parameters
    ----------
    losses : AgentLosses
    data : sequence of (Frames, pairs of species)
        Training frames, and the pairs of species (each in alphabetical order) to test in them.
    largest_force : float
        Largest force on an agent in the data, in kJ/mol/nm. The core of the pair of species with the largest r_c
        reaches it at r_c − 0.01 nm; the others have the same force at the same r/r_0.
    weakest : array, shape (S, S), optional
        Lower bounds of the strengths in kJ/mol.

    Raises
    ------
    DualityError
        If no strength is sufficient.
    """
    onsets = core_onsets(losses.shortest, losses.grid)
    strength = largest_force * onsets * onsets.max() ** 2 / (3.0 * _DEPTH**2)
    if weakest is not None:
        strength = np.maximum(strength, weakest)
    starts = [
        (frames[t : t + 1], pair)
        for frames, pairs in data
        for t in evenly_spaced(len(frames), _FRAMES)
        for pair in _approaches(losses, frames, int(t), pairs)
    ]
    for _ in range(_DOUBLINGS):
        losses = replace(losses, core_strength=strength)
        found = on_all_cores(partial(_repels, losses), starts)
        weak = {
            tuple(sorted((losses.species.index(f.species[i]), losses.species.index(f.species[j]))))
            for (f, (i, j)), repels in zip(starts, found, strict=True)
            if not repels
        }
        if not weak:
            return losses
        strength = strength.copy()
        for a, b in weak:
            strength[a, b] = strength[b, a] = 2.0 * strength[a, b]
    names = ", ".join(f"{losses.species[a]}-{losses.species[b]}" for a, b in sorted(weak))
    raise DualityError(
        f"no repulsive core keeps {names} apart: the many-body part attracts too strongly at the shortest distances of "
        "the training data; use a stronger ridge, or add frames with short distances"
    )


@dataclass(frozen=True)
class Approach:
    """Forces and energies while atom j is moved towards atom i, from just below their shortest distance to 0.03 nm.

    Parameters
    ----------
    distances : array, shape (K,)
        Distances in nm, decreasing.
    forces : array, shape (K,)
        Force on j away from i, in kJ/mol/nm.
    energies : array, shape (K,)
        Sum of losses in kJ/mol.
    closest : array of bool, shape (K,)
        Whether i is the closest contact of j, in units of the shortest distance of each pair of species; elsewhere j
        has run into other atoms, whose forces may have any direction.
    """

    distances: FloatArray
    forces: FloatArray
    energies: FloatArray
    closest: npt.NDArray[np.bool_]

    @property
    def repels(self) -> bool:
        """Whether j is pushed away wherever i is its closest contact, and the sum of losses is finite."""
        return bool((self.forces[self.closest] > 0.0).all() and np.isfinite(self.energies).all())


def approach(losses: AgentLosses, frames: Frames, i: int, j: int, points: int = 12) -> Approach:
    """Evaluate the approach of atom j to atom i in the first of the frames."""
    start, cell = frames.positions[0], frames.cell(0)
    displacement = minimum_image(start[j] - start[i], cell)
    direction = displacement / np.linalg.norm(displacement)
    species_index = losses.index_of(frames.species)
    onsets = core_onsets(losses.shortest, losses.grid)[species_index[j], species_index]
    others = np.delete(np.arange(len(species_index)), [i, j])
    # two grid points below the shortest distance the radial functions are constant and the core acts
    first = max(losses.grid.below(onsets[i]) - 2, 1) * losses.grid.spacing
    distances = np.linspace(first, min(CLOSEST, 0.5 * first), points)
    forces, energies, closest = np.empty(points), np.empty(points), np.empty(points, dtype=bool)
    for k, r in enumerate(distances):
        positions = start.copy()
        positions[j] = start[i] + r * direction
        result = evaluate_agents(losses, positions, frames.species, cell)
        forces[k] = result.forces[j] @ direction
        energies[k] = result.energy
        contacts = np.linalg.norm(minimum_image(positions[others] - positions[j], cell), axis=1) / onsets[others]
        closest[k] = r / onsets[i] < _CLOSEST_BY * min(contacts.min(initial=np.inf), 1.0 / _CLOSEST_BY)
    return Approach(distances, forces, energies, closest)


def _repels(losses: AgentLosses, start: tuple[Frames, tuple[int, int]]) -> bool:
    frames, (i, j) = start
    return approach(losses, frames, i, j).repels


def _approaches(
    losses: AgentLosses, frames: Frames, t: int, pairs: Collection[tuple[str, str]]
) -> list[tuple[int, int]]:
    """Pairs of atoms to test for each pair of species, at the chosen quantiles of their distances."""
    i, j, r = pairs_within(frames.positions[t], frames.cell(t), losses.cutoff)
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
