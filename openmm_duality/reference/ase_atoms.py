"""Frames as `ase.Atoms` and back: the arrays alone, in MD units here and in ASE's units there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from openmm_duality.errors import DualityError
from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.units import ANGSTROM, ELECTRONVOLT, FEMTOSECOND

if TYPE_CHECKING:
    from ase import Atoms

VACUUM = 2.0  # nm, more than a cutoff
FORCE = ELECTRONVOLT / ANGSTROM  # kJ/mol/nm
STRESS = ELECTRONVOLT / ANGSTROM**3  # kJ/mol/nm³


def velocity_unit() -> float:
    """Value of ASE's unit of velocity, Å √(eV/dalton)/Å, in nm/ps."""
    from ase import units

    return float(units.fs * ANGSTROM / FEMTOSECOND)


def lacks_lattice_vector(atoms: Atoms) -> bool:
    """Whether atoms are periodic along an axis for which they give no lattice vector."""
    return not atoms.cell.array[atoms.pbc].any(axis=1).all()


def cell_of(atoms: Atoms, vacuum: float = VACUUM) -> FloatArray | None:
    """Cell of atoms in nm, shape (3, 3); None without periodicity.

    In directions without periodicity it is wider than the atoms by a vacuum (nm) and up to 1 nm, so that images do not
    interact, and seldom changes.
    """
    if not atoms.pbc.any():
        return None
    if atoms.pbc.all():
        return np.asarray(atoms.cell.array * ANGSTROM, dtype=np.float64)
    given = atoms.cell.array
    cell = np.array(np.where(atoms.pbc[:, None], given, atoms.cell.complete().array) * ANGSTROM, dtype=np.float64)
    if lacks_lattice_vector(atoms):
        return cell  # without a lattice vector that there should be; whoever takes the cell refuses it
    for k in np.flatnonzero(~atoms.pbc):
        normal = np.cross(cell[k - 2], cell[k - 1])
        normal /= np.linalg.norm(normal)
        extent = float(np.ptp(atoms.positions @ normal)) * ANGSTROM
        cell[k] = normal * np.ceil(extent + vacuum)
    return cell


def atoms_of(
    species: Sequence[str],
    masses: FloatArray,
    positions: FloatArray,
    cell: FloatArray | None,
    velocities: FloatArray | None,
    results: dict[str, Any],
) -> Atoms:
    """One frame, in MD units, as `ase.Atoms`.

    Parameters
    ----------
    species : sequence of str, length N
        Chemical symbols.
    masses : array, shape (N,)
    positions, velocities : array, shape (N, 3)
        The second may be None.
    cell : array, shape (3, 3), or None
    results : dict
        What there is of ``energy``, ``forces`` (N, 3) and ``stress`` (3, 3).

    Raises
    ------
    DualityError
        If a species is no chemical element.
    """
    from ase import Atoms
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.data import atomic_numbers
    from ase.stress import full_3x3_to_voigt_6_stress

    unknown = sorted(set(species) - set(atomic_numbers))
    if unknown:
        raise DualityError(
            f"ASE has no species {', '.join(unknown)}, only chemical elements; rename them in the frames"
        )
    atoms = Atoms(
        symbols=list(species),
        positions=positions / ANGSTROM,
        cell=None if cell is None else cell / ANGSTROM,
        pbc=cell is not None,
        masses=masses,
    )
    if velocities is not None:
        atoms.set_velocities(velocities / velocity_unit())
    scales = {"energy": ELECTRONVOLT, "forces": FORCE, "stress": STRESS}
    known = {name: value / scales[name] for name, value in results.items()}
    if "stress" in known:
        known["stress"] = full_3x3_to_voigt_6_stress(known["stress"])
    if known:
        atoms.calc = SinglePointCalculator(atoms, **known)
    return atoms


def arrays_of(images: Sequence[Atoms]) -> dict[str, Any]:
    """Fields of `Frames`, in MD units, of single points of one composition.

    Parameters
    ----------
    images : sequence of ase.Atoms
        Forces, energies and stresses are those that their calculators have computed already.

    Raises
    ------
    DualityError
        If there are none, they differ in composition or periodicity, or some of them lack what others have.
    """
    if not images:
        raise DualityError("there are no atoms to make frames of")
    first = images[0]
    if any(not np.array_equal(image.numbers, first.numbers) for image in images):
        raise DualityError("the atoms differ in composition or order; make MixedFrames of them")
    if any((image.pbc != first.pbc).any() for image in images):
        raise DualityError("some of the atoms are periodic and others are not; make MixedFrames of them")
    energies = _common("energy", images, _result("energy", images))
    forces = _common("forces", images, _result("forces", images))
    stresses = _common("stress", images, _result("stress", images)) if first.pbc.all() else None
    velocities = _common("velocities", images, [i.get_velocities() if i.has("momenta") else None for i in images])
    return {
        "species": tuple(first.get_chemical_symbols()),
        "masses": np.array(first.get_masses(), dtype=np.float64),
        "positions": np.array([image.positions for image in images]) * ANGSTROM,
        "times": np.zeros(len(images)),
        "steps": np.arange(len(images)),
        "cells": np.array([cell_of(image) for image in images]) if first.pbc.any() else None,
        "forces": None if forces is None else forces * FORCE,
        "velocities": None if velocities is None else velocities * velocity_unit(),
        "energies": None if energies is None else energies * ELECTRONVOLT,
        "stresses": None if stresses is None else _full(stresses) * STRESS,
        "source": ("ASE",),
    }


def _result(name: str, images: Sequence[Atoms]) -> list[Any]:
    """Results that are there, None where there is none; nothing is computed."""
    from ase.calculators.calculator import PropertyNotImplementedError

    found = []
    for image in images:
        try:
            found.append(None if image.calc is None else image.calc.get_property(name, image, allow_calculation=False))
        except PropertyNotImplementedError:
            found.append(None)
    return found


def _common(name: str, images: Sequence[Atoms], values: list[Any]) -> FloatArray | None:
    lacking = [k for k, value in enumerate(values) if value is None]
    if len(lacking) == len(images):
        return None
    if lacking:
        raise DualityError(
            f"{len(lacking)} of {len(images)} atoms have no {name} (the first is number {lacking[0]}, counted from 0), "
            "and the others have; compute or leave out what is missing"
        )
    return np.array(values, dtype=np.float64)


def _full(stresses: FloatArray) -> FloatArray:
    """Stresses in the order xx, yy, zz, yz, xz, xy (T, 6) as matrices (T, 3, 3)."""
    if stresses.ndim == 3:
        return stresses
    return np.asarray(stresses[:, [[0, 5, 4], [5, 1, 3], [4, 3, 2]]])
