"""Separations: training frames of clusters with one molecule moved away from the others.

Where frames show two species in a cluster alone, nothing says what acts between them from there to the cutoff. That is
an offset which the data leave open, so a molecule that leaves may fall off a cliff, or not be able to leave. As it
leaves, the net force on it fades, and so does that on the molecule nearest to it, while what holds the molecules
together themselves stays as it is, roughly. A weak penalty on errors of these forces decides what the data do not.

Index suffixes: i atom, t frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.spatial.distance import cdist

from openmm_duality.geometry.arrays import BoolArray, FloatArray, IntArray
from openmm_duality.geometry.bonding import BondLengths, sums_of_covalent_radii
from openmm_duality.geometry.molecules import bonded_pairs, component_labels
from openmm_duality.inference.equations.design import Design
from openmm_duality.inference.equations.synthetic_frames import frames_to_change
from openmm_duality.inference.equations.targets import DataSet
from openmm_duality.reference.frames import Frames
from openmm_duality.units import ANGSTROM

_FADES = 1.0 * ANGSTROM  # the distance on which the net force on a molecule falls to its e-th part
_APART = 1.5  # times the sum of the covalent radii; closer atoms of two molecules are about to be bonded
_FARTHEST = 0.25  # of the molecules, those farthest from the others to begin with
_SEED = 0


def separated_sets(sets: Sequence[DataSet], lengths: BondLengths, design: Design) -> list[DataSet]:
    """Frames of clusters with a molecule moved away at random, up to the cutoff, as sets beside those of the data.

    Frames without forces, with a cell, of a single molecule or of species that are no elements give none.

    Parameters
    ----------
    sets : sequence of DataSet
    lengths : dict
        The bond length of every pair of species that is bonded, in nm.
    design : Design
        There are up to ten rows of forces for each of its columns, and up to ten separations of a frame, of which the
        quarter is taken in which the molecule is farthest from the others to begin with, of every composition.
    """

    def is_cluster(frames: Frames, t: int) -> bool:
        return frames.cells is None and bool(_molecules(frames, t, lengths).any())

    sample, repeats = frames_to_change(sets, is_cluster, design)
    cutoff, rng = design.pair_basis.grid.cutoff, np.random.default_rng(_SEED)
    made = [(data, separated_frames(part[times], lengths, cutoff, repeats, rng)) for data, part, times in sample]
    return [replace(data, frames=frames) for data, frames in made if frames is not None]


def separated_frames(
    frames: Frames, lengths: BondLengths, cutoff: float, repeats: int = 1, rng: np.random.Generator | None = None
) -> Frames | None:
    """Frames with one molecule moved away from the others, and their forces; None if there are no clusters.

    Parameters
    ----------
    frames : Frames
        Of one composition, with forces, without cells.
    lengths : dict
        In nm.
    cutoff : float
        In nm; no molecule is moved farther than this from its nearest atom of another.
    repeats : int
        How many molecules of a frame are moved, each in a frame of its own; a quarter of these frames is taken.
    rng : numpy.random.Generator, optional
    """
    assert frames.forces is not None
    rng = rng or np.random.default_rng(_SEED)
    names, index = np.unique(frames.species, return_inverse=True)
    limits = _APART * sums_of_covalent_radii(names.tolist())[index[:, None], index]
    found: list[tuple[float, int, FloatArray, FloatArray]] = []
    for t in range(len(frames)):
        labels = _molecules(frames, t, lengths)
        for _ in range(repeats if labels.any() else 0):
            molecule = labels == rng.integers(labels.max() + 1)
            apart = cdist(frames.positions[t][molecule], frames.positions[t][~molecule])
            nearest = float(apart.min())
            if nearest < cutoff and (apart > limits[np.ix_(molecule, ~molecule)]).all():
                distance = float(rng.uniform(0.0, cutoff - nearest))
                moved = _moved_away(frames.positions[t], molecule, distance)
                if (cdist(moved[molecule], moved[~molecule]) > nearest).all():
                    next_to_it = labels == labels[~molecule][apart.min(axis=0).argmin()]
                    found.append((nearest, t, moved, _faded(frames.forces[t], molecule, next_to_it, distance)))
    if not found:
        return None
    least = np.quantile([nearest for nearest, *_ in found], 1.0 - _FARTHEST)
    selected = [one for one in found if one[0] >= least]
    same = frames[np.array([t for _, t, _, _ in selected])]
    positions, forces = (np.array([one[k] for one in selected]) for k in (2, 3))
    return Frames(same.species, same.masses, positions, same.times, same.steps, None, forces, source=same.source)


def _molecules(frames: Frames, t: int, lengths: BondLengths) -> IntArray:
    """The number of the molecule of every atom in frame t, shape (N,)."""
    return component_labels(bonded_pairs(frames.positions[t], frames.species, None, lengths), frames.n_atoms)


def _moved_away(positions: FloatArray, molecule: BoolArray, distance: float) -> FloatArray:
    """Positions with a molecule moved by a distance in nm along the line of centres."""
    way = positions[molecule].mean(axis=0) - positions[~molecule].mean(axis=0)
    return np.asarray(positions + molecule[:, None] * (distance * way / (np.linalg.norm(way) or 1.0)))


def _faded(forces: FloatArray, molecule: BoolArray, next_to_it: BoolArray, distance: float) -> FloatArray:
    """Forces without what fades on a distance in nm of the net force on a molecule, and of its reaction on another."""
    lost = -np.expm1(-distance / _FADES) * forces[molecule].sum(axis=0)
    shares = next_to_it / np.count_nonzero(next_to_it) - molecule / np.count_nonzero(molecule)
    return np.asarray(forces + shares[:, None] * lost)
