"""Extended XYZ and the one door for every format; the summary of what was read."""

import json
from dataclasses import replace
from pathlib import Path

import ase.io
import ase.units
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from openmm_duality.errors import DualityError
from openmm_duality.reference import read, read_cp2k, summarise
from openmm_duality.units import ELECTRONVOLT, MEV_PER_ANGSTROM
from tests.reference.conftest import EXAMPLES


def images(count: int = 3, cell: float | None = 6.0) -> list[Atoms]:
    made = []
    for k in range(count):
        rng = np.random.default_rng(k)
        atoms = Atoms("OHH", positions=rng.normal(size=(3, 3)), cell=cell and [cell] * 3, pbc=cell is not None)
        atoms.calc = SinglePointCalculator(atoms, energy=-1.0 - k, forces=rng.normal(size=(3, 3)))
        atoms.set_velocities(rng.normal(size=(3, 3)))
        made.append(atoms)
    return made


@pytest.mark.parametrize(("cell", "name"), [(6.0, "a.xyz"), (None, "a.extxyz"), (6.0, "a.xyz.gz")])
def test_extended_xyz_by_way_of_ase(tmp_path: Path, cell: float | None, name: str) -> None:
    path, written = tmp_path / name, images(cell=cell)
    ase.io.write(path, written, format="extxyz")
    frames = read(path)
    assert frames.species == ("O", "H", "H")
    assert (frames.cells is None) == (cell is None)
    assert frames.timestep is None
    assert frames.forces is not None
    assert frames.energies is not None
    assert frames.velocities is not None
    np.testing.assert_allclose(frames.positions[1] * 10, written[1].positions, atol=1e-7)
    np.testing.assert_allclose(frames.forces[2] / (1e3 * MEV_PER_ANGSTROM), written[2].get_forces(), atol=1e-7)
    np.testing.assert_allclose(frames.energies, [-ELECTRONVOLT, -2 * ELECTRONVOLT, -3 * ELECTRONVOLT])
    # The same kinetic energy in both sets of units.
    kinetic = 0.5 * (frames.masses[:, None] * frames.velocities[0] ** 2).sum()
    assert kinetic / ELECTRONVOLT == pytest.approx(written[0].get_kinetic_energy(), rel=1e-5)


@pytest.mark.parametrize("name", ["a.xyz", "a.traj"])
def test_frames_without_forces_are_left_out_and_said_where_others_have_them(tmp_path: Path, name: str) -> None:
    path, written = tmp_path / name, images()
    written[1].calc = None
    ase.io.write(path, [*written, Atoms("H2", positions=np.eye(3)[:2])])
    with pytest.warns(
        UserWarning, match="2 of 4 frames have no forces and are left out .the first is frame 1, counted"
    ):
        frames = read(path)
    assert frames.steps.tolist() == [0, 2]
    structures = read(path, forces=False)
    assert len(structures) == 4
    assert not structures.has_forces


def test_energies_that_some_frames_of_the_same_atoms_lack_are_left_out_and_said(tmp_path: Path) -> None:
    path, written = tmp_path / "a.xyz", images(count=11)
    calc = written[2].calc
    assert calc is not None
    del calc.results["energy"]
    ase.io.write(path, written)
    with pytest.warns(UserWarning, match="1 of 11 frames have no energies and are left out .the first is frame 2"):
        assert len(read(path)) == 10
    ase.io.write(path, written[:3])
    with pytest.warns(UserWarning, match="the energies of 2 frames are left out, because others of the same"):
        frames = read(path)
    assert frames.has_forces
    assert all(part.energies is None for part in frames.parts)


def test_energies_that_never_change_are_none(tmp_path: Path) -> None:
    path, written = tmp_path / "a.xyz", images(count=4)
    for atoms in written:
        atoms.calc.results["energy"] = 0.0
    ase.io.write(path, written)
    with pytest.warns(UserWarning, match=r"a\.xyz: the energies of all frames are equal"):
        assert read(path).parts[0].energies is None
    ase.io.write(path, written[:2])  # of two frames nothing is known
    assert read(path).parts[0].energies is not None
    ase.io.write(path, 3 * written[:1])  # nor of copies
    assert read(path).parts[0].energies is not None
    written[1].calc.results["energy"] = 0.1
    ase.io.write(path, written)
    assert read(path).parts[0].energies is not None


