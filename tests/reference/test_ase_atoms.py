"""Frames as atoms of ASE and back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import ase.build
import ase.io
import numpy as np
import pytest
from ase import units
from ase.calculators.lj import LennardJones
from ase.calculators.singlepoint import SinglePointCalculator

from openmm_duality.dynamics import read_start
from openmm_duality.errors import DualityError
from openmm_duality.losses import evaluate_agents
from openmm_duality.reference import Frames, MixedFrames, read, read_extxyz
from openmm_duality.units import ANGSTROM, BOLTZMANN
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


@pytest.mark.parametrize("pbc", ["T T F", "T F F"])
def test_directions_without_periodicity_get_a_cell_with_vacuum(tmp_path: Path, pbc: str) -> None:
    slab = ase.build.fcc111("Cu", (2, 2, 3), orthogonal=False)
    slab.cell[2] = 0.0
    slab.pbc = [letter == "T" for letter in pbc.split()]
    slab.calc = SinglePointCalculator(slab, energy=1.0, forces=np.ones((12, 3)), stress=np.ones(6))
    ase.io.write(tmp_path / "a.xyz", slab, format="extxyz")
    with pytest.warns(
        UserWarning, match="1 frames are periodic in some directions only; in the others .* 2 nm, and no"
    ):
        found = read(tmp_path / "a.xyz")
    direct, start = Frames.from_ase(slab), read_start(tmp_path / "a.xyz")
    losses = random_losses("quadratic", species=("Cu",))
    wide = slab.copy()
    wide.pbc = True
    wide.cell[1:] = 60.0 * np.eye(3)[1:] if pbc == "T F F" else [slab.cell[1], [0.0, 0.0, 60.0]]
    expected = evaluate_agents(losses, slab.positions * ANGSTROM, ("Cu",) * 12, wide.cell.array * ANGSTROM).forces
    assert isinstance(found, Frames)
    for one in (found, direct):
        assert one.stresses is None
        assert one.cells is not None
        np.testing.assert_allclose(one.cells[0, 0], slab.cell[0] * ANGSTROM, atol=1e-8)
        assert one.cells[0, 2, 2] == pytest.approx(3.0)  # 0.42 nm of atoms, and vacuum
        forces = evaluate_agents(losses, one.positions[0], one.species, one.cells[0]).forces
        np.testing.assert_allclose(forces, expected, atol=1e-6 * np.abs(expected).max())
    assert start.cell is not None
    assert start.cell[2, 2] == pytest.approx(3.0)


def test_a_lattice_vector_that_is_missing_is_refused(tmp_path: Path) -> None:
    slab = ase.build.fcc111("Cu", (2, 2, 3))
    slab.cell[:] = 0.0
    slab.pbc = (True, True, False)
    with pytest.raises(DualityError, match="cell"):
        Frames.from_ase(slab)


def test_what_cannot_be_frames_or_atoms_is_refused() -> None:
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
