"""Start structures."""

from __future__ import annotations

import ase
import ase.io
import numpy as np
import pytest
from ase.constraints import FixAtoms
from openmm import app, unit

from openmm_duality.dynamics.integrity import Integrity
from openmm_duality.dynamics.structures import read_start, thermal_velocities
from openmm_duality.errors import DualityError
from openmm_duality.geometry.cells import supercell
from openmm_duality.reference.frames import Frames
from openmm_duality.units import BOLTZMANN
from openmm_duality.verbs.start_notes import held_atoms
from tests.dynamics.systems import water

TRICLINIC = np.array([[1.2, 0.0, 0.0], [0.3, 1.1, 0.0], [-0.2, 0.25, 1.3]])


def some(n=7):
    random = np.random.default_rng(4)
    return random.uniform(-0.5, 1.5, (n, 3)), tuple(random.choice(["H", "O", "Na"], n))


def test_extended_xyz_and_plain_xyz(tmp_path):
    positions, species = some()
    frames = [ase.Atoms(species, positions=10 * positions + k, cell=10 * TRICLINIC, pbc=True) for k in (1.0, 0.0)]
    ase.io.write(tmp_path / "a.xyz", frames, format="extxyz")
    start = read_start(tmp_path / "a.xyz")
    assert start.species == species
    np.testing.assert_allclose(start.positions, positions, atol=1e-8)
    np.testing.assert_allclose(start.cell, TRICLINIC, atol=1e-8)
    np.testing.assert_allclose(read_start(tmp_path / "a.xyz", 0).positions, positions + 0.1, atol=1e-8)
    (tmp_path / "b.xyz").write_text("2\nmade by hand\nO 0 0 0\nH 0.95 0 0\n")
    plain = read_start(tmp_path / "b.xyz")
    assert plain.cell is None
    np.testing.assert_allclose(plain.positions, [[0, 0, 0], [0.095, 0, 0]], atol=1e-9)


def test_pdb(tmp_path):
    _, topology, positions = water(1.0)
    with open(tmp_path / "a.pdb", "w") as handle:
        app.PDBFile.writeFile(topology, positions * unit.nanometer, handle)
    start = read_start(tmp_path / "a.pdb")
    assert start.species == tuple(atom.element.symbol for atom in topology.atoms())
    np.testing.assert_allclose(start.positions, positions, atol=6e-5)
    np.testing.assert_allclose(start.cell, np.eye(3), atol=1e-6)


def test_every_atom_of_a_pdb_file_counts_where_they_share_their_names(tmp_path):
    """As ASE writes them; OpenMM would take the hydrogens of a residue for one."""
    molecule = ase.Atoms("OH2", [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]], cell=[9.0, 9.0, 9.0], pbc=True)
    ase.io.write(tmp_path / "a.pdb", [molecule, ase.Atoms(molecule, positions=molecule.positions + 1.0)])
    start = read_start(tmp_path / "a.pdb")
    assert start.species == ("O", "H", "H")
    np.testing.assert_allclose(start.positions, 0.1 * molecule.positions + 0.1, atol=1e-4)
    np.testing.assert_allclose(start.cell, 0.9 * np.eye(3), atol=1e-6)
    lines = (tmp_path / "a.pdb").read_text().splitlines()
    for column, text, message in ((76, "  ", "columns 77-78"), (16, "A", "column 17")):
        changed = [f"{x[:column]}{text}{x[column + len(text) :]}" if x.startswith("ATOM") else x for x in lines]
        (tmp_path / "b.pdb").write_text("\n".join(changed))
        with pytest.raises(DualityError, match=message):
            read_start(tmp_path / "b.pdb")


