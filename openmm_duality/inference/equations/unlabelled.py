"""Configurations for penalties that need no forces, and what of them the penalties use."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from openmm_duality.errors import DualityError
from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.geometry.bonding import BondLengths
from openmm_duality.geometry.cells import minimum_image
from openmm_duality.geometry.molecules import bonded_pairs, components, make_whole
from openmm_duality.inference.equations.targets import DataSet, parts_of
from openmm_duality.reference.frames import Frames, evenly_spaced

_LONGEST_STEP = 0.1  # nm: an atom that moved further did not move straight


@dataclass(frozen=True)
class Configuration:
    """One configuration.

    Parameters
    ----------
    species : tuple of str, length N
    positions : array, shape (N, 3)
        In nm.
    cell : array, shape (3, 3), or None
        In nm.
    """

    species: tuple[str, ...]
    positions: FloatArray
    cell: FloatArray | None

    @classmethod
    def of(cls, frames: Frames, t: int) -> Configuration:
        """Frame t of some frames."""
        return cls(frames.species, frames.positions[t], frames.cell(t))


@dataclass(frozen=True)
class Step:
    """Two consecutive configurations of a trajectory.

    Parameters
    ----------
    start : Configuration
    displacement : array, shape (N, 3)
        Of the atoms, in nm.
    energy_change : float
        In kJ/mol.
    """

    start: Configuration
    displacement: FloatArray
    energy_change: float


def check_species(sets: Sequence[DataSet], species: Sequence[str]) -> None:
    """Check that unlabelled frames have no species but those of the training frames.

    Raises
    ------
    DualityError
        If they have.
    """
    unknown = sorted({name for part in parts_of(sets) for name in part.distinct_species} - set(species))
    if unknown:
        raise DualityError(
            f"the unlabelled frames contain {', '.join(unknown)}, but the training frames only {', '.join(species)}; "
            "take frames of a run of these species"
        )


def configurations(sets: Sequence[DataSet], number: int) -> Iterator[Configuration]:
    """A number of frames, from all sets in proportion to their weights and numbers of frames."""
    if sets:
        counts = [len(s.frames) for s in sets]
        ends = np.cumsum([s.weight * count for s, count in zip(sets, counts, strict=True)])
        for place in ends[-1] * (np.arange(number) + 0.5) / number:
            k = int(np.searchsorted(ends, place, side="right"))
            begin = ends[k - 1] if k else 0.0
            index = int(counts[k] * (place - begin) / (ends[k] - begin))
            yield Configuration.of(*sets[k].frames.locate(min(index, counts[k] - 1)))


def steps(sets: Sequence[DataSet], number: int) -> list[Step]:
    """A number of steps between consecutive frames with energies, evenly spaced among those of all sets.

    Raises
    ------
    DualityError
        If there are none in which all atoms move by less than 0.1 nm.
    """
    found = [step for part in parts_of(sets) for step in _steps(part)]
    if not found:
        raise DualityError(
            "the symmetry 'work' needs consecutive frames of a trajectory with energies, between which no atom moves "
            "by more than 0.1 nm, and there are none among the training frames; give more frequent ones, or leave "
            "this symmetry out"
        )
    return [found[k] for k in evenly_spaced(len(found), number)]


def _steps(frames: Frames) -> Iterator[Step]:
    energies = frames.energies
    for t in np.flatnonzero(np.diff(frames.times) > 0.0).tolist() if energies is not None else ():
        displacement = minimum_image(frames.positions[t + 1] - frames.positions[t], frames.cell(t))
        if energies is not None and np.linalg.norm(displacement, axis=1).max() < _LONGEST_STEP:
            yield Step(Configuration.of(frames, t), displacement, float(energies[t + 1] - energies[t]))


def isolated_cluster(
    frame: Configuration, lengths: BondLengths, n_atoms: int, rng: np.random.Generator
) -> Configuration:
    """The molecules nearest to a random one, about a number of atoms, without all others and without a cell.

    Parameters
    ----------
    frame : Configuration
    lengths : dict
        The bond length of every pair of species that is bonded, in nm; without bonds the molecules are atoms.
    n_atoms : int
        Largest number of atoms, unless one molecule has more.
    rng : Generator
    """
    bonds = bonded_pairs(frame.positions, frame.species, frame.cell, lengths)
    whole, molecules = make_whole(frame.positions, bonds, frame.cell), components(bonds, len(frame.species))
    centres = np.array([whole[atoms].mean(axis=0) for atoms in molecules])
    away = minimum_image(centres - centres[rng.integers(len(centres))], frame.cell)
    nearest = np.argsort(np.linalg.norm(away, axis=1), kind="stable")
    sizes = np.cumsum([len(molecules[k]) for k in nearest])
    chosen = nearest[: max(1, int(np.searchsorted(sizes, n_atoms, side="right")))]
    atoms = np.concatenate([molecules[k] for k in chosen])
    positions = np.concatenate([whole[molecules[k]] - centres[k] + away[k] for k in chosen])
    return Configuration(tuple(frame.species[i] for i in atoms), positions, None)
