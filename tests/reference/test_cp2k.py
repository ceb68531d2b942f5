"""The reader of CP2K projects: what CP2K itself wrote, and what damaged data are answered with."""

import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from openmm_duality.errors import DualityError
from openmm_duality.geometry.cells import minimum_image
from openmm_duality.reference.cp2k_project import read_cp2k, read_ener
from openmm_duality.reference.summary import temperature_of
from openmm_duality.units import ANGSTROM, BOHR, BOLTZMANN, HARTREE, MEV_PER_ANGSTROM
from tests.reference.conftest import ARGON_NEON, EXAMPLES, INPUT, block, values

Project = Callable[..., Path]


def test_dcd_and_xyz_of_one_run_agree() -> None:
    with pytest.warns(UserWarning, match="5 of the 11 frames of tri-pos"):
        text = read_cp2k(ARGON_NEON / "tri")
    with pytest.warns(UserWarning, match="5 of the 11 frames"):
        binary = read_cp2k(ARGON_NEON / "tridcd")
    np.testing.assert_allclose(binary.positions, text.positions, atol=2e-7)
    np.testing.assert_array_equal(binary.steps, text.steps)
    np.testing.assert_allclose(binary.times, text.times)
    assert binary.species == text.species == ("Ar", "Ne") * 3
    np.testing.assert_allclose(binary.masses, text.masses)
    assert text.masses[1] == 22.5


def test_units_against_kinetic_energy_and_the_lennard_jones_law() -> None:
    with pytest.warns(UserWarning, match="5 of the 11"):
        frames = read_cp2k(ARGON_NEON / "tri")
    assert frames.timestep == pytest.approx(0.002)
    assert frames.velocities is not None
    kinetic = 0.5 * (frames.masses[:, None] * frames.velocities**2).sum(axis=(1, 2))
    table = read_ener(ARGON_NEON / "tri-1.ener")
    rows = np.isin(table.steps, frames.steps)
    np.testing.assert_allclose(kinetic, table.kinetic[rows], rtol=1e-5)
    assert temperature_of(frames) == pytest.approx(table.temperatures[rows].mean(), rel=1e-5)
    # The force field of the input: epsilon / k = 119.8 K, cut off at 0.5 nm. CP2K splines it to 1e-7 Hartree.
    assert frames.forces is not None
    sigma = {"ArAr": 0.3405, "ArNe": 0.32, "NeAr": 0.32, "NeNe": 0.30}
    for t in range(len(frames)):
        i, j = np.triu_indices(frames.n_atoms, 1)
        delta = minimum_image(frames.positions[t][j] - frames.positions[t][i], frames.cell(t))
        r = np.linalg.norm(delta, axis=1)
        s6 = (np.array([sigma[frames.species[a] + frames.species[b]] for a, b in zip(i, j, strict=True)]) / r) ** 6
        pull = np.where(r < 0.5, -24 * 119.8 * BOLTZMANN * (2 * s6**2 - s6) / r**2, 0.0)[:, None] * delta
        expected = np.zeros((frames.n_atoms, 3))
        np.add.at(expected, i, pull)
        np.add.at(expected, j, -pull)
        np.testing.assert_allclose(frames.forces[t], expected, atol=1e-2 * np.abs(expected).max())


def test_the_cell_of_every_frame_is_that_of_its_step() -> None:
    with pytest.warns(UserWarning, match="velocities are left out"):
        frames = read_cp2k(ARGON_NEON / "tri", forces=False)
    table = np.loadtxt(ARGON_NEON / "tri-1.cell")
    assert frames.cells is not None
    np.testing.assert_allclose(np.abs(np.linalg.det(frames.cells)), table[:, 11] * ANGSTROM**3)
    np.testing.assert_allclose(frames.cells[0][0], [1.1, 0, 0], atol=1e-12)


def test_bundled_water() -> None:
    frames = read_cp2k(EXAMPLES / "water64-cnnp")
    assert (len(frames), frames.n_atoms, frames.distinct_species) == (981, 192, ("H", "O"))
    assert frames.forces is not None
    assert frames.cells is not None
    np.testing.assert_allclose(frames.cells, np.tile(1.2429425 * np.eye(3), (981, 1, 1)))
    assert frames.times[-1] - frames.times[0] == pytest.approx(19.6)
    # The network's forces are a gradient: they sum to zero.
    assert np.abs(frames.forces.sum(axis=1)).max() < 1e-3 * MEV_PER_ANGSTROM
    table = read_ener(EXAMPLES / "water64-cnnp" / "water64-1.ener.xz")
    rows = np.searchsorted(table.steps, frames.steps)
    np.testing.assert_allclose(frames.energies, table.potential[rows])
    np.testing.assert_allclose(frames.temperatures, table.temperatures[rows])
    assert temperature_of(frames) == frames.temperatures.mean() == pytest.approx(300.0, abs=2.0)