@pytest.mark.parametrize("name", ["POSCAR", "b.xyz", "b.traj"])
def test_atoms_that_a_file_holds_are_known(tmp_path, name):
    slab = ase.Atoms(4 * ["Cu"], np.diag([2.0, 4.0, 6.0, 0.0])[:, :3], cell=[9.0, 9.0, 9.0], pbc=True)
    slab.set_constraint(FixAtoms([0, 1, 3]))
    ase.io.write(tmp_path / name, slab, format="extxyz" if name == "b.xyz" else None)
    start = read_start(tmp_path / name)
    np.testing.assert_allclose(start.positions, 0.1 * slab.positions, atol=1e-8)
    assert start.held == (0, 1, 3)
    assert start.repeated((1, 2, 1)).held == (0, 1, 3, 4, 5, 7)
    assert "3 atoms that the file of the start holds fixed move here; --fixed 0-1,3 holds all" in held_atoms(start, [])
    assert "an atom that the file of the start holds fixed moves here; --fixed 0-3 " in held_atoms(start, [0, 1, 2])
    assert not held_atoms(start, [0, 1, 2, 3])


def test_a_frame_of_reference_data():
    positions, species = some()
    frames = Frames(
        species=species,
        masses=np.ones(7),
        positions=np.stack([positions, positions + 1.0]),
        times=np.arange(2.0),
        steps=np.arange(2),
        cells=np.stack([TRICLINIC, 2 * TRICLINIC]),
    )
    assert np.array_equal(read_start(frames).positions, positions + 1.0)
    assert np.array_equal(read_start(frames, 0).cell, TRICLINIC)
    with pytest.raises(DualityError, match="no frame 2"):
        read_start(frames, 2)


def test_a_supercell_is_the_same_crystal():
    _, topology, positions = water(1.0)
    species = tuple(atom.element.symbol for atom in topology.atoms())
    lengths = {("H", "O"): 0.13}
    small = Integrity(species, positions, np.eye(3), lengths)
    many, names, cell = supercell(positions, species, np.eye(3), (2, 1, 3))
    assert len(many) == len(names) == 6 * len(species)
    np.testing.assert_allclose(cell, np.diag([2.0, 1.0, 3.0]))
    large = Integrity(names, many, cell, lengths)
    assert large.molecules == 6 * small.molecules
    for pair, shortest in large.check(many, cell).shortest.items():
        assert shortest == pytest.approx(small.check(positions, np.eye(3)).shortest[pair], abs=1e-12)


def test_a_supercell_follows_the_cell_vectors():
    positions, species = some()
    many, _, cell = supercell(positions, species, TRICLINIC, (1, 2, 1))
    np.testing.assert_allclose(many[7:] - many[:7], np.broadcast_to(TRICLINIC[1], (7, 3)))
    np.testing.assert_allclose(cell[1], 2 * TRICLINIC[1])


def test_thermal_velocities_have_their_temperature_and_no_momentum():
    masses = np.random.default_rng(1).choice([1.0, 16.0, 0.0], 30_000)
    velocities = thermal_velocities(masses, 250.0, 5)
    assert np.abs(masses @ velocities).max() < 1e-8
    assert not velocities[masses == 0].any()
    for mass in (1.0, 16.0):
        spread = (velocities[masses == mass] ** 2).mean()
        assert spread == pytest.approx(BOLTZMANN * 250.0 / mass, rel=0.03)
    assert np.array_equal(velocities, thermal_velocities(masses, 250.0, 5))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.xyz", "3\ncut short\nO 0 0 0\n"),
        ("b.pdb", "not a structure\n"),
        ("c.doc", "anything"),
        ("d.xyz", "1\n\nO nan 0 0\n"),
    ],
)
def test_files_that_are_no_structures_are_refused(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(DualityError, match=r"^start: "):
        read_start(tmp_path / name)


def test_a_missing_file_and_a_bad_supercell_are_refused(tmp_path):
    with pytest.raises(DualityError, match="no file"):
        read_start(tmp_path / "none.xyz")
    positions, species = some()
    for cell, n in ((None, (1, 1, 1)), (TRICLINIC, (0, 1, 1)), (TRICLINIC, (1.5, 1, 1)), (TRICLINIC, (2, 2))):
        with pytest.raises(DualityError, match="supercell"):
            supercell(positions, species, cell, n)
