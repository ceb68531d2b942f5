"""The walls that the data show, continued below their shortest distances.

There the regularisation continues the losses harmonically, but the slope of a wall grows from one step inwards to the
next, and what is continued harmonically is too soft. What one neighbour adds to the force on an agent, −∂H/∂r with all
else held still, is therefore continued exponentially, with the growth that the losses have where there are data. Where
they fall short of that, a wall s (1 − r/r_w)⁴ is added to the pair potentials; nothing is ever taken away. Where the
force does not grow inwards, as of atoms of a molecule that never met, only an attraction below the data is made up for.

Index suffixes: n agent, k distance of the neighbour.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from openmm_duality.geometry.arrays import FloatArray, IntArray
from openmm_duality.geometry.contacts import have_met
from openmm_duality.invariants.neighbours import NeighbourTable, find_neighbours
from openmm_duality.losses.cores import wall_onsets
from openmm_duality.losses.evaluator import LocalEnvironments, polynomial
from openmm_duality.losses.model import AgentLosses
from openmm_duality.reference.frames import Frames, evenly_spaced

_STEP = 0.075  # of the onset of a wall
DEPTHS = np.array([-2.0, -1.0, 0.0, 0.5, 1.0, 1.5, 2.0])  # below the onset, in steps; three where there are data
_STEEPEST = 14.0  # r_w times the relative growth of the slope of the force, that of a wall r⁻¹²
_FRAMES, _CLOSEST = 8, 2  # frames, and agents of each


def with_walls(losses: AgentLosses, data: Sequence[tuple[Frames, Collection[tuple[str, str]]]]) -> AgentLosses:
    """Continue the walls of losses below the shortest distances in the data.

    The metadata of the result contain under ``walls`` the onset (nm) and the strength (kJ/mol) of every wall added.

    Parameters
    ----------
    losses : AgentLosses
        Their walls are replaced, but for those of pairs of species that the data do not show, or only far apart.
    data : sequence of (Frames, pairs of species)
        Training frames, and the pairs of species whose walls they show.
    """
    bare = replace(losses, wall_strength=np.zeros_like(losses.wall_strength))
    models = [bare] if bare.own is None else [bare, bare.descended]  # what acts on a neighbour, and on the agent
    onsets, strength = wall_onsets(losses.shortest, losses.grid), losses.wall_strength.copy()
    show_walls = have_met(losses.shortest, losses.contacts)
    for frames, pairs in data:
        index = losses.index_of(frames.species)
        numbers = [(losses.species.index(one), losses.species.index(other)) for one, other in pairs]
        found: dict[tuple[int, int], list[FloatArray]] = {pair: [] for pair in numbers if show_walls[pair]}
        for t in evenly_spaced(len(frames), _FRAMES):
            tables = find_neighbours(frames.positions[t], frames.cell(t), index, len(losses.species), losses.cutoff)
            for (a, b), forces in found.items():
                for way in {(a, b), (b, a)}:
                    forces += [forces_of_closest(model, index, tables, *way, onsets[a, b]) for model in models]
        for (a, b), forces in found.items():
            if any(map(len, forces)):
                mean = np.concatenate(forces).mean(axis=0)
                strength[a, b] = strength[b, a] = missing_wall(mean, float(onsets[a, b]))
    report = {
        f"{one}-{other}": {"onset_nm": float(onsets[a, b]), "strength": float(strength[a, b])}
        for a, one in enumerate(losses.species)
        for b, other in enumerate(losses.species[a:], a)
        if strength[a, b]
    }
    return replace(losses, wall_strength=strength, metadata={**losses.metadata, "walls": report})


def missing_wall(forces: FloatArray, onset: float) -> float:
    """Strength in kJ/mol of the wall that losses lack, 0 if they lack none.

    Where the force does not grow inwards within the data, the wall makes up for what attracts below them.

    Parameters
    ----------
    forces : array, shape (K,)
        −∂H/∂r in kJ/mol/nm at `onset` (1 − 0.075 depth) for the `DEPTHS`.
    onset : float
        In nm.
    """
    (outer, inner), below = np.diff(forces[:3]), DEPTHS[3:]
    if inner > 0.0:
        rate = np.clip(np.log(inner / outer) if outer > 0.0 else np.inf, 1e-6, _STEEPEST * _STEP)  # of growth in a step
        continued = forces[2] + inner * np.expm1(rate * below) / -np.expm1(-rate)
    else:
        continued = np.zeros(len(below))
    unit = 4.0 / onset * (_STEP * below) ** 3
    return max(0.0, float((continued - forces[3:]) @ unit / (unit @ unit)))


def forces_of_closest(
    losses: AgentLosses, species_index: IntArray, tables: Sequence[NeighbourTable], a: int, b: int, onset: float
) -> FloatArray:
    """−∂H/∂r of the agents of species a with the closest neighbours of species b at the depths, shape (n, K)."""
    agents, distances = np.flatnonzero(species_index == a), tables[b].distances
    nearest = distances[agents].min(axis=1, initial=losses.cutoff)
    agents = agents[np.argsort(nearest, kind="stable")][: min(_CLOSEST, np.count_nonzero(nearest < losses.cutoff))]
    if not len(agents):
        return np.zeros((0, len(DEPTHS)))
    rows = np.repeat(agents, len(DEPTHS))
    moved, k, slots = [table.of(rows) for table in tables], np.arange(len(rows)), distances[rows].argmin(axis=1)
    mine, r = moved[b], np.tile(onset * (1.0 - _STEP * DEPTHS), len(agents))
    shifts = np.zeros_like(mine.displacements)
    shifts[k, slots] = (r / mine.distances[k, slots] - 1.0)[:, None] * mine.displacements[k, slots]
    moved[b] = mine.displaced(shifts)
    here = LocalEnvironments.of_tables(losses, species_index[rows], moved)
    _, adjoints = polynomial(losses, here.species_index, here.moments)
    _, gradient = here.pair_gradients(losses, adjoints, b)
    slopes = np.einsum("kx,kx->k", gradient[k, slots], moved[b].directions[k, slots])
    return np.asarray(-slopes.reshape(-1, len(DEPTHS)))
