"""Stresses of CP2K projects: from the output, from the table, and where they cannot be had."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from openmm_duality.errors import DualityError
from openmm_duality.geometry.cells import minimum_image
from openmm_duality.reference.cp2k_project import read_cp2k
from openmm_duality.reference.cp2k_stress import printed_stresses, stresses_at
from openmm_duality.units import BOLTZMANN, GIGAPASCAL
from tests.reference.conftest import ARGON_NEON

TENSORS = "stress-1.stress_tensor"


def project(folder: Path, *without: str) -> Path:
    """A copy of the project without files of given endings."""
    for path in ARGON_NEON.glob("stress*"):
        if not path.name.endswith(without):
            shutil.copy(path, folder)
    return folder


def test_printed_stresses_are_those_of_the_force_field(tmp_path: Path) -> None:
    frames = read_cp2k(project(tmp_path, ".stress"))
    assert frames.stresses is not None
    sigma = {"ArAr": 0.3405, "ArNe": 0.32, "NeAr": 0.32, "NeNe": 0.30}
    for t in range(len(frames)):
        cell = frames.cell(t)
        assert cell is not None
        i, j = np.triu_indices(frames.n_atoms, 1)
        delta = minimum_image(frames.positions[t][j] - frames.positions[t][i], cell)
        r = np.linalg.norm(delta, axis=1)
        s6 = (np.array([sigma[frames.species[a] + frames.species[b]] for a, b in zip(i, j, strict=True)]) / r) ** 6
        slope = np.where(r < 0.5, -24 * 119.8 * BOLTZMANN * (2 * s6**2 - s6) / r, 0.0)  # dV/dr
        expected = np.einsum("p,px,py->xy", slope / r, delta, delta) / abs(np.linalg.det(cell))  # ∂E/∂ε / V
        np.testing.assert_allclose(frames.stresses[t], expected, atol=1e-2 * np.abs(expected).max())


def test_the_table_without_its_kinetic_part_is_what_was_printed(tmp_path: Path) -> None:
    printed = read_cp2k(project(tmp_path, ".stress"))
    (tmp_path / TENSORS).unlink()
    table = read_cp2k(project(tmp_path, ".stress_tensor"))
    assert printed.stresses is not None
    np.testing.assert_allclose(table.stresses, printed.stresses, atol=1e-5)
    assert [name.split()[0] for name in (printed.source[-1], table.source[-1])] == [TENSORS, "stress-1.stress"]


def test_a_table_without_velocities_is_left_out_with_a_warning(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="kinetic part needs the velocities"):
        frames = read_cp2k(project(tmp_path, ".stress_tensor", "-vel-1.xyz"))
    assert frames.stresses is None


def test_an_output_beside_the_project_is_searched_by_energies(tmp_path: Path) -> None:
    expected = read_cp2k(project(tmp_path, ".stress"))
    lines = (tmp_path / TENSORS).read_text().splitlines(keepends=True)
    (tmp_path / TENSORS).rename(tmp_path / "stress.out")
    found = read_cp2k(tmp_path)
    np.testing.assert_array_equal(found.stresses, expected.stresses)
    # as a restart leaves it: some steps twice, in another order
    (tmp_path / "stress.out").write_text("".join([" MD| Step number 4\n", *lines[6:], *lines]))
    np.testing.assert_array_equal(read_cp2k(tmp_path).stresses, expected.stresses)
    (tmp_path / "stress.out").write_text("".join(lines[:-6]))
    with pytest.warns(UserWarning, match="it has none for 1 of the 6 frames"):
        assert read_cp2k(tmp_path).stresses is None


def test_tensors_without_energies_are_those_of_all_frames_or_of_none(tmp_path: Path) -> None:
    lines = (ARGON_NEON / TENSORS).read_text().splitlines(keepends=True)
    path = tmp_path / "a.stress_tensor"
    path.write_text("".join(line for line in lines if "ENERGY" not in line))
    energies, stresses = printed_stresses(path)
    assert np.isnan(energies).all()
    assert len(stresses) == 6
    found, _ = stresses_at(path, np.zeros(6), 6)
    np.testing.assert_array_equal(found, stresses)
    assert stresses_at(path, np.zeros(5), 5) == (
        None,
        "it has 6 tensors and no energies to find those of the 5 frames by",
    )


def test_units_are_read_and_unknown_ones_refused(tmp_path: Path) -> None:
    text = (ARGON_NEON / TENSORS).read_text()
    expected = printed_stresses(ARGON_NEON / TENSORS)[1]
    path = tmp_path / "a.stress_tensor"
    path.write_text(text.replace("[GPa]", "[kbar]"))
    np.testing.assert_allclose(printed_stresses(path)[1], 0.1 * expected)
    path.write_text(text.replace("[GPa]", "[psi]"))
    with pytest.raises(DualityError, match="stresses are in psi; expected one of gpa"):
        printed_stresses(path)
    assert np.abs(expected).max() < 0.01 * GIGAPASCAL