def test_reftraj_frames_are_single_points_in_their_order() -> None:
    frames = read_cp2k(EXAMPLES / "water64-distorted" / "box0_95")
    assert frames.timestep is None
    assert list(frames.steps) == list(range(1, 26))


def test_reftraj_may_number_two_frames_alike(project: Project) -> None:
    prefix = project([1, 1, 2, 3], [1, 1, 2, 3])
    Path(f"{prefix}.inp").write_text(INPUT.replace("ENSEMBLE NVE", "ENSEMBLE REFTRAJ"))
    frames = read_cp2k(prefix)
    assert list(frames.steps) == [1, 1, 2, 3]


def test_strides_may_differ(project: Project) -> None:
    with pytest.warns(UserWarning, match="left out.* 10 of the 13 frames of w-pos-1.xyz"):
        frames = read_cp2k(project(range(0, 52, 4), range(0, 52, 20)))
    assert list(frames.steps) == [0, 20, 40]
    assert frames.forces is not None
    assert frames.energies is not None
    np.testing.assert_allclose(frames.positions[1], values(20, "pos") * ANGSTROM, atol=1e-10)
    np.testing.assert_allclose(frames.forces[1], values(20, "frc") * HARTREE / BOHR, atol=1e-5)
    np.testing.assert_allclose(frames.energies, [(-17 - 0.001 * s) * HARTREE for s in (0, 20, 40)])
    np.testing.assert_allclose(frames.times, [0, 0.01, 0.02])


def test_after_a_restart_the_last_writing_counts(project: Project) -> None:
    prefix = project()
    for what in ("pos", "frc"):
        old = "".join(block(s, "old") for s in (20, 30, 40))
        new = "".join(block(s, what) for s in (20, 30))
        Path(f"{prefix}-{what}-1.xyz").write_text("".join(block(s, what) for s in (0, 10)) + old + new)
    with pytest.warns(UserWarning, match="restart repeated steps; 3 blocks"):
        frames = read_cp2k(prefix)
    # Step 40 belonged to the branch that the restart gave up.
    assert list(frames.steps) == [0, 10, 20, 30]
    np.testing.assert_allclose(frames.positions[3], values(30, "pos") * ANGSTROM, atol=1e-10)


@pytest.mark.parametrize(("suffix", "opener"), [(".xz", lzma.open), (".gz", gzip.open)])
def test_compressed_files(project: Project, suffix: str, opener: Callable[..., object]) -> None:
    prefix = project()
    plain = read_cp2k(prefix)
    for what in ("pos", "frc"):
        file = Path(f"{prefix}-{what}-1.xyz")
        with opener(f"{file}{suffix}", "wt") as packed:  # type: ignore[attr-defined]
            packed.write(file.read_text())
        file.unlink()
    np.testing.assert_array_equal(read_cp2k(prefix).positions, plain.positions)


def test_folder_prefix_and_file_name_the_same_project(project: Project) -> None:
    prefix = project()
    read = [read_cp2k(p) for p in (prefix, prefix.parent, Path(f"{prefix}-pos-1.xyz"))]
    assert len({tuple(f.positions.ravel()) for f in read}) == 1


def cut(prefix: Path) -> None:
    file = Path(f"{prefix}-frc-1.xyz")
    file.write_text(file.read_text()[:-30])


