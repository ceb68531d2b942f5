"""The pair core below the shortest distances seen: strong enough, by construction, to repel.

Below those distances the radial functions are constant, so nothing in the losses grows along a pair, and the core
ε (r_c/r − 1)³ is all that acts on its distance. Its strength starts from the largest force in the data and is doubled
until, in training frames, every pair of species brought together is repelled wherever it is the closest contact.
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

CLOSEST = 0.03  # nm, where the approach ends
_DOUBLINGS = 12
_QUANTILES = (0.0, 0.02, 0.1, 0.3)  # of the pair distances from which an approach starts
_FRAMES = 3
_DEPTH = 0.01  # nm, where the core of the widest pair of species reaches the largest force in the data
_CLOSEST_BY = 0.8  # a pair is the closest contact when its r/r_c is below this share of every other's


def with_core(
    losses: AgentLosses,
    data: Sequence[tuple[Frames, Collection[tuple[str, str]]]],
    largest_force: float,
    weakest: FloatArray | None = None,
) -> AgentLosses:
    """The losses with a core that repels at every distance below the shortest seen.

    Parameters
    ----------
    losses : AgentLosses
    data : sequence of (Frames, pairs of species)
        Training frames, and the pairs of species (each in alphabetical order) that are brought together in them.
    largest_force : float
        Largest force on an agent in the data, in kJ/mol/nm: the core of the widest pair of species reaches it 0.01 nm
        deep, and the others have the same force at the same r/r_c.
    weakest : array, shape (S, S), optional
        Strengths in kJ/mol below which none may fall.

    Raises
    ------
    DualityError
        If no strength is enough.
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
        f"no core keeps {names} apart: the many-body part attracts too strongly at the shortest distances seen; "
        "use a stronger ridge, or add frames with short distances"
    )


@dataclass(frozen=True)
class Approach:
    """Atom j brought towards atom i along their line, from just below the shortest distance seen down to 0.03 nm.

    Parameters
    ----------
    distances : array, shape (K,)
        In nm, decreasing.
    forces : array, shape (K,)
        On j, away from i, in kJ/mol/nm.
    energies : array, shape (K,)
        Sum of losses in kJ/mol.
    closest : array of bool, shape (K,)
        Whether i is the closest contact of j there, in units of the shortest distance of each pair of species: on its
        way j may run into other atoms, which push it where they will.
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
    """The approach of atom j to atom i in the first of the frames."""
    start, cell = frames.positions[0], frames.cell(0)
    displacement = minimum_image(start[j] - start[i], cell)
    direction = displacement / np.linalg.norm(displacement)
    species_index = losses.index_of(frames.species)
    onsets = core_onsets(losses.shortest, losses.grid)[species_index[j], species_index]
    others = np.delete(np.arange(len(species_index)), [i, j])
    # from where the radial functions are constant and the core acts, two grid points below the shortest distance
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
    """Pairs of atoms of the pairs of species, near and not so near."""
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