def test_a_cut_file_and_nonsense(tmp_path: Path) -> None:
    path = tmp_path / "a.xyz"
    ase.io.write(path, images())
    text = path.read_text()
    for content in (text[:-80], "", "what is this\n"):
        path.write_text(content)
        with pytest.raises(DualityError, match=r"a\.xyz"):
            read(path)


def test_the_door_knows_saved_frames_and_cp2k(tmp_path: Path) -> None:
    frames = read(EXAMPLES / "water64-distorted" / "box1_03")
    frames.save(tmp_path / "f.safetensors")
    again = read(tmp_path / "f.safetensors")
    np.testing.assert_array_equal(again.positions, frames.positions)
    file = read(EXAMPLES / "water64-distorted" / "box1_03-pos-1.xyz.xz")
    np.testing.assert_array_equal(file.positions, frames.positions)


def test_the_summary_of_cells_that_vary_says_so() -> None:
    frames = read_cp2k(EXAMPLES / "water64-cnnp")[:3]
    assert frames.cells is not None
    cells = frames.cells * np.array([1.0, 1.01, 0.99])[:, None, None]
    summary = summarise(replace(frames, cells=cells))
    assert summary.densities == pytest.approx((0.9967 / 1.01**3, 0.9967 / 0.99**3), abs=1e-3)
    assert "°  on average" not in str(summary)
    assert "90.00° on average" in str(summary)
    assert "g/cm³ on average, 0.967" in str(summary)


def test_a_value_that_is_not_finite_is_found_in_the_frame_of_the_file(tmp_path: Path) -> None:
    path, written = tmp_path / "a.xyz", images()
    written.insert(0, Atoms("H2", positions=np.eye(3)[:2]))
    written[0].calc = SinglePointCalculator(written[0], energy=0.0, forces=np.zeros((2, 3)))
    written[2].calc = SinglePointCalculator(written[2], energy=0.0, forces=np.full((3, 3), np.nan))
    ase.io.write(path, written)
    with pytest.raises(DualityError, match=r"forces hold .* frame 1, counted from 0, step 2"):
        read(path)


def test_summary_of_water() -> None:
    frames = read_cp2k(EXAMPLES / "water64-cnnp")[::20]
    summary = summarise(frames)
    assert summary.composition == {"H": 128, "O": 64}
    assert summary.molecules == {"H2O": 64}
    assert summary.density == pytest.approx(0.997, abs=0.001)
    assert summary.densities is None
    assert frames.forces is not None
    assert summary.force_rms["all"] == pytest.approx(np.sqrt((frames.forces**2).mean()) / MEV_PER_ANGSTROM)
    # Independent: the data's own README gives 245 meV/Å.
    assert summary.force_rms["molecular"] == pytest.approx(245, rel=0.05)
    assert summary.missing == ("velocities",)
    assert json.loads(json.dumps(summary.to_dict()))["frames"] == len(frames)
    for word in ("64 H2O", "shortest O-O", "meV/Å", "velocities"):
        assert word in str(summary)


def test_forces_that_do_not_add_up_to_zero_are_told(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    written = images()
    ase.io.write(tmp_path / "random.xyz", written)
    with pytest.warns(UserWarning, match=r"random.xyz: the forces of 3 frames add up to .* % of what independent"):
        read(tmp_path / "random.xyz")
    for atoms in written:
        forces = atoms.get_forces()
        atoms.calc = SinglePointCalculator(atoms, energy=0.0, forces=forces - forces.mean(axis=0))
    ase.io.write(tmp_path / "balanced.xyz", written)
    recwarn.clear()
    read(tmp_path / "balanced.xyz")
    assert not [w for w in recwarn if "add up" in str(w.message)]
