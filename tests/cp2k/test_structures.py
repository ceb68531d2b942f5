"""Structures to start CP2K from."""

from __future__ import annotations

from pathlib import Path

import ase.build
import ase.io
import numpy as np
import pytest

from openmm_duality.cp2k.structures import read_structure
from openmm_duality.errors import DualityError
from openmm_duality.geometry.cells import minimum_image, volume
from openmm_duality.reference.molecules import molecules_of
from openmm_duality.reference.summary import shortest_distances
from tests.reference.conftest import EXAMPLES


def test_a_frame_of_data() -> None:
    frame = read_structure({"path": "water64-cnnp", "frame": 3}).frames(EXAMPLES, 1)
    assert len(frame) == 1
    assert frame.n_atoms == 192


def test_files_of_structures(tmp_path: Path) -> None:
    atoms = ase.build.bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    ase.io.write(tmp_path / "salt.pdb", atoms)
    ase.io.write(tmp_path / "salt.xyz", atoms, format="extxyz")
    ase.io.write(tmp_path / "bare.xyz", atoms, format="xyz")
    for content in ("salt.pdb", "salt.xyz", {"path": "bare.xyz", "cell": ["5.64 angstrom"] * 3}):
        frame = read_structure(content).frames(tmp_path, 1)
        assert frame.species == tuple(atoms.symbols)
        assert frame.positions[0] == pytest.approx(0.1 * atoms.positions, abs=1e-4)
        assert frame.cell(0) == pytest.approx(0.564 * np.eye(3), abs=1e-4)
    with pytest.raises(DualityError, match="key cell"):
        read_structure("bare.xyz").frames(tmp_path, 1)
    with pytest.raises(DualityError, match="leave out"):
        read_structure({"path": "salt.pdb", "cell": [1, 1, 1]}).frames(tmp_path, 1)


def test_a_crystal_repeated() -> None:
    content = {"crystal": "rocksalt", "formula": "LiF", "constant": "4.03 angstrom", "copies": [2, 1, 3]}
    frame = read_structure(content).frames(EXAMPLES, 1)
    assert frame.n_atoms == 48
    assert np.diag(frame.cell(0)) == pytest.approx([0.806, 0.403, 1.209])
    assert shortest_distances(frame)["F", "Li"] == pytest.approx(0.2015)


def test_single_atoms_of_any_element() -> None:
    frame = read_structure({"molecules": {"Ar": 2, "Xe": 1, "CO2": 1}, "cell": [1.2, 1.2, 1.2]}).frames(EXAMPLES, 1)
    assert sorted(frame.species) == ["Ar", "Ar", "C", "O", "O", "Xe"]


def test_molecules_in_a_box_keep_apart() -> None:
    frame = read_structure({"molecules": {"CH3OH": 12}, "density": 0.79}).frames(EXAMPLES, 5)
    assert len(molecules_of(frame)) == 12
    grams = frame.masses.sum() / volume(frame.cell(0)) / 602.214076
    assert grams == pytest.approx(0.79)
    again = read_structure({"molecules": {"CH3OH": 12}, "density": 0.79}).frames(EXAMPLES, 5)
    assert (frame.positions == again.positions).all()


def test_a_molecule_of_a_file_in_a_cell(tmp_path: Path) -> None:
    ase.io.write(tmp_path / "methanol.xyz", ase.build.molecule("CH3OH"))
    cell = ["10 angstrom", "11 angstrom", "12 angstrom"]
    frame = read_structure({"molecules": {"methanol.xyz": 1}, "cell": cell}).frames(tmp_path, 1)
    assert np.diag(frame.cell(0)) == pytest.approx([1.0, 1.1, 1.2])
    assert sorted(frame.species) == ["C", "H", "H", "H", "H", "O"]
    (tmp_path / "methanol.xyz").write_text("nothing\n")
    with pytest.raises(DualityError, match=r"methanol\.xyz cannot be read"):
        read_structure({"molecules": {"methanol.xyz": 1}, "cell": cell}).frames(tmp_path, 1)


def test_a_solution_is_mixed() -> None:
    frame = read_structure({"molecules": {"H2O": 24, "Na": 3, "Cl": 3}, "density": 1.1}).frames(EXAMPLES, 5)
    assert frame.species == ("O", "H", "H") * 24 + ("Na",) * 3 + ("Cl",) * 3
    # at random on the lattice, and not in the order of the list
    apart = minimum_image(frame.positions[0, -6:, None] - frame.positions[0, -6:], frame.cell(0))
    assert np.linalg.norm(apart, axis=-1).max() > 0.5 * frame.cell(0)[0, 0]
    assert min(shortest_distances(frame).values()) > 0.09


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({}, "one of path"),
        ({"path": "a.xyz", "crystal": "fcc"}, "path and crystal"),
        ({"crystal": "fcc"}, "formula and constant"),
        ({"crystal": "quasi", "formula": "Ar", "constant": 1}, "fcc"),
        ({"crystal": "fcc", "formula": "Arr", "constant": 1}, "cannot be built"),
        ({"molecules": {"nothing": 1}, "density": 1}, "cannot be built"),
        ({"molecules": {"H2O": 0}, "density": 1}, "at least 1"),
        ({"molecules": {"H2O": 1}}, "needs density or cell"),
        ({"molecules": {"H2O": 1}, "density": 1, "cell": [1, 1, 1]}, "needs density or cell"),
        ({"path": "nothing.xyz"}, "no such file"),
        ({"path": "nothing.pdb"}, "cannot be read"),
        ({"path": "water64-cnnp", "frame": 5000}, "981 frames"),
        ({"edge": 1}, "unknown key edge"),
    ],
)
def test_what_cannot_be_made_is_refused(content: dict, said: str) -> None:
    with pytest.raises(DualityError, match=said):
        read_structure(content).frames(EXAMPLES, 1)
