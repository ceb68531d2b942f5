"""Molecules found in the frames, without a topology.

A pair of species is bonded when its distances have a gap behind the first peak and every atom keeps its number of
neighbours inside that gap. So O–H in water is bonded; O–O is not (no gap, and the number of neighbours fluctuates).
H–H in water has a gap too, but every pair inside it is in one molecule already through the shorter O–H bonds, so it
is left out as redundant. Where nonmetals exchange their bonds and leave no gap, or dissociate in some of the frames,
covalent radii say how long a bond is.

Alkali and alkaline earth metals are ions, alone, and most other metals are not bonded to each other; neighbours further
apart than covalent radii allow are not bonded; and bonds that connect atoms to periodic images of themselves, as in a
crystal, make no molecules.

Index suffixes: t frame, i atom, r grid of distances, b neighbour species.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import combinations_with_replacement

import numpy as np

from openmm_duality.geometry.arrays import BoolArray, FloatArray, IntArray
from openmm_duality.geometry.bond_tracking import certain_lengths
from openmm_duality.geometry.bonding import NONMETALS, BondLengths, Coordination, coordinations_of, covalent_limit
from openmm_duality.geometry.molecules import bonded_pairs, component_labels, components, in_networks, length_matrix
from openmm_duality.geometry.pairs import pairs_within
from openmm_duality.reference.frames import Frames, evenly_spaced

_SEARCH = 0.35  # nm; no covalent bond of a molecule is longer
_STEP = 0.0025  # nm, of the grid of distances
_WINDOW = 4  # steps: a gap is judged over 0.01 nm
_FRAMES = 50  # evenly spaced; more do not sharpen the gap
_ATOMS = 20_000  # in all frames together; bounds the memory for large systems
_SPARSE = 0.01  # of the pairs inside may lie in the window
_UNSTEADY = 0.03  # of the neighbours inside may be one too many or too few
_WHOLE = 0.5  # of the frames have all bonds of a pair of species, where some dissociate
_IMPLIED = 0.99  # of the pairs inside are in one molecule already
_MANY_FRAMES = 10  # from here on, an atom's own usual number of neighbours is known
_NETWORK = 0.5  # of the bonded atoms may be in networks
_IONS = frozenset(("Li", "Na", "K", "Rb", "Cs", "Fr", "Mg", "Ca", "Sr", "Ba", "Ra"))
_BONDED_METALS = frozenset(("Ge", "Sn", "Pb", "Sb", "Bi", "Hg"))  # also to each other
_ATOMS_OF_BONDS = 100_000  # in all frames of a set together, in which bonds are followed
_USUAL = 0.05  # of the frames in which a coordination occurs
_SEVERAL = 0.1  # of the atoms of a terminal species may have several bonds


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
        length = None if _IONS & set(pair) else _bond_length(_neighbour_counts(sample, *pair), pair)
        if length is not None:
            candidates[pair] = length
    lengths: BondLengths = {}
    for pair in sorted(candidates, key=lambda p: candidates[p]):
        if not _implied(sample, lengths, pair, candidates[pair]) and not _network(sample, pair, candidates[pair]):
            lengths[pair] = candidates[pair]
    return lengths


def known_coordinations(data: Sequence[Frames], lengths: BondLengths) -> frozenset[Coordination]:
    """What atoms are usually bonded to in sets of frames: the coordinations that occur in 5 % of them.

    Where there is dynamics, only its frames count, for others may be distorted on purpose. So neither they nor a
    single stretched bond are chemistry, but both ends of a proton that is passed on to and fro are.

    Parameters
    ----------
    data : sequence of Frames
        At most 100,000 atoms of each, in evenly spaced frames, are used.
    lengths : dict
        As of `bond_lengths`.
    """
    times: Counter[Coordination] = Counter()
    total: Counter[str] = Counter()
    for frames in [one for one in data if len(one) > 1 and np.ptp(one.times) > 0] or data:
        chosen = evenly_spaced(len(frames), max(1, _ATOMS_OF_BONDS // frames.n_atoms))
        total.update(dict.fromkeys(frames.distinct_species, len(chosen)))
        for t in chosen:
            bonds = bonded_pairs(frames.positions[t], frames.species, frames.cell(t), lengths)
            times.update(coordinations_of(bonds, frames.species))
    return frozenset(one for one, number in times.items() if number >= _USUAL * total[one[0]])


def terminal_species(frames: Frames, lengths: BondLengths) -> frozenset[str]:
    """Species whose atoms have one bond at a time: no more than a tenth of them have several closer than is certain.

    So hydrogen is one in water with an excess proton, which two oxygens share at times, and is none in diborane.

    Parameters
    ----------
    frames : Frames
        At most 50 frames, evenly spaced, are used (fewer of large systems).
    lengths : dict
        As of `bond_lengths`.
    """
    certain = certain_lengths(lengths)
    index, below = length_matrix(frames.species, certain)
    number = np.zeros((0, frames.n_atoms), dtype=np.int64)
    for t in _sample(frames):
        i, j, d = pairs_within(frames.positions[t], frames.cell(t), max(certain.values(), default=0.001))
        bonded = (d < below[index[i], index[j]]) & (i != j)
        ends = np.concatenate([i[bonded], j[bonded]])
        number = np.vstack([number, np.bincount(ends, minlength=frames.n_atoms)])
    named = np.array(frames.species)
    return frozenset(n for n in frames.distinct_species if (number[:, named == n] > 1).mean() <= _SEVERAL)


def molecules_of(frames: Frames, lengths: BondLengths | None = None) -> list[IntArray]:
    """The molecules of a set of frames: those of the frame that agrees with most others.

    Bonded atoms agree if they are in one molecule in both frames. So neither a stretched bond nor a proton shared by
    two atoms breaks a molecule, and molecules that exchange atoms are those of one instant.

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
    i, j = np.unique(np.concatenate(found), axis=0).T
    together = np.array([(label := component_labels(bonds, n))[i] == label[j] for bonds in found])
    agreement = (together == (together.mean(axis=0) > 0.5)).sum(axis=1)
    return components(found[int(agreement.argmax())], n)


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


