"""Frames as atoms of ASE and back."""

from __future__ import annotations

from dataclasses import replace

import ase.build
import ase.io
import numpy as np
import pytest
from ase import units
from ase.calculators.lj import LennardJones
from ase.calculators.singlepoint import SinglePointCalculator

from openmm_duality.errors import DualityError
from openmm_duality.reference import Frames, MixedFrames, read_extxyz
from openmm_duality.units import BOLTZMANN
from tests.systems import TRICLINIC, labelled, random_frames, random_losses


def frames() -> Frames:
    """Two triclinic frames with everything that a frame may hold."""
    rng = np.random.default_rng(0)
    made = labelled(replace(random_frames(2, n_atoms=5), cells=np.tile(TRICLINIC, (2, 1, 1))), random_losses())
    stress = rng.normal(size=(2, 3, 3))
    return replace(made, velocities=rng.normal(size=made.positions.shape), stresses=stress + stress.transpose(0, 2, 1))


def test_frames_come_back_from_ase() -> None:
    one = frames()
    again = Frames.from_ase(one.to_ase())
    assert again.species == one.species
    assert again.arrays().keys() == one.arrays().keys()
    for name, array in one.arrays().items():
        np.testing.assert_allclose(again.arrays()[name], array, rtol=1e-12, atol=1e-12)
    bare = replace(one, cells=None, forces=None, energies=None, stresses=None, velocities=None)
    assert Frames.from_ase(bare.to_ase()[0]).arrays().keys() == bare.arrays().keys()


def test_units_are_those_of_ase() -> None:
    """The temperature of the velocities, and what a force does to the energy, are the same in both units."""
    one = frames()
    atoms = one.to_ase()[0]
    kinetic = 0.5 * (one.masses[:, None] * one.velocities[0] ** 2).sum()
    assert atoms.get_kinetic_energy() / units.kB == pytest.approx(kinetic / BOLTZMANN, rel=1e-6)
    moved = 0.01  # nm
    work = atoms.get_forces()[0, 0] * (10.0 * moved) / units.kB
    assert work == pytest.approx(one.forces[0, 0, 0] * moved / BOLTZMANN, rel=1e-6)
    strain = 0.01
    work = atoms.get_stress()[0] * atoms.get_volume() * strain / units.kB
    volume = np.linalg.det(one.cells[0])
    assert work == pytest.approx(one.stresses[0, 0, 0] * volume * strain / BOLTZMANN, rel=1e-6)


def test_atoms_are_read_as_from_an_extended_xyz_file(tmp_path) -> None:
    images = frames().to_ase()
    ase.io.write(tmp_path / "a.xyz", images, format="extxyz")
    file, direct = read_extxyz(tmp_path / "a.xyz"), Frames.from_ase(images)
    for name, array in direct.arrays().items():
        if name != "masses":  # the format has them by element
            np.testing.assert_allclose(file.arrays()[name], array, atol=1e-5, rtol=1e-6, err_msg=name)


def test_only_what_was_computed_is_taken() -> None:
    atoms = ase.build.bulk("Ar", cubic=True)
    atoms.calc = LennardJones()
    assert not Frames.from_ase(atoms).has_forces
    forces = atoms.get_forces()
    assert Frames.from_ase(atoms).has_forces
    np.testing.assert_allclose(Frames.from_ase([atoms]).to_ase()[0].get_forces(), forces, atol=1e-12)
    atoms.positions[0] += 0.1  # for which nothing was computed
    assert not Frames.from_ase(atoms).has_forces


def test_several_compositions_keep_their_order() -> None:
    images = [ase.build.molecule(name) for name in ("H2O", "CH4", "H2O")]
    for k, image in enumerate(images):
        image.calc = SinglePointCalculator(image, forces=np.full((len(image), 3), float(k)))
    mixed = MixedFrames.from_ase(images)
    assert [len(atoms) for atoms in mixed.to_ase()] == [3, 5, 3]
    assert [atoms.get_forces()[0, 0] for atoms in mixed.to_ase()] == pytest.approx([0.0, 1.0, 2.0])
    with pytest.raises(DualityError, match="MixedFrames"):
        Frames.from_ase(images)


def test_what_cannot_be_frames_or_atoms_is_refused() -> None:
    atoms = ase.build.fcc111("Cu", (1, 1, 2), vacuum=5.0)
    with pytest.raises(DualityError, match="some directions only"):
        Frames.from_ase(atoms)
    whole = ase.build.bulk("Cu")
    half = whole.copy()
    half.calc = SinglePointCalculator(half, energy=1.0)
    with pytest.raises(DualityError, match="1 of 2 atoms have no energy"):
        Frames.from_ase([half, whole])
    with pytest.raises(DualityError, match="no atoms"):
        Frames.from_ase([])
    labels = replace(frames(), species=("Ar1", "Kr", "Kr", "Kr", "Kr"))
    with pytest.raises(DualityError, match="no species Ar1"):
        labels.to_ase()
