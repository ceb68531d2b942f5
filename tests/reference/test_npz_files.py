"""Arrays of NumPy, named as MD17, revised MD17 and sGDML name them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openmm_duality.errors import DualityError
from openmm_duality.reference import DataKeys, Frames, read
from openmm_duality.units import ANGSTROM, ELECTRONVOLT, KILOCALORIE

RNG = np.random.default_rng(0)
MOVED = RNG.normal(scale=0.02, size=(30, 3, 3))
MOVED -= MOVED.mean(axis=1, keepdims=True)
POSITIONS = np.array([[0.0, 0.0, 0.1], [0.0, 0.8, -0.5], [0.0, -0.8, -0.5]]) + MOVED
FORCES = -150.0 * MOVED  # a plausible bond in kcal/mol/Å², too stiff a one in eV/Å²
ENERGIES = 75.0 * np.sum(MOVED**2, axis=(1, 2)) - 47000.0
Z = np.array([8, 1, 1])
NAMES: dict[str, dict[str, Any]] = {
    "MD17": {"R": POSITIONS, "F": FORCES, "E": ENERGIES[:, None], "z": Z, "theory": np.array(b"DFT")},
    "revised MD17": {
        "coords": POSITIONS,
        "forces": FORCES,
        "energies": ENERGIES,
        "nuclear_charges": Z.astype(np.uint8),
        "old_energies": ENERGIES + 1.0,
        "old_forces": FORCES,
    },
    "sGDML": {"R": POSITIONS, "F": FORCES, "E": ENERGIES, "z": Z, "e_unit": "kcal/mol", "r_unit": "Ang", "type": "d"},
}


def written(path: Path, arrays: dict[str, Any]) -> Path:
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("names", NAMES)
def test_the_names_of_others_are_known(tmp_path: Path, names: str) -> None:
    path = written(tmp_path / "a.npz", NAMES[names])
    with pytest.warns(UserWarning, match="forces from '(F|forces)', energy from '(E|energies)', in kcal/mol") as said:
        frames = read(path, keys=DataKeys(units="kcal/mol"))
    assert ("old_energies, old_forces" in str(said[0].message)) == (names == "revised MD17")
    assert len(said) == 1
    assert isinstance(frames, Frames)
    assert frames.forces is not None
    assert frames.species == ("O", "H", "H")
    assert frames.masses[0] == pytest.approx(16.0, abs=0.01)
    assert frames.steps.tolist() == list(range(30))
    np.testing.assert_allclose(frames.positions, POSITIONS * ANGSTROM)
    np.testing.assert_allclose(frames.forces, FORCES * KILOCALORIE / ANGSTROM)
    np.testing.assert_allclose(frames.energies, ENERGIES * KILOCALORIE)
    with pytest.warns(UserWarning, match="forces from"):
        assert not read(path, forces=False, keys=DataKeys(units="kcal/mol")).has_forces


def test_units_have_to_be_named_by_the_user_or_the_file(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="forces and energy are left out, since nothing names .* are kcal/mol"):
        frames = read(written(tmp_path / "a.npz", NAMES["MD17"]))
    assert not frames.has_forces
    with pytest.warns(UserWarning, match="a.npz") as said:
        frames = read(tmp_path / "a.npz", keys=DataKeys(units="eV"))
    assert "in eV" in str(said[0].message)
    assert "stiffer than the strongest bond" in str(said[1].message)
    np.testing.assert_allclose(frames.energies, ENERGIES * ELECTRONVOLT)
    with pytest.warns(UserWarning, match="in kcal/mol"):
        frames = read(written(tmp_path / "b.npz", NAMES["sGDML"]))
    np.testing.assert_allclose(frames.energies, ENERGIES * KILOCALORIE)


def test_keys_choose_other_arrays_and_a_lattice_has_columns(tmp_path: Path) -> None:
    lattice = np.array([[9.0, 1.0, 0.0], [0.0, 8.0, 0.0], [0.0, 0.0, 7.0]])
    path = written(tmp_path / "a.npz", NAMES["revised MD17"] | {"lattice": lattice})
    with pytest.warns(UserWarning, match="energy from 'old_energies'"):
        frames = read(path, keys=DataKeys(forces="old_forces", energy="old_energies", units="kcal/mol"))
    np.testing.assert_allclose(frames.energies, (ENERGIES + 1.0) * KILOCALORIE)
    assert frames.cells is not None
    np.testing.assert_allclose(frames.cells[3], lattice.T * ANGSTROM)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"R": None}, "no array R or coords or positions of the positions"),
        ({"z": None}, "no array z or nuclear_charges or numbers of the numbers"),
        ({"z": Z + 200}, "atomic numbers of one molecule"),
        ({"z": np.array([])}, "atomic numbers of one molecule"),
        ({"F": FORCES[:7]}, "shape .30, 3, 3. as forces, got .7, 3, 3."),
        ({"R": POSITIONS[..., 0]}, "as positions"),
        ({"E": np.array(["a"] * 30)}, "as energy"),
        ({"F": np.array([{}])}, "cannot be read as a file of NumPy"),
        ({"e_unit": "Ry"}, "energies are in 'Ry'"),
        ({"r_unit": "bohr"}, "lengths are in 'bohr'"),
        ({"F": None, "f": FORCES}, None),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, changes: dict[str, Any], message: str | None) -> None:
    arrays = {name: array for name, array in (NAMES["sGDML"] | changes).items() if array is not None}
    path = written(tmp_path / "a.npz", arrays)
    if message is None:
        with pytest.warns(UserWarning, match="a.npz: energy from 'E', in kcal/mol; not used: f"):
            assert not read(path).has_forces
        with pytest.raises(DualityError, match="no array force of the forces"):
            read(path, keys=DataKeys(forces="force"))
    else:
        with pytest.raises(DualityError, match=message):
            read(path)


def test_no_file_and_no_archive(tmp_path: Path) -> None:
    with pytest.raises(DualityError, match="there is no such file"):
        read(tmp_path / "a.npz")
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 and noise")
    with pytest.raises(DualityError, match="cannot be read as a file of NumPy"):
        read(tmp_path / "a.npz")
    np.savez_compressed(tmp_path / "b.npz", R=np.zeros((4_000_000, 3, 3)), z=Z)
    with pytest.raises(DualityError, match="expands to more than"):
        read(tmp_path / "b.npz")
    with pytest.raises(DualityError, match="holds no stresses"):
        read(written(tmp_path / "c.npz", NAMES["MD17"]), keys=DataKeys(stress="stress"))
