"""How close atoms come where no data show it: the repulsion of their screened nuclei.

Source: the universal potential of Ziegler, Biersack and Littmark, *The Stopping and Range of Ions in Solids* (1985).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import numpy.typing as npt
from ase.data import atomic_numbers

from openmm_duality.geometry.arrays import BoolArray, FloatArray, IntArray
from openmm_duality.geometry.bonding import sum_of_covalent_radii
from openmm_duality.units import ANGSTROM, ELECTRONVOLT

TOUCHING = 0.1 * ELECTRONVOLT  # energy of the nuclei of atoms that touch, about 4 kT at 300 K
COLLAPSED = 1.0 * ELECTRONVOLT  # the same of atoms that cannot be so close without a bond
COLLAPSE_FRACTION = 0.8  # of the shortest distance in data, below which atoms count as collapsed
_COULOMB = 14.399645 * ELECTRONVOLT * ANGSTROM  # e²/(4π ε_0) in kJ/mol nm
_SCREENING = 0.4685 * ANGSTROM
_TERMS = ((0.18175, 3.19980), (0.50986, 0.94229), (0.28022, 0.40290), (0.02817, 0.20162))
_GRID = np.arange(0.02, 0.6, 1e-4)  # nm
_FAR = 1.15  # contacts: what data show only further apart has not met in them


def screened_repulsion(pair: tuple[str, str], r: npt.ArrayLike) -> FloatArray | None:
    """Energy in kJ/mol of the nuclei of a pair of elements at distances in nm; None of other species."""
    a, b = (atomic_numbers.get(name, 0) for name in pair)
    return _energy_and_slope(np.array(a), np.array(b), np.asarray(r, dtype=np.float64))[0] if a and b else None


def screened_forces(species: Sequence[str], positions: FloatArray, chosen: BoolArray) -> FloatArray:
    """Forces of the nuclei of chosen pairs of atoms in kJ/mol/nm, shape (N, 3); zero of species that are no elements.

    Parameters
    ----------
    species : sequence of str, length N
    positions : array, shape (N, 3)
        In nm.
    chosen : array of bool, shape (N, N)
        Symmetric, and false of an atom with itself.
    """
    numbers = np.array([atomic_numbers.get(name, 0) for name in species])
    i, j = np.nonzero(chosen)
    vectors = positions[i] - positions[j]
    distances = np.linalg.norm(vectors, axis=1)
    _, slopes = _energy_and_slope(numbers[i], numbers[j], distances)
    forces = np.zeros_like(positions)
    np.add.at(forces, i, -(slopes / distances)[:, None] * vectors)
    return forces


def _energy_and_slope(a: IntArray, b: IntArray, r: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Energies in kJ/mol of nuclei with atomic numbers at distances in nm, and their derivatives in kJ/mol/nm."""
    per_length = (a**0.23 + b**0.23) / _SCREENING
    terms = [(c * np.exp(-k * per_length * r), k * per_length) for c, k in _TERMS]
    coulomb = _COULOMB * a * b / r
    energies = coulomb * sum(term for term, _ in terms)
    return np.asarray(energies), np.asarray(-energies / r - coulomb * sum(term * rate for term, rate in terms))


@cache
def distance_at(pair: tuple[str, str], energy: float = TOUCHING) -> float | None:
    """Distance in nm at which the nuclei of a pair of elements repel with an energy; None of other species."""
    energies = screened_repulsion(pair, _GRID)
    return None if energies is None else float(np.interp(-energy, -energies, _GRID))


def collapse_distance(pair: tuple[str, str], shortest: float) -> float:
    """Distance in nm below which a pair has collapsed: 0.8 of the shortest one in data.

    If it is shorter, the distance where the nuclei repel with 1 eV, so that atoms may meet that data show far apart.
    """
    return min(COLLAPSE_FRACTION * shortest, distance_at(pair, COLLAPSED) or np.inf)


def contacts(shortest: FloatArray, species: Sequence[str]) -> FloatArray:
    """The shortest distances of pairs of species (S, S) in nm, or contacts of the elements where they are far beyond.

    A contact is where the nuclei repel with 0.1 eV, or the sum of the covalent radii if that is longer. So pairs that
    the data show only far apart may come closer. NaN, for pairs that they do not show, stays where a species is no
    element.
    """
    found = shortest.copy()
    for a, b in np.ndindex(*shortest.shape):
        pair = (species[a], species[b])
        nuclei, radii = distance_at(pair), sum_of_covalent_radii(pair)
        if nuclei is not None and radii is not None and not shortest[a, b] <= _FAR * max(nuclei, radii):
            found[a, b] = max(nuclei, radii)
    return found


def have_met(shortest: FloatArray, touching: FloatArray) -> BoolArray:
    """Whether the data show pairs of species (S, S) in contact, given their shortest distances and `contacts`."""
    return np.asarray(touching >= shortest)
