"""What all back ends share: checks of precision and particles, the hash of atoms, and the bound of the forces."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from openmm_duality.errors import DualityError
from openmm_duality.geometry.arrays import IntArray

PRECISIONS = ("single", "double")
# kJ/mol/nm, at which components of forces are held: OpenMM's OpenCL and CUDA platforms add up forces in fixed point,
# which changes its sign beyond 2.1e9; only atoms much too close, or far outside the data, are pushed so hard
LARGEST_FORCE = 1e9


def check_precision(name: str) -> str:
    """The name of a precision of the arithmetic, checked.

    Raises
    ------
    DualityError
        If it is neither ``single`` nor ``double``.
    """
    if name not in PRECISIONS:
        raise DualityError(f"precision {name!r} is not known; it is one of {', '.join(PRECISIONS)}")
    return name


def check_particles(
    particles: Sequence[int] | None, *, n_given: int | None = None, n_atoms: int | None = None
) -> IntArray | None:
    """Indices of the atoms that losses act on, checked; None stands for all atoms.

    Parameters
    ----------
    particles : sequence of int, or None
    n_given : int, optional
        Number of atoms for which a species was given.
    n_atoms : int, optional
        Number of all atoms, where it is known.

    Raises
    ------
    DualityError
        If there is none, one is repeated, negative or beyond the atoms, or their number is not that of the species.
    """
    if particles is None:
        return None
    indices = np.asarray(particles)
    if indices.ndim != 1 or not indices.size or not np.issubdtype(indices.dtype, np.integer):
        raise DualityError(f"particles: expected one or more whole numbers, the indices of atoms, got {particles!r}")
    if n_given is not None and len(indices) != n_given:
        raise DualityError(f"particles: {len(indices)} indices were given with {n_given} species; give one for each")
    wrong = indices[(indices < 0) | (indices >= (np.inf if n_atoms is None else n_atoms))]
    if len(wrong):
        last = "" if n_atoms is None else f" and the last is {n_atoms - 1}"
        raise DualityError(f"particles: there is no atom {wrong[0]}; the first is 0{last}")
    distinct, number = np.unique(indices, return_counts=True)
    if len(distinct) != len(indices):
        raise DualityError(f"particles: atom {distinct[number > 1][0]} is there more than once")
    return indices.astype(np.int64)


def hash_of_atoms(species: Sequence[str], particles: Sequence[int] | None) -> str:
    """SHA-256 of the species and the indices of the atoms that losses act on, in hexadecimal digits."""
    indices = range(len(species)) if particles is None else particles
    atoms = [f"{k} {name}" for k, name in zip(indices, species, strict=True)]
    return hashlib.sha256("\n".join(atoms).encode()).hexdigest()
