"""Rotamers: training frames of a molecule with groups rotated about single bonds, and forces that rotate along.

Frames of one conformer say nothing of others, and on the way there a polynomial of the moments may have a hole into
which an atom falls. What holds a group together hardly depends on its rotation about a single bond, nor do the forces
in it, seen from the group; the two atoms of the bond balance them, so that no net force and no torque are left. To
them comes the repulsion of what meets then, roughly that of screened nuclei. A penalty on errors of these forces says
what the losses should be like where the data show nothing; held-out frames decide how strong it is.

Index suffixes: i, j atom, t frame.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from operator import itemgetter

import numpy as np
from scipy.sparse import csgraph, csr_matrix
from scipy.spatial.transform import Rotation

from openmm_duality.geometry.arrays import BoolArray, FloatArray, IntArray
from openmm_duality.geometry.bonding import BondLengths, sum_of_covalent_radii
from openmm_duality.geometry.cells import minimum_image
from openmm_duality.geometry.contacts import TOUCHING, distance_at, screened_forces
from openmm_duality.geometry.molecules import bonded_pairs, component_labels, make_whole
from openmm_duality.inference.equations.design import Design
from openmm_duality.inference.equations.synthetic_frames import frames_to_change
from openmm_duality.inference.equations.targets import DataSet
from openmm_duality.losses.cores import core_onsets
from openmm_duality.reference.frames import Frames
from openmm_duality.units import ELECTRONVOLT

_ATOMS = 500  # at most, of a molecule
_APART = 4  # bonds between atoms that meet when a group is rotated
_CLOSEST = 5.0 * ELECTRONVOLT  # energy of nuclei that are as close as they may come
_STIFF = 0.93  # of the sum of covalent radii: shorter are double bonds, and those of amides
_ELECTRONEGATIVE = ("N", "O", "F")  # donors and acceptors of hydrogen bonds
_ROTATIONS = 3  # at most, at a time
_TRIES = 10  # at most, of which one is taken
_SEED = 0

Group = tuple[int, int, BoolArray]  # the atoms of the bond, the second one rotated, and whether each atom is rotated


def rotated_sets(
    sets: Sequence[DataSet], species: tuple[str, ...], lengths: BondLengths, shortest: FloatArray, design: Design
) -> list[DataSet]:
    """Frames of single molecules with one to three groups rotated at random, as sets beside those of the data.

    Frames without forces, of several molecules, of more than 500 atoms or of species that are no elements, or without a
    group that can be rotated give none.

    Parameters
    ----------
    sets : sequence of DataSet
    species : tuple of str
        Names in the order of the species index.
    lengths : dict
        The bond length of every pair of species that is bonded, in nm.
    shortest : array, shape (S, S)
        Shortest distances in the data, in nm.
    design : Design
        For each of its columns there should be ten rows of forces; a frame is rotated up to ten times.
    """
    sample, repeats = frames_to_change(sets, lambda part, t: _can_rotate(part, t, lengths), design)
    onsets = core_onsets(shortest, design.pair_basis.grid)
    levels = {(one, other): onsets[a, b] for a, one in enumerate(species) for b, other in enumerate(species)}
    rng, found = np.random.default_rng(_SEED), []
    for data, part, times in sample:
        rotated = rotated_frames(part[times], lengths, levels, repeats, rng)
        found += [] if rotated is None else [replace(data, frames=rotated)]
    return found


def _can_rotate(frames: Frames, t: int, lengths: BondLengths) -> bool:
    """Whether frame t shows a single molecule of elements with a group that may be rotated."""
    elements = all(sum_of_covalent_radii((name, name)) is not None for name in frames.distinct_species)
    if not elements or frames.n_atoms > _ATOMS:
        return False
    molecule = _Molecule.of(frames, t, lengths)
    return molecule.single and bool(molecule.groups)


def rotated_frames(
    frames: Frames,
    lengths: BondLengths,
    levels: Mapping[tuple[str, str], float],
    repeats: int = 1,
    rng: np.random.Generator | None = None,
) -> Frames | None:
    """Frames with groups rotated about single bonds, and their forces; None if nothing can be rotated.

    A group is not rotated in frames in which a hydrogen bond holds it. Atoms that are four or more bonds apart come no
    closer than where their nuclei repel with 5 eV, or where radial functions level off.

    Parameters
    ----------
    frames : Frames
        Of one composition, with forces.
    lengths : dict
        In nm.
    levels : mapping
        From pairs of species to the distance in nm below which radial functions are level (`cores.core_onsets`).
    repeats : int
        How often every frame is rotated.
    rng : numpy.random.Generator, optional
    """
    assert frames.forces is not None
    rng = rng or np.random.default_rng(_SEED)
    mean = np.mean([_distances(frames.positions[t], frames.cell(t)) for t in range(len(frames))], axis=0)
    limits = _Limits.of(frames.species, levels)
    chosen, positions, forces = [], [], []
    for t in range(len(frames)):
        molecule = _Molecule.of(frames, t, lengths)
        if not molecule.single:
            continue
        held = molecule.hydrogen_bonds(limits)
        groups = [
            (i, j, group)
            for i, j, group in molecule.groups
            if mean[i, j] >= limits.stiff[i, j] and not held[group][:, ~group].any()
        ]
        for _ in range(repeats if groups else 0):
            allowed = [
                (nearness, rotated)
                for rotated in _rotations(molecule, groups, rng)
                if (nearness := molecule.nearness(rotated[0], limits)) <= 1.0
            ]
            if allowed:
                # atoms seldom meet in a random rotation, so it is the one of up to ten in which they come closest
                _, rotated = max(allowed[: rng.integers(1, _TRIES + 1)], key=itemgetter(0))
                chosen.append(t)
                positions.append(rotated[0])
                forces.append(rotated[1] + molecule.repulsion(rotated[0]))
    if not chosen:
        return None
    same = frames[np.array(chosen)]
    where = np.array(positions), same.times, same.steps, same.cells
    return Frames(same.species, same.masses, *where, np.array(forces), source=same.source)


@dataclass(frozen=True)
class _Limits:
    """Distances of pairs of N atoms by species in nm, shape (N, N): of stiff bonds, contacts and hydrogen bonds."""

    stiff: FloatArray
    closest: FloatArray
    hydrogen_bond: FloatArray

    @classmethod
    def of(cls, species: tuple[str, ...], levels: Mapping[tuple[str, str], float]) -> _Limits:
        """The limits of atoms that are elements; `levels` as for `rotated_frames`."""
        names, index = np.unique(species, return_inverse=True)
        stiff, closest, hydrogen_bond = np.zeros((3, len(names), len(names)))
        for a, b in np.ndindex(len(names), len(names)):
            pair = str(names[a]), str(names[b])
            stiff[a, b] = _STIFF * (sum_of_covalent_radii(pair) or 0.0)
            closest[a, b] = max(distance_at(pair, _CLOSEST) or 0.0, levels.get(pair, 0.0))
            if "H" in pair and any(name in _ELECTRONEGATIVE for name in pair):
                hydrogen_bond[a, b] = distance_at(pair, TOUCHING)
        of_atoms = index[:, None], index
        return cls(stiff[of_atoms], closest[of_atoms], hydrogen_bond[of_atoms])


@dataclass(frozen=True)
class _Molecule:
    """A molecule in one frame: positions (N, 3) in nm, forces in kJ/mol/nm, cell, and bonds (n_bonds, 2)."""

    species: tuple[str, ...]
    positions: FloatArray
    forces: FloatArray
    cell: FloatArray | None
    bonds: IntArray

    @classmethod
    def of(cls, frames: Frames, t: int, lengths: BondLengths) -> _Molecule:
        """What frame t shows."""
        assert frames.forces is not None
        cell = frames.cell(t)
        bonds = bonded_pairs(frames.positions[t], frames.species, cell, lengths)
        return cls(frames.species, make_whole(frames.positions[t], bonds, cell), frames.forces[t], cell, bonds)

    @cached_property
    def distances(self) -> FloatArray:
        """Distances of all atoms from each other, shape (N, N)."""
        return _distances(self.positions, self.cell)

    @property
    def single(self) -> bool:
        """Whether this is one molecule, and none of its images are near."""
        if not len(self.bonds) or component_labels(self.bonds, len(self.species)).any():
            return False
        return self.cell is None or np.allclose(self.distances, _distances(self.positions, None))

    @property
    def apart(self) -> BoolArray:
        """Which atoms are four or more bonds apart, shape (N, N)."""
        return _graph(self.bonds.tobytes(), len(self.species))[0]

    @property
    def groups(self) -> tuple[Group, ...]:
        """The smaller group at every bond that is in no ring and not to a single atom."""
        return _graph(self.bonds.tobytes(), len(self.species))[1]

    def repulsion(self, positions: FloatArray) -> FloatArray:
        """Forces of the nuclei of atoms that are four or more bonds apart at positions, shape (N, 3)."""
        return screened_forces(self.species, positions, self.apart)

    @cached_property
    def other_forces(self) -> FloatArray:
        """The forces without this repulsion, shape (N, 3)."""
        return self.forces - self.repulsion(self.positions)

    def hydrogen_bonds(self, limits: _Limits) -> BoolArray:
        """Which atoms may be bonded by hydrogen bonds, shape (N, N)."""
        polar = np.zeros(len(self.species), dtype=bool)
        electronegative = np.isin(self.species, _ELECTRONEGATIVE)
        for one, other in (self.bonds.T, self.bonds.T[::-1]):
            polar[one[electronegative[other]]] = True
        bridges = np.outer(polar & ~electronegative, electronegative)
        return np.asarray((bridges | bridges.T) & self.apart & (self.distances < limits.hydrogen_bond))

    def nearness(self, moved: FloatArray, limits: _Limits) -> float:
        """How near atoms come that are four or more bonds apart, if nearer than before; 1 is the limit."""
        distances = _distances(moved, self.cell)
        counted = self.apart & (distances < self.distances)
        return float((limits.closest[counted] / distances[counted]).max(initial=0.0))


@lru_cache(maxsize=64)
def _graph(bonds: bytes, n: int) -> tuple[BoolArray, tuple[Group, ...]]:
    """Which of n atoms are four or more bonds apart, and the groups at the bonds."""
    pairs = np.frombuffer(bonds, dtype=np.int64).reshape(-1, 2)
    groups = []
    for b, (i, j) in enumerate(pairs.tolist()):
        label = component_labels(np.delete(pairs, b, axis=0), n)
        of_j = label == label[j]
        if of_j[i] or not 1 < of_j.sum() < n - 1:  # in a ring, or an atom at the end
            continue
        groups.append((i, j, of_j) if 2 * of_j.sum() <= n else (j, i, ~of_j))
    graph = csr_matrix((np.ones(len(pairs)), pairs.T), shape=(n, n))
    return csgraph.shortest_path(graph, directed=False, unweighted=True) >= _APART, tuple(groups)


def _rotations(
    molecule: _Molecule, groups: Sequence[Group], rng: np.random.Generator
) -> Iterator[tuple[FloatArray, FloatArray]]:
    """Positions, and forces without the repulsion of nuclei, with groups rotated at random, one after the other."""
    for _ in range(_TRIES):
        positions, forces = molecule.positions.copy(), molecule.other_forces.copy()
        for k in rng.permutation(len(groups))[: rng.integers(1, _ROTATIONS + 1)]:
            i, j, group = groups[k]
            axis = positions[j] - positions[i]
            rotation = Rotation.from_rotvec(rng.uniform(-np.pi, np.pi) * axis / np.linalg.norm(axis))
            positions[group] = positions[j] + rotation.apply(positions[group] - positions[j])
            forces[group] = rotation.apply(forces[group])
            _balance(positions, forces, i, j)
        yield positions, forces


def _balance(positions: FloatArray, forces: FloatArray, i: int, j: int) -> None:
    """Set the forces on the atoms of a bond, in place, so that all forces and all torques add up to zero.

    The torque about the bond does so by itself, and the stretching force of the bond stays.
    """
    others = np.ones(len(positions), dtype=bool)
    others[[i, j]] = False
    axis, middle = positions[j] - positions[i], 0.5 * (positions[i] + positions[j])
    direction = axis / np.linalg.norm(axis)
    net = forces[others].sum(axis=0)
    torque = np.cross(positions[others] - middle, forces[others]).sum(axis=0)
    difference = ((forces[j] - forces[i]) @ direction) * direction + 2.0 * np.cross(axis, torque) / (axis @ axis)
    forces[i], forces[j] = -0.5 * (net + difference), -0.5 * (net - difference)


def _distances(positions: FloatArray, cell: FloatArray | None) -> FloatArray:
    vectors = positions[:, None] - positions
    return np.asarray(np.linalg.norm(vectors if cell is None else minimum_image(vectors, cell), axis=-1))
