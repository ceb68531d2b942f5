"""Bonds, bonded triples and molecules of one composition: what the analyses know of chemistry.

Nothing here knows a molecule by name: bonds are the ones that the reference's own bond lengths find in one frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from openmm_duality.geometry.arrays import FloatArray, IntArray
from openmm_duality.geometry.bonding import BondLengths
from openmm_duality.geometry.molecules import bonded_pairs, find_molecules, in_networks, make_whole
from openmm_duality.observables.trajectory import Trajectory


@dataclass(frozen=True)
class Bonds:
    """Bonds, bonded triples and molecules of one composition, as found in one frame.

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
        pairs = bonded_pairs(*frame)
        neighbours: dict[int, list[int]] = {}
        for i, j in pairs.tolist():
            neighbours.setdefault(i, []).append(j)
            neighbours.setdefault(j, []).append(i)
        triples = [(a, centre, b) for centre, around in neighbours.items() for a, b in combinations(sorted(around), 2)]
        n_atoms = len(trajectory.species)
        molecule = np.arange(n_atoms, dtype=np.int64)
        network = in_networks(*frame)
        for atoms in find_molecules(*frame):
            if not network[atoms[0]]:
                molecule[atoms] = atoms[0]
        molecule = np.unique(molecule, return_inverse=True)[1].astype(np.int64)
        return Bonds(pairs, np.array(triples, dtype=np.int64).reshape(-1, 3), molecule)

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
