"""Molecules found in the data, of the bundled water and of made-up liquids."""

from pathlib import Path

import numpy as np
import pytest

from openmm_duality.geometry.cells import minimum_image
from openmm_duality.geometry.molecules import bonded_pairs, find_molecules, make_whole, molecular_forces
from openmm_duality.reference.cp2k_project import read_cp2k
from openmm_duality.reference.frames import Frames
from openmm_duality.reference.molecules import bond_lengths, molecules_of
from openmm_duality.reference.summary import shortest_distances
from tests.reference.conftest import EXAMPLES


def made(positions: np.ndarray, species: tuple[str, ...], edge: float | None) -> Frames:
    t = len(positions)
    cells = None if edge is None else np.tile(edge * np.eye(3), (t, 1, 1))
    return Frames(species, np.ones(len(species)), positions, np.zeros(t), np.arange(t), cells)


@pytest.mark.parametrize(
    "project", ["water64-cnnp/water64", "water64-distorted/hot600K", "water64-distorted/distorted"]
)
def test_water_is_found_from_its_data(project: str) -> None:
    frames = read_cp2k(EXAMPLES / project)
    lengths = bond_lengths(frames)
    assert set(lengths) == {("H", "O")}
    assert 0.11 < lengths["H", "O"] < 0.15
    molecules = molecules_of(frames, lengths)
    assert len(molecules) == 64
    for atoms in molecules:
        assert sorted(frames.species[i] for i in atoms) == ["H", "H", "O"]


def test_one_frame_of_water_is_enough() -> None:
    frame = read_cp2k(EXAMPLES / "water64-cnnp" / "water64")[:1]
    molecules = find_molecules(frame.positions[0], frame.species, frame.cell(0), bond_lengths(frame))
    assert {len(atoms) for atoms in molecules} == {3}


@pytest.mark.parametrize("species", [("Ar",) * 200, ("Na", "Cl") * 100])
def test_a_liquid_of_atoms_has_no_bonds(species: tuple[str, ...]) -> None:
    # Points thrown at random with an excluded core and nothing else: a liquid without a gap.
    rng, edge, frames = np.random.default_rng(2), 1.9, []
    for _ in range(12):
        points: list[np.ndarray] = []
        while len(points) < len(species):
            new = rng.uniform(0, edge, 3)
            if (
                not points
                or (np.linalg.norm(minimum_image(np.array(points) - new, edge * np.eye(3)), axis=1) > 0.22).all()
            ):
                points.append(new)
        frames.append(points)
    assert bond_lengths(made(np.array(frames), species, edge)) == {}


def test_methane_gas_has_its_bonds_and_no_others() -> None:
    rng, edge = np.random.default_rng(3), 3.0
    tetrahedron = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) * 0.109 / np.sqrt(3)
    centres = np.stack(np.meshgrid(*[np.arange(3)] * 3), axis=-1).reshape(-1, 3) * edge / 3
    one = np.concatenate([[np.zeros(3)], tetrahedron])
    positions = (centres[:, None] + one).reshape(-1, 3) + rng.normal(scale=0.003, size=(20, 135, 3))
    frames = made(positions, ("C", "H", "H", "H", "H") * 27, edge)
    assert set(bond_lengths(frames)) == {("C", "H")}
    assert [list(atoms) for atoms in molecules_of(frames)] == [list(range(5 * m, 5 * m + 5)) for m in range(27)]


def test_molecules_do_not_depend_on_order_or_images() -> None:
    frame = read_cp2k(EXAMPLES / "water64-cnnp" / "water64")[:1]
    rng, cell, x = np.random.default_rng(4), frame.cell(0), frame.positions[0]
    assert cell is not None
    lengths, order = {("H", "O"): 0.127}, rng.permutation(frame.n_atoms)
    moved = (x + rng.integers(-2, 3, size=x.shape) @ cell)[order]
    species = [frame.species[i] for i in order]
    found = {frozenset(order[atoms]) for atoms in find_molecules(moved, species, cell, lengths)}
    assert found == {frozenset(atoms) for atoms in find_molecules(x, frame.species, cell, lengths)}
    bonds = bonded_pairs(moved, species, cell, lengths)
    whole = make_whole(moved, bonds, cell)
    assert np.linalg.norm(whole[bonds[:, 0]] - whole[bonds[:, 1]], axis=1).max() < 0.127
    shifts = (whole - moved) @ np.linalg.inv(cell)
    np.testing.assert_allclose(shifts, np.round(shifts), atol=1e-9)


def test_without_bonds_every_atom_is_alone() -> None:
    assert [list(m) for m in find_molecules(np.zeros((3, 3)), "ABC", None, {})] == [[0], [1], [2]]


def test_net_forces_add_up() -> None:
    rng = np.random.default_rng(5)
    forces = rng.normal(size=(4, 6, 3))
    molecules = [np.array([0, 3]), np.array([1, 2, 5]), np.array([4])]
    net = molecular_forces(forces, molecules)
    np.testing.assert_allclose(net[:, 1], forces[:, 1] + forces[:, 2] + forces[:, 5])
    np.testing.assert_allclose(net.sum(axis=1), forces.sum(axis=1))


@pytest.mark.parametrize("edge", [1.5, None])
def test_shortest_distances_against_all_pairs(edge: float | None) -> None:
    rng = np.random.default_rng(6)
    positions = rng.uniform(0, 1.5, size=(5, 6, 3))
    positions[1:] *= 0.9
    frames = made(positions, ("A", "A", "B", "B", "B", "C"), edge)
    delta = positions[:, :, None] - positions[:, None]
    distances = np.linalg.norm(minimum_image(delta, None if edge is None else edge * np.eye(3)), axis=-1)
    found = shortest_distances(frames)
    for a, b in [("A", "A"), ("A", "B"), ("A", "C"), ("B", "B"), ("B", "C")]:
        some = distances[:, frames.atoms_of(a)][:, :, frames.atoms_of(b)]
        assert found[a, b] == pytest.approx(some[some > 0].min())


def test_the_bundled_data_are_small() -> None:
    assert sum(p.stat().st_size for p in Path(EXAMPLES).rglob("*") if p.is_file()) < 13e6
