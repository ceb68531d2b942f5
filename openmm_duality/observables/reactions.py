"""Molecules that change: which there are in every frame, how long they last, and atoms that change their partners.

Bonds are followed with hysteresis (`geometry.bond_tracking`). A molecule is a set of bonded atoms: it ends when it
loses an atom or gains one. Formulas know no charge: H3O is what a chemist writes as H3O+.

Index suffixes: t frame, i atom, m molecule.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field

import numpy as np

from openmm_duality.geometry.arrays import BoolArray, FloatArray, IntArray
from openmm_duality.geometry.bond_tracking import BondTracker
from openmm_duality.geometry.bonding import BondLengths
from openmm_duality.geometry.molecules import in_networks
from openmm_duality.observables.bonds import Bonds
from openmm_duality.observables.paths import formulas
from openmm_duality.observables.trajectory import Trajectory
from openmm_duality.progress import progress_bar


@dataclass(frozen=True)
class Reactions:
    """Bonds of every frame, and the molecules they make.

    Parameters
    ----------
    starts : array of int, shape (S,)
        The first frames of the intervals in which no bond changes.
    pairs : tuple of array of int, shape (P, 2)
        The bonds of every interval.
    network : array of bool, shape (N,)
        The atoms that are in networks, which are no molecules.
    populations : dict of str to array, shape (T,)
        Number of molecules of every formula in every frame.
    ends : dict of str to array, shape (T,)
        Number of molecules of every formula that were there in the frame before, and no longer are.
    hops : dict of str to array, shape (T,)
        Number of atoms of every species that have another partner than in the frame before.
    lasting : array of bool, shape (N,)
        Atoms of molecules that last from the first to the last frame.
    bond_names, angle_names : tuple of str
        Those that occur.
    """

    starts: IntArray
    pairs: tuple[IntArray, ...]
    network: BoolArray
    populations: dict[str, FloatArray]
    ends: dict[str, FloatArray]
    hops: dict[str, FloatArray]
    lasting: BoolArray
    bond_names: tuple[str, ...]
    angle_names: tuple[str, ...]
    _built: dict[int, Bonds] = field(default_factory=dict, repr=False, compare=False)

    @property
    def occurred(self) -> bool:
        """Whether any bond changed."""
        return len(self.starts) > 1

    def at(self, t: int) -> Bonds:
        """The bonds of frame t; those of one interval are one object."""
        interval = int(np.searchsorted(self.starts, t, side="right")) - 1
        if interval not in self._built:
            self._built.clear()
            self._built[interval] = Bonds.of(self.pairs[interval], self.network)
        return self._built[interval]

    def names(self, species: tuple[str, ...]) -> tuple[list[str], list[str]]:
        """The names of all bonds and of all bonded triples that occur."""
        return list(self.bond_names), list(self.angle_names)


class _Intervals:
    """What is collected at every change of a bond."""

    def __init__(self, species: tuple[str, ...], network: BoolArray, terminal: Set[str]) -> None:
        self.species, self.network = species, network
        self.terminal = np.isin(np.array(species), sorted(terminal))
        # the sum of random numbers of its atoms identifies a molecule
        self.numbers = np.random.default_rng(0).integers(0, 2**63, len(species), dtype=np.uint64)
        self.starts: list[int] = []
        self.pairs: list[IntArray] = []
        self.counts: list[dict[str, int]] = []
        self.ended: list[dict[str, int]] = []
        self.hopped: list[dict[str, int]] = []
        self.names: tuple[set[str], set[str]] = set(), set()
        self.identities = np.empty(0, dtype=np.uint64)
        self.formulas = np.empty(0, dtype=str)
        self.partner = np.full(len(species), -1, dtype=np.int64)
        self.lasting = np.empty(0, dtype=np.uint64)
        self.molecule = np.empty(0, dtype=np.int64)

    def add(self, t: int, pairs: IntArray) -> None:
        """Take the bonds from frame t on."""
        bonds = Bonds.of(pairs, self.network)
        identities = np.zeros(bonds.n_molecules, dtype=np.uint64)
        np.add.at(identities, bonds.molecule, self.numbers)
        found = formulas(self.species, bonds.molecule)
        gone = ~np.isin(self.identities, identities)
        self.ended.append(_counted(self.formulas[gone]))
        self.counts.append(_counted(found))
        self.lasting = np.intersect1d(self.lasting, identities) if self.starts else identities
        self.identities, self.formulas, self.molecule = identities, found, bonds.molecule
        for known, names in zip(self.names, bonds.names(self.species), strict=True):
            known |= set(names)
        self.hopped.append(self._hops(pairs))
        self.starts.append(t)
        self.pairs.append(pairs)

    def _hops(self, pairs: IntArray) -> dict[str, int]:
        """Terminal atoms whose partner is another one than the last they had."""
        ends = np.concatenate([pairs, pairs[:, ::-1]])
        ends = ends[self.terminal[ends[:, 0]]]
        before = self.partner[ends[:, 0]]
        moved = ends[(before >= 0) & (before != ends[:, 1]), 0]
        self.partner[ends[:, 0]] = ends[:, 1]
        return _counted(np.array(self.species)[moved])

    def reactions(self, n_frames: int) -> Reactions:
        """Everything by frame."""
        starts = np.array(self.starts, dtype=np.int64)
        lengths = np.diff([*self.starts, n_frames])
        lasting = np.isin(self.identities, self.lasting)[self.molecule]

        def by_frame(counted: list[dict[str, int]], constant: bool) -> dict[str, FloatArray]:
            found = {}
            for name in sorted(set().union(*counted)):
                values = np.array([one.get(name, 0) for one in counted], dtype=np.float64)
                if constant:
                    found[name] = np.repeat(values, lengths)
                else:
                    found[name] = np.zeros(n_frames)
                    found[name][starts] = values
            return found

        return Reactions(
            starts,
            tuple(self.pairs),
            self.network,
            by_frame(self.counts, constant=True),
            by_frame(self.ended, constant=False),
            by_frame(self.hopped, constant=False),
            lasting,
            tuple(sorted(self.names[0])),
            tuple(sorted(self.names[1])),
        )


def follow_bonds(trajectory: Trajectory, lengths: BondLengths, terminal: Set[str], *, progress: bool) -> Reactions:
    """Follow the bonds of a trajectory, streamed.

    Parameters
    ----------
    trajectory : Trajectory
        Wrapped or unwrapped.
    lengths : dict
        The longest bond per pair of species, in nm.
    terminal : set of str
        Species whose atoms have one bond at a time.
    progress : bool
        Whether to show a progress bar.
    """
    species, first = trajectory.species, trajectory.first()
    network = in_networks(first.positions[0], species, first.cell(0), lengths)
    tracker, intervals = BondTracker(species, lengths, terminal), _Intervals(species, network, terminal)
    last, done = None, 0
    with progress_bar(len(trajectory), f"bonds of {trajectory.name}", show=progress) as bar:
        for chunk in trajectory:
            for t in range(len(chunk)):
                pairs = tracker.update(chunk.positions[t], chunk.cell(t))
                if last is None or not np.array_equal(pairs, last):
                    intervals.add(done + t, pairs)
                    last = pairs
                bar.update()
            done += len(chunk)
    return intervals.reactions(done)


def _counted(names: np.ndarray[tuple[int], np.dtype[np.str_]]) -> dict[str, int]:
    distinct, number = np.unique(names, return_counts=True)
    return {str(name): int(n) for name, n in zip(distinct, number, strict=True)}
