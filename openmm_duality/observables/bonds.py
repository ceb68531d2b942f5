"""Bonds, bonded triples and molecules of one composition: what the analyses know of chemistry.

Nothing here knows a molecule by name: bonds are the ones that the reference's own bond lengths find.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from openmm_duality.geometry.arrays import BoolArray, FloatArray, IntArray
from openmm_duality.geometry.bonding import BondLengths
from openmm_duality.geometry.molecules import bonded_pairs, component_labels, in_networks, make_whole
from openmm_duality.observables.trajectory import Trajectory


class BondsInTime(Protocol):
    """Bonds of every frame of a trajectory."""

    def at(self, t: int) -> Bonds:
        """The bonds of frame t."""

    def names(self, species: tuple[str, ...]) -> tuple[list[str], list[str]]:
        """The names of all bonds and of all bonded triples that occur, as `bond_labels` gives them."""


@dataclass(frozen=True)
class Bonds:
    """Bonds, bonded triples and molecules of one composition in one frame, or in all frames if they never change.

    Parameters
    ----------
    pairs : array of int, shape (P, 2)
        Bonded atoms.
    triples : array of int, shape (A, 3)
        Two neighbours of a central atom, which stands in the middle.
    molecule : array of int, shape (N,)
        The molecule of every atom; atoms without bonds, and those of a network, are molecules of their own.
    """

    pairs: IntArray
    triples: IntArray
    molecule: IntArray

    @staticmethod
    def found(trajectory: Trajectory, lengths: BondLengths) -> Bonds:
        """Find the bonds of the first frame of a trajectory.

        Parameters
        ----------
        trajectory : Trajectory
        lengths : dict
            The longest bond per pair of species, in nm.
        """
        first = trajectory.first()
        frame = first.positions[0], trajectory.species, first.cell(0), lengths
        return Bonds.of(bonded_pairs(*frame), in_networks(*frame))

    @staticmethod
    def of(pairs: IntArray, network: BoolArray) -> Bonds:
        """Bonds of given pairs of atoms, shape (P, 2), with the atoms that are in networks, shape (N,)."""
        molecule = component_labels(pairs, len(network))
        molecule[network] = len(network) + np.flatnonzero(network)
        molecule = np.unique(molecule, return_inverse=True)[1].astype(np.int64)
        return Bonds(pairs, _triples(pairs), molecule)

    def at(self, t: int) -> Bonds:
        """The bonds of frame t: these, in all frames."""
        return self

    def names(self, species: tuple[str, ...]) -> tuple[list[str], list[str]]:
        """The names of the bonds and of the bonded triples."""
        lengths, angles = (sorted(set(bond_labels(species, items))) for items in (self.pairs, self.triples))
        return lengths, angles

    @property
    def n_molecules(self) -> int:
        """Number of molecules, single atoms included."""
        return int(self.molecule.max()) + 1

    def whole(self, positions: FloatArray, cell: FloatArray | None) -> FloatArray:
        """Positions in nm, shape (N, 3), in which no molecule is cut by the cell; networks stay as they are."""
        inside = self.molecule[self.pairs[:, 0]] == self.molecule[self.pairs[:, 1]]
        return make_whole(positions, self.pairs[inside], cell)


def bond_labels(species: tuple[str, ...], items: IntArray) -> list[str]:
    """Species of bonded items, read from the end that comes first in the alphabet: "H-O", "H-O-H"."""
    named = np.array(species, dtype=object)[items]
    return ["-".join(min(tuple(row), tuple(row[::-1]))) for row in named]


def _triples(pairs: IntArray) -> IntArray:
    """Two neighbours of every atom, with the atom between them, by the atom and then by the neighbours."""
    ends = np.concatenate([pairs, pairs[:, ::-1]])
    centre, other = ends[np.lexsort((ends[:, 1], ends[:, 0]))].T
    # every neighbour with those of the same atom that follow it
    behind = np.searchsorted(centre, centre, side="right") - np.arange(len(centre)) - 1
    first = np.repeat(np.arange(len(centre)), behind)
    second = first + 1 + np.arange(len(first)) - np.repeat(np.cumsum(behind) - behind, behind)
    return np.stack([other[first], centre[first], other[second]], axis=1)