def cut_packed(prefix: Path) -> None:
    file = Path(f"{prefix}-frc-1.xyz")
    whole = lzma.compress(file.read_bytes())
    file.unlink()
    Path(f"{file}.xz").write_bytes(whole[: len(whole) // 2])


def fewer_forces(prefix: Path) -> None:
    Path(f"{prefix}-frc-1.xyz").write_text("".join(block(s, "frc") for s in (0, 10, 20)))


def other_order(prefix: Path) -> None:
    Path(f"{prefix}-frc-1.xyz").write_text("".join(block(s, "frc", ("H", "O", "H")) for s in range(0, 50, 10)))


def order_changes(prefix: Path) -> None:
    Path(f"{prefix}-pos-1.xyz").write_text(block(0, "pos") + block(10, "pos", ("H", "O", "H")))


def no_cell(prefix: Path) -> None:
    Path(f"{prefix}.inp").write_text(INPUT.replace("ABC 10.0 11.0 12.0", ""))


def cell_changes(prefix: Path) -> None:
    Path(f"{prefix}.inp").write_text(INPUT.replace("NVE", "NPT_I"))


def not_a_number(prefix: Path) -> None:
    file = Path(f"{prefix}-frc-1.xyz")
    lines = file.read_text().splitlines(keepends=True)
    lines[8] = "  H  NaN 0.0 0.0\n"
    file.write_text("".join(lines))


def stars(prefix: Path) -> None:
    file = Path(f"{prefix}-frc-1.xyz")
    lines = file.read_text().splitlines(keepends=True)
    lines[8] = "  H  ************ 0.0 0.0\n"
    file.write_text("".join(lines))


def no_input(prefix: Path) -> None:
    Path(f"{prefix}.inp").unlink()


def several(prefix: Path) -> None:
    (prefix.parent / "v-pos-1.xyz").write_text(block(0, "pos"))


def twice(prefix: Path) -> None:
    Path(f"{prefix}-frc-1.xyz.xz").write_bytes(b"")


def empty(prefix: Path) -> None:
    Path(f"{prefix}-frc-1.xyz").write_text("")


def cut_energies(prefix: Path) -> None:
    Path(f"{prefix}-1.ener").write_text("# head\n 0 0.0 0.1 300.0 -17.0 -17.0 0.1\n 1 0.5 0.1\n")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut, r"w-frc-1\.xyz: the file is cut short .* last complete block is that of step 30"),
        (cut_packed, r"w-frc-1\.xyz\.xz: the file is cut short"),
        (fewer_forces, r"w-frc-1\.xyz ends at step 20 \(3 frames\)"),
        (other_order, "different order .*atom 1 is O in the first and H in the second"),
        (order_changes, "step 10 has other atoms"),
        (no_cell, "no cell was found"),
        (cell_changes, "changes the cell"),
        (not_a_number, r"w-frc-1\.xyz: the value of atom 2 at step 10 is not a finite number"),
        (stars, "the block of step 10 is not a label and three numbers"),
        (no_input, "the CP2K input is needed"),
        (several, r"several CP2K projects in one folder \(v, w\)"),
        (twice, "both there"),
        (empty, "the file is empty"),
        (cut_energies, "expected lines of numbers"),
    ],
)
def test_damaged_data_are_one_paragraph(project: Project, damage: Callable[[Path], None], message: str) -> None:
    prefix = project()
    damage(prefix)
    with pytest.raises(DualityError, match=message) as error:
        read_cp2k(prefix.parent if damage is several else prefix)
    assert "\n\n" not in str(error.value)


def test_other_count_of_atoms(project: Project) -> None:
    prefix = project()
    lines = Path(f"{prefix}-frc-1.xyz").read_text().splitlines(keepends=True)
    fewer = [line.replace("3", "2", 1) if k % 5 == 0 else line for k, line in enumerate(lines) if k % 5 != 4]
    Path(f"{prefix}-frc-1.xyz").write_text("".join(fewer))
    with pytest.raises(DualityError, match=r"has 3 atoms and .* has 2"):
        read_cp2k(prefix)


def test_a_killed_run_is_read_when_asked(project: Project) -> None:
    prefix = project()
    fewer_forces(prefix)
    with pytest.warns(UserWarning, match="left out"):
        assert len(read_cp2k(prefix, allow_incomplete=True)) == 3


def test_no_such_project(project: Project) -> None:
    with pytest.raises(DualityError, match=r"no such CP2K project.*there is w"):
        read_cp2k(project().parent / "nothing")
    with pytest.raises(DualityError, match="does not exist"):
        read_cp2k("nowhere/at/all")


def test_a_cut_dcd_is_refused(tmp_path: Path) -> None:
    for file in ARGON_NEON.glob("tridcd*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    dcd = tmp_path / "tridcd-pos-1.dcd"
    dcd.write_bytes(dcd.read_bytes()[:-40])
    with pytest.raises(DualityError, match="10 complete frames of 6 atoms"):
        read_cp2k(tmp_path)
    dcd.write_bytes(b"nothing of the kind" * 10)
    with pytest.raises(DualityError, match="expected a DCD file"):
        read_cp2k(tmp_path)
