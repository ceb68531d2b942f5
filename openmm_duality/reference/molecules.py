"""Molecules found in the frames, without a topology.

A pair of species is bonded when its distances have a gap behind the first peak and every atom keeps its number of
neighbours inside that gap. So O–H in water is bonded; O–O is not (no gap, and the number of neighbours fluctuates).
H–H in water has a gap too, but every pair inside it is in one molecule already through the shorter O–H bonds, so it
is left out as redundant. Ions of a crystal keep their neighbours and are found to be one large molecule.

Index suffixes: t frame, i atom, r grid of distances, b neighbour species.
"""

from __future__ import annotations

from itertools import combinations_with_replacement

import numpy as np

from openmm_duality.geometry.arrays import BoolArray, FloatArray, IntArray
from openmm_duality.geometry.molecules import BondLengths, bonded_pairs, component_labels, components
from openmm_duality.geometry.pairs import pairs_within
from openmm_duality.reference.frames import Frames, evenly_spaced

_SEARCH = 0.35  # nm; no covalent bond of a molecule is longer
_STEP = 0.0025  # nm, of the grid of distances
_WINDOW = 4  # steps: a gap is judged over 0.01 nm
_FRAMES = 50  # evenly spaced; more do not sharpen the gap
_ATOMS = 20_000  # in all frames together; bounds the memory for large systems
_SPARSE = 0.01  # of the pairs inside may lie in the window
_UNSTEADY = 0.03  # of the neighbours inside may be one too many or too few
_IMPLIED = 0.99  # of the pairs inside are in one molecule already
_MANY_FRAMES = 10  # from here on, an atom's own usual number of neighbours is known


def bond_lengths(frames: Frames) -> BondLengths:
    """The longest bond of every pair of species that is bonded: the first minimum of the pair distances.

    Parameters
    ----------
    frames : Frames
        At most 50 frames, evenly spaced, are used (fewer of large systems). One is enough for a liquid.

    Returns
    -------
    dict
        From the pair of species, in alphabetical order, to a length in nm, in the middle of the gap. Empty where
        there are no molecules, as in argon or a molten salt.
    """
    sample = frames[_sample(frames)]
    candidates: BondLengths = {}
    for pair in combinations_with_replacement(frames.distinct_species, 2):
        length = _gap(*_neighbour_counts(sample, *pair))
        if length is not None:
            candidates[pair] = length
    lengths: BondLengths = {}
    for pair in sorted(candidates, key=lambda p: candidates[p]):
        if not _implied(sample, lengths, pair, candidates[pair]):
            lengths[pair] = candidates[pair]
    return lengths


def molecules_of(frames: Frames, lengths: BondLengths | None = None) -> list[IntArray]:
    """The molecules of a set of frames: atoms connected by pairs that are bonded in more than half of the frames.

    So a frame in which a bond is stretched beyond its usual length does not break the molecule.

    Parameters
    ----------
    frames : Frames
        At most 50 frames, evenly spaced, are used (fewer of large systems).
    lengths : dict, optional
        In nm; found in the frames themselves by default.

    Returns
    -------
    list of arrays of int
        As for `find_molecules`.
    """
    lengths = bond_lengths(frames) if lengths is None else lengths
    n = frames.n_atoms
    sample = _sample(frames)
    found = [bonded_pairs(frames.positions[t], frames.species, frames.cell(t), lengths) for t in sample]
    keys, times = np.unique(np.concatenate([pairs[:, 0] * n + pairs[:, 1] for pairs in found]), return_counts=True)
    bonded = keys[times > 0.5 * len(sample)]
    return components(np.stack([bonded // n, bonded % n], axis=1), n)


def _sample(frames: Frames) -> IntArray:
    count = int(np.clip(_ATOMS // frames.n_atoms, 1, _FRAMES))
    return evenly_spaced(len(frames), count)


def _neighbour_counts(frames: Frames, a: str, b: str) -> tuple[list[IntArray], BoolArray]:
    """Numbers of neighbours closer than every r, shape (T, N_species, R), for both ends of the pair; distances seen.

    The second array, shape (R,), is true where at least one distance lies below r.
    """
    grid = round(_SEARCH / _STEP)
    species = np.array(frames.species)
    counts = np.zeros((2, len(frames), frames.n_atoms, grid), dtype=np.int64)
    for t in range(len(frames)):
        i, j, d = pairs_within(frames.positions[t], frames.cell(t), _SEARCH)
        r = np.minimum((d / _STEP).astype(np.int64), grid - 1)
        for x, y in ((i, j), (j, i)):
            chosen = (species[x] == a) & (species[y] == b)
            np.add.at(counts[0, t], (x[chosen], r[chosen]), 1)
            np.add.at(counts[1, t], (y[chosen], r[chosen]), 1)
    inside = counts.cumsum(axis=-1)
    ends = [inside[0][:, species == a], inside[1][:, species == b]]
    return ends, ends[0].any(axis=(0, 1))


def _gap(ends: list[IntArray], seen: BoolArray) -> float | None:
    """The middle of the first gap in which all atoms keep their number of neighbours, or None."""
    inside = ends[0].sum(axis=(0, 1)).astype(np.float64)
    if not seen.any():
        return None
    half = _WINDOW // 2
    window = np.full(len(inside), np.inf)
    window[half:-half] = inside[_WINDOW:] - inside[:-_WINDOW]
    unsteady = np.minimum.reduce([_unsteadiness(end) for end in ends])
    good = seen & (window <= _SPARSE * inside) & (unsteady <= _UNSTEADY)
    if not good.any():
        return None
    first = int(np.argmax(good))
    behind = np.flatnonzero(~good[first:])
    last = first + int(behind[0]) - 1 if len(behind) else len(good) - 1 - half
    run = np.arange(first, last + 1)
    # The emptiest distance; where a range is empty, its middle.
    emptiest = run[window[run] == window[run].min()]
    return float((0.5 * (emptiest[0] + emptiest[-1]) + 1) * _STEP)


def _unsteadiness(inside: IntArray) -> FloatArray:
    """Neighbours too many or too few, as a fraction of all, at every r; `inside` has shape (T, N, R).

    The expected number is the usual one (the median) of the species or, with many frames, of the atom itself.
    """
    total = np.maximum(inside.sum(axis=(0, 1)), 1)
    fractions = [np.abs(inside - np.median(inside, axis=(0, 1))).sum(axis=(0, 1)) / total]
    if len(inside) >= _MANY_FRAMES:
        fractions.append(np.abs(inside - np.median(inside, axis=0)).sum(axis=(0, 1)) / total)
    return np.asarray(np.minimum.reduce(fractions), dtype=np.float64)


def _implied(frames: Frames, shorter: BondLengths, pair: tuple[str, str], length: float) -> bool:
    if not shorter:
        return False
    same = total = 0
    for t in range(len(frames)):
        bonds = bonded_pairs(frames.positions[t], frames.species, frames.cell(t), shorter)
        label = component_labels(bonds, frames.n_atoms)
        pairs = bonded_pairs(frames.positions[t], frames.species, frames.cell(t), {pair: length})
        same += int((label[pairs[:, 0]] == label[pairs[:, 1]]).sum())
        total += len(pairs)
    return total == 0 or same >= _IMPLIED * total