def _bond_length(counts: tuple[list[IntArray], BoolArray], pair: tuple[str, str]) -> float | None:
    """The bond length of a pair of species in nm: from the gap in the distances, or else from covalent radii."""
    ends, seen = counts
    length = _gap(ends, seen)
    allowed = covalent_limit(pair)
    if allowed is None:
        return length
    if not (NONMETALS | _BONDED_METALS) & set(pair):
        return None
    inside = ends[0].sum(axis=(0, 1))
    if length is not None:
        median = np.searchsorted(inside, 0.5 * inside[min(round(length / _STEP), len(inside) - 1)]) * _STEP
        if median <= allowed:
            return min(length, allowed)
    # as many atoms with a neighbour, whichever they are: nearly so in all frames, or in half of them where bonds break
    bonded = [(end[..., min(round(allowed / _STEP), len(inside)) - 1] > 0).sum(axis=1) for end in ends]
    usual = [np.median(n) for n in bonded]
    unsteady = max(float(np.abs(n - m).sum() / max(n.sum(), 1)) for n, m in zip(bonded, usual, strict=True))
    whole = np.logical_and.reduce([n == m for n, m in zip(bonded, usual, strict=True)]).mean()
    steady = min(usual) > 0 and (unsteady <= _UNSTEADY or whole >= _WHOLE)
    return allowed if steady and set(pair) <= NONMETALS else None


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


def _network(frames: Frames, pair: tuple[str, str], length: float) -> bool:
    """Whether most atoms that bonds of a pair of species connect are in networks."""
    inside = total = 0
    for t in range(len(frames) if frames.cells is not None else 0):
        configuration = frames.positions[t], frames.species, frames.cell(t), {pair: length}
        connected = in_networks(*configuration)
        inside += int(connected.sum())
        connected[bonded_pairs(*configuration)] = True
        total += int(connected.sum())
    return inside > _NETWORK * total


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
