"""The structure of a trajectory in one pass over its frames, in contiguous blocks of time.

Histograms are collected in many short blocks first: how long a block must be is known only when the pass has shown the
correlation times. Index suffixes: t frame, b block.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from openmm_duality.geometry.arrays import FloatArray, IntArray
from openmm_duality.observables.bonds import Bonds, BondsInTime, bond_labels
from openmm_duality.observables.curves import Curve, Distribution, Histogram, merged
from openmm_duality.observables.local_structure import DISTANCE, Frame, HydrogenBonds, TetrahedralOrder
from openmm_duality.observables.rdf import BIN, PairCounts
from openmm_duality.observables.statistics import block_of
from openmm_duality.observables.trajectory import Trajectory
from openmm_duality.progress import progress_bar

LENGTH_BINS = np.linspace(0.0, 0.4, 801)  # nm
ANGLE_BINS = np.linspace(0.0, 180.0, 181)  # degrees
SPACING = 0.02  # ps; frames closer than this are nearly the same frame
SHORTEST_BLOCK = 0.1  # ps: blocks in which correlation times are measured
_SHORT_BLOCKS = (200, 1000)  # at least and at most, where the trajectory allows
_NUMBERS = 3_000_000  # 24 MB of doubles, thrice
_LEAST_REACH = 0.5  # nm; the four nearest neighbours of an atom and its hydrogen bonds lie within


@dataclass(frozen=True)
class Structure:
    """The structure of a trajectory in blocks. Keys name species, as "H-O" and "H-O-H".

    Parameters
    ----------
    rdf : dict of str to Curve
        g(r) of every pair of species between different molecules; empty without a cell.
    rdf_whole : dict of str to Curve
        The same with the pairs inside a molecule.
    coordination : dict of str to Curve
        Under "A-B" the number of B within r of an A, in other molecules.
    shortest : dict of str to float
        The shortest distance of every pair of species in nm, where one is below `r_max`.
    bond_length, angle : dict of str to Distribution
        Of the bonds and bonded triples, in nm and degrees.
    tetrahedral_order : dict of str to Distribution
        Of every species but hydrogen.
    neighbour_angle : dict of str to Distribution
        Angles between the four nearest neighbours of its own species, in degrees.
    hydrogen_bonds : array, shape (n_blocks,), or None
        Per molecule with N, O or F, each counted for both its ends; None where there is no donor.
    """

    rdf: dict[str, Curve]
    rdf_whole: dict[str, Curve]
    coordination: dict[str, Curve]
    shortest: dict[str, float]
    bond_length: dict[str, Distribution]
    angle: dict[str, Distribution]
    tetrahedral_order: dict[str, Distribution]
    neighbour_angle: dict[str, Distribution]
    hydrogen_bonds: FloatArray | None


@dataclass(frozen=True)
class BlockedHistograms:
    """Histograms of a trajectory in short blocks of time, which can be joined to longer ones.

    Parameters
    ----------
    n_frames : int
        Number of frames.
    n_blocks : int
        Number of short blocks, the most that `joined` can give.
    joined : callable
        From a number of blocks to the `Structure` in that number of blocks.
    """

    n_frames: int
    n_blocks: int
    joined: Callable[[int], Structure]


def collect_histograms(
    trajectory: Trajectory, bonds: BondsInTime, r_max: float | None, *, progress: bool
) -> BlockedHistograms:
    """Pass over a trajectory once, streamed: memory does not grow with the number of frames.

    Parameters
    ----------
    trajectory : Trajectory
        Wrapped or unwrapped.
    bonds : BondsInTime
        Of these frames, whose lengths and angles to follow.
    r_max : float or None
        Up to where g(r) is counted in nm, at most half the shortest width of the cell; None for no g(r).
    progress : bool
        Whether to show a progress bar.
    """
    n_short = min(_short_blocks(trajectory, r_max), len(trajectory))
    histograms = _Histograms(trajectory, bonds, n_short, r_max)
    block = block_of(len(trajectory), n_short)
    done = 0
    with progress_bar(len(trajectory), f"structure of {trajectory.name}", show=progress) as bar:
        for chunk in trajectory:
            for t in range(len(chunk)):
                histograms.add(int(block[done + t]), chunk.positions[t], chunk.cell(t), bonds.at(done + t))
                bar.update()
            done += len(chunk)
    frames_in = np.bincount(block, minlength=n_short)

    @cache
    def joined(n_blocks: int) -> Structure:
        group = block_of(n_short, n_blocks)
        return histograms.structure(group, np.bincount(group, frames_in).astype(np.int64))

    return BlockedHistograms(len(trajectory), n_short, joined)


def _short_blocks(trajectory: Trajectory, r_max: float | None) -> int:
    distinct = len(trajectory.distinct_species)
    numbers = distinct * (distinct + 1) // 2 * max(1.0, (r_max or 0.0) / BIN)
    most = int(np.clip(_NUMBERS / numbers, *_SHORT_BLOCKS))
    return int(np.clip(trajectory.duration / SHORTEST_BLOCK, _SHORT_BLOCKS[0], most))


class _Histograms:
    """Every analysis of a frame, collected by block."""

    def __init__(self, trajectory: Trajectory, bonds: BondsInTime, n_blocks: int, r_max: float | None) -> None:
        species = trajectory.species
        self.species = species
        self.pairs = None if r_max is None else PairCounts(species, n_blocks, r_max)
        length_names, angle_names = bonds.names(species)
        self.lengths = Histogram(length_names, LENGTH_BINS, n_blocks)
        self.angles = Histogram(angle_names, ANGLE_BINS, n_blocks)
        self.order = TetrahedralOrder(species, n_blocks)
        self.hydrogen_bonds = HydrogenBonds(species, bonds.at(0), n_blocks)
        self.reach = max(r_max or 0.0, _LEAST_REACH, DISTANCE)
        self._take(bonds.at(0))

    def _take(self, bonds: Bonds) -> None:
        """Go on with other bonds."""
        self.bonds = bonds
        self.length_label = np.searchsorted(self.lengths.names, bond_labels(self.species, bonds.pairs))
        self.angle_label = np.searchsorted(self.angles.names, bond_labels(self.species, bonds.triples))
        self.hydrogen_bonds.take(bonds)

    def add(self, b: int, positions: FloatArray, cell: FloatArray | None, bonds: Bonds) -> None:
        if bonds is not self.bonds:
            self._take(bonds)
        frame = Frame.of(positions, cell, self.reach)
        self.lengths.add(b, np.linalg.norm(frame.between(self.bonds.pairs), axis=1), self.length_label)
        self.angles.add(b, _angles(frame, self.bonds.triples), self.angle_label)
        self.order.add(b, frame)
        if self.hydrogen_bonds.possible:
            self.hydrogen_bonds.add(b, frame)
        if self.pairs is not None:
            self.pairs.add(b, frame, self.bonds.molecule)

    def structure(self, group: IntArray, frames_in: IntArray) -> Structure:
        pairs, bonded = self.pairs, self.hydrogen_bonds
        return Structure(
            rdf={} if pairs is None else pairs.rdf("between", group, frames_in),
            rdf_whole={} if pairs is None else pairs.rdf("whole", group, frames_in),
            coordination={} if pairs is None else pairs.coordination(group, frames_in),
            shortest={} if pairs is None else pairs.shortest(),
            bond_length=self.lengths.distributions(group),
            angle=self.angles.distributions(group),
            tetrahedral_order=self.order.order.distributions(group),
            neighbour_angle=self.order.angles.distributions(group),
            hydrogen_bonds=merged(bonded.sums, group) / frames_in if bonded.possible else None,
        )


def _angles(frame: Frame, triples: IntArray) -> FloatArray:
    """Angles at the middle atom in degrees, by atan2, which is exact for straight ones too."""
    u, v = (frame.between(triples, (1, end)) for end in (0, 2))
    across = np.linalg.norm(np.cross(u, v), axis=1)
    return np.asarray(np.degrees(np.arctan2(across, np.einsum("ax,ax->a", u, v))))
