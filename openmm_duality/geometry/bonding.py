"""What chemistry says of bonds: how long they may be, and what atoms are bonded to.

A bond is made below one distance, found in data, and broken only beyond a longer one, which covalent radii allow.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from ase.data import atomic_numbers, covalent_radii

from openmm_duality.geometry.arrays import FloatArray, IntArray
from openmm_duality.units import ANGSTROM

NONMETALS = frozenset(("H", "B", "C", "N", "O", "F", "Si", "P", "S", "Cl", "As", "Se", "Br", "Te", "I"))
_STRETCHED = 1.4  # relative to the sum of covalent radii

BondLengths = dict[tuple[str, str], float]
"""From a pair of species, in alphabetical order, to the distance in nm below which they are bonded."""

Coordination = tuple[str, tuple[tuple[str, int], ...]]
"""A species, and its bonded neighbours: each of their species, in alphabetical order, with how many there are."""


def covalent_limit(pair: tuple[str, str]) -> float | None:
    """Longest bond in nm of a pair of elements, 1.4 times the sum of their covalent radii; None of other species."""
    length = sum_of_covalent_radii(pair)
    return None if length is None else _STRETCHED * length


def sum_of_covalent_radii(pair: tuple[str, str]) -> float | None:
    """Sum in nm of the covalent radii of a pair of elements; None of other species.

    Radii by Cordero et al., Dalton Trans. 2832 (2008).
    """
    numbers = [atomic_numbers.get(name, 0) for name in pair]
    return ANGSTROM * float(covalent_radii[numbers].sum()) if all(numbers) else None


def sums_of_covalent_radii(species: Sequence[str]) -> FloatArray:
    """The same in nm of all pairs of species, shape (S, S); NaN with what is no element."""
    return np.array([[sum_of_covalent_radii((a, b)) for b in species] for a in species], dtype=np.float64)


def longest_bonds(lengths: BondLengths) -> BondLengths:
    """The distance of every bonded pair of species, in nm, beyond which a bond is broken; at least its bond length."""
    return {pair: max(length, covalent_limit(pair) or 0.0) for pair, length in lengths.items()}


def coordinations_of(bonds: IntArray, species: Sequence[str], atoms: Iterable[int] | None = None) -> set[Coordination]:
    """The coordinations of some atoms, by default of all.

    Parameters
    ----------
    bonds : array of int, shape (n_bonds, 2)
        As `molecules.bonded_pairs` gives them.
    species : sequence of str, length N
    atoms : iterable of int, optional
    """
    distinct, index = np.unique(np.asarray(species), return_inverse=True)
    counts = np.zeros((len(species), len(distinct)), dtype=np.int64)
    for one, other in (bonds.T, bonds.T[::-1]):
        np.add.at(counts, (one, index[other]), 1)
    chosen = slice(None) if atoms is None else np.array(list(atoms), dtype=np.int64)
    rows = np.unique(np.column_stack([index, counts])[chosen], axis=0)
    return {
        (str(distinct[a]), tuple((str(name), int(n)) for name, n in zip(distinct, numbers, strict=True) if n))
        for a, *numbers in rows.tolist()
    }
