"""Statistics of the pair distances in training frames."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from openmm_duality.errors import DualityError
from openmm_duality.geometry.arrays import FloatArray, IntArray
from openmm_duality.geometry.cells import check_cell
from openmm_duality.geometry.pairs import pairs_within
from openmm_duality.invariants.radial import Grid
from openmm_duality.losses.model import AgentLosses
from openmm_duality.progress import note, progress_bar
from openmm_duality.reference.frames import Frames
from openmm_duality.units import ANGSTROM

_SHORT, _ENOUGH = 1.6, 1.8  # cutoffs relative to the distance of the nearest neighbours
_COINCIDENT = 1e-3  # nm; atoms closer than this are an error in the data


@dataclass(frozen=True)
class PairStatistics:
    """Statistics of the pair distances within the cutoff.

    Parameters
    ----------
    shortest : array, shape (S, S)
        Shortest distance in nm; NaN for species that never come within the cutoff of each other.
    density : array, shape (S, S, K)
        Number of pairs per interval of the grid, divided by r², in arbitrary units.
    counts : array, shape (S, S, K)
        Number of neighbours of all agents, by species of the agent and of the neighbour, per interval of the grid.
    agents : array, shape (S,)
        Number of agents of every species, over all frames.
    """

    shortest: FloatArray
    density: FloatArray
    counts: FloatArray
    agents: FloatArray

    def short_cutoff(self, species: Sequence[str], grid: Grid) -> str | None:
        """A sentence if the cutoff takes in little more than the nearest neighbours of a species."""
        nearest = self.nearest(grid)
        a = int(np.argmax(nearest))
        if grid.cutoff >= _SHORT * nearest[a]:
            return None
        away, cutoff = nearest[a] / ANGSTROM, grid.cutoff / ANGSTROM
        return (
            f"the nearest neighbours of {species[a]} are {away:.1f} Å away, and a cutoff of {cutoff:.1f} Å takes in "
            f"few others: {np.ceil(_ENOUGH * away):.0f} Å would be better"
        )

    def nearest(self, grid: Grid) -> FloatArray:
        """Distance in nm within which an agent has one neighbour on average, by species, shape (S,); zero for none."""
        within = np.cumsum(self.counts.sum(axis=1), axis=1) / np.maximum(self.agents, 1)[:, None]
        edges = grid.spacing * np.arange(1, grid.intervals + 1)
        return np.where(within[:, -1] >= 1.0, edges[np.argmax(within >= 1.0, axis=1)], 0.0)


def pair_statistics(
    data: Iterable[Frames], species: Sequence[str], grid: Grid, progress: bool = False
) -> PairStatistics:
    """Compute the shortest distances and the densities of pairs over all frames.

    Raises
    ------
    DualityError
        If the vectors of a cell span no volume, or two atoms coincide.
    """
    s = len(species)
    shortest = np.full((s, s), np.inf)
    counts, agents = np.zeros((s, s, grid.intervals)), np.zeros(s)
    edges = np.linspace(0.0, grid.cutoff, grid.intervals + 1)
    parts = list(data)
    bar = progress_bar(sum(map(len, parts)), "pair distances", show=progress)
    for frames in parts:
        species_index = np.array([species.index(name) for name in frames.species])
        agents += len(frames) * np.bincount(species_index, minlength=s)
        for t in range(len(frames)):
            bar.update()
            cell = frames.cell(t)
            check_cell(cell)
            i, j, r = pairs_within(frames.positions[t], cell, grid.cutoff)
            _check_apart(frames, t, i, j, r)
            for a in range(s):
                for b in range(a, s):
                    of_pair = r[
                        ((species_index[i] == a) & (species_index[j] == b))
                        | ((species_index[i] == b) & (species_index[j] == a))
                    ]
                    shortest[a, b] = shortest[b, a] = min(shortest[a, b], of_pair.min(initial=np.inf))
                    counts[a, b] += np.histogram(of_pair, edges)[0]
                    counts[b, a] = counts[a, b]
    bar.close()
    middles = 0.5 * (edges[1:] + edges[:-1])
    neighbours = counts * (1.0 + np.eye(s))[..., None]  # both atoms of a pair of one species have a neighbour
    shortest = np.where(np.isfinite(shortest), shortest, np.nan)
    found = PairStatistics(shortest, counts / middles**2, neighbours, agents)
    if advice := found.short_cutoff(species, grid):
        note(advice, show=progress)
    return found


def known_pair_statistics(losses: AgentLosses, data: Iterable[Frames], remedy: str) -> PairStatistics:
    """Compute pair statistics of new frames, checking that they stay within the training data of a model.

    Parameters
    ----------
    losses : AgentLosses
    data : iterable of Frames
    remedy : str
        What to do about an unknown distance, for the error message.

    Raises
    ------
    DualityError
        If a species is unknown, or a distance is shorter than in the training data of the model.
    """
    frames = list(data)
    for one in frames:
        losses.index_of(one.species)
    found = pair_statistics(frames, losses.species, losses.grid)
    for a, b in np.argwhere(np.isfinite(found.shortest) & ~(found.shortest >= losses.shortest)):
        known = losses.shortest[a, b]
        training = "a pair absent from" if np.isnan(known) else f"closer than the {known:.4f} nm in"
        raise DualityError(
            f"the new frames contain {losses.species[a]}-{losses.species[b]} at {found.shortest[a, b]:.4f} nm, "
            f"{training} the training data of the model, which nothing determines there; {remedy}"
        )
    return found


def _check_apart(frames: Frames, t: int, i: IntArray, j: IntArray, r: FloatArray) -> None:
    if r.min(initial=np.inf) >= _COINCIDENT:
        return
    k = int(r.argmin())
    a, b = (f"{atom + 1} ({frames.species[atom]})" for atom in sorted((int(i[k]), int(j[k]))))
    where = f" of {frames.source[0].split()[0]}" if frames.source else ""
    raise DualityError(
        f"the frame of step {frames.steps[t]}{where} has the atoms {a} and {b}, counted from 1, at the same position "
        f"({r[k]:.2g} nm apart), where no loss is defined; leave the frame out, or correct its source"
    )
