"""Molecules found in the data, of the bundled water and of made-up liquids."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule as ase_molecule

from openmm_duality.geometry.cells import minimum_image, supercell
from openmm_duality.geometry.molecules import bonded_pairs, find_molecules, make_whole, molecular_forces
from openmm_duality.reference.cp2k_project import read_cp2k
from openmm_duality.reference.frames import Frames
from openmm_duality.reference.molecules import bond_lengths, known_coordinations, molecules_of
from openmm_duality.reference.summary import shortest_distances, summarise
from tests.reference.conftest import EXAMPLES
from tests.water import liquid


def made(positions: np.ndarray, species: tuple[str, ...], edge: float | None) -> Frames:
    t = len(positions)
    cells = None if edge is None else np.tile(edge * np.eye(3), (t, 1, 1))
    return Frames(species, np.ones(len(species)), positions, np.zeros(t), np.arange(t), cells)


@pytest.mark.parametrize(
    "project", ["water64-cnnp/water64", "water64-distorted/hot600K", "water64-distorted/distorted"]
)
def test_water_is_found_from_its_data(project: str) -> None:
    frames = read_cp2k(EXAMPLES / project)
    frames = frames[:: 1 + len(frames) // 100]
    lengths = bond_lengths(frames)
    assert set(lengths) == {("H", "O")}
    assert 0.11 < lengths["H", "O"] < 0.15
    molecules = molecules_of(frames, lengths)
    assert len(molecules) == 64
    for atoms in molecules:
        assert sorted(frames.species[i] for i in atoms) == ["H", "H", "O"]


def test_one_frame_of_water_is_enough() -> None:
    frame = liquid()[0][:1]
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


# a chain O–C–C–C–O, like an enolate, whose oxygens share a proton
CHAIN = np.array([[-0.124, 0.0, 0.0], [-0.124, 0.13, 0.0], [0.0, 0.2, 0.0], [0.124, 0.13, 0.0], [0.124, 0.0, 0.0]])
ENOL = ("O", "C", "C", "C", "O", "H")


def shared_protons(n_frames: int, edge: float | None, seed: int = 0) -> Frames:
    """The proton near one of the oxygens, near the other, or between them, as often; frames are no trajectory."""
    rng = np.random.default_rng(seed)
    proton = np.stack([rng.choice([-0.03, -0.02, 0.0, 0.02, 0.03], n_frames), np.zeros(n_frames)], axis=1)
    proton = np.pad(proton + rng.normal(scale=0.002, size=proton.shape), [(0, 0), (0, 1)])
    positions = np.concatenate([np.broadcast_to(CHAIN, (n_frames, 5, 3)), proton[:, None]], axis=1)
    positions = positions + rng.normal(scale=0.003, size=positions.shape)
    if edge is not None:
        positions = positions + edge * rng.integers(-1, 2, size=positions.shape)
    return made(positions, ENOL, edge)


@pytest.mark.parametrize("edge", [None, 1.0])
def test_a_shared_proton_is_part_of_its_molecule(edge: float | None) -> None:
    frames = shared_protons(60, edge)
    lengths = bond_lengths(frames)
    assert set(lengths) >= {("H", "O"), ("C", "O"), ("C", "C")}
    assert [list(atoms) for atoms in molecules_of(frames, lengths)] == [list(range(6))]
    known = known_coordinations([frames], lengths)
    assert {around for name, around in known if name == "O"} >= {(("C", 1),), (("C", 1), ("H", 1))}
    assert ("H", ()) not in known


def test_what_a_few_frames_show_is_not_usual() -> None:
    """One frame of thirty in which the proton has gone; a set in which it always has is another matter."""
    frames, lengths = shared_protons(30, None), {("H", "O"): 0.125}
    positions = frames.positions.copy()
    positions[7, 5] += 1.0
    gone = replace(frames, positions=frames.positions + np.array([0.0] * 5 + [1.0])[:, None])
    once, usual = (known_coordinations([one], lengths) for one in (replace(frames, positions=positions), frames))
    assert once == usual
    assert ("H", ()) not in usual
    assert ("H", ()) in known_coordinations([frames, gone], lengths)
    dynamics = replace(frames, times=np.arange(30.0))
    assert known_coordinations([gone, dynamics], lengths) == usual


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_a_bond_that_dissociates_in_some_frames_is_a_bond(share: float) -> None:
    """O–H of methanol is stretched to between 0.1 and 0.4 nm in a share of the frames."""
    rng, molecule = np.random.default_rng(0), ase_molecule("CH3OH")
    species = tuple(molecule.get_chemical_symbols())
    x = 0.1 * molecule.positions + rng.normal(scale=0.003, size=(100, 6, 3))
    oxygen = species.index("O")
    hydrogens = [i for i in range(6) if species[i] == "H"]
    hydrogen = min(hydrogens, key=lambda i: molecule.get_distance(i, oxygen))
    bond = x[:, hydrogen] - x[:, oxygen]
    length = rng.uniform(0.1, 0.4, 100)
    stretched = x[:, oxygen] + bond / np.linalg.norm(bond, axis=1)[:, None] * length[:, None]
    broken = np.arange(100) < 100 * share
    x[broken, hydrogen] = stretched[broken]
    frames = made(x[rng.permutation(100)], species, None)
    lengths = bond_lengths(frames)
    assert set(lengths) == {("C", "H"), ("C", "O"), ("H", "O")}
    assert [len(atoms) for atoms in molecules_of(frames, lengths)] == [6]
    assert ("O", (("C", 1), ("H", 1))) in known_coordinations([frames], lengths)


def test_molecules_that_exchange_atoms_are_those_of_one_instant() -> None:
    """A proton that is at each of three places as often belongs to the one where the chosen frame has it."""
    positions = np.zeros((9, 4, 3))
    positions[:, :3, 0] = np.arange(3)
    positions[:, 3, 0] = np.arange(9) % 3 + 0.1
    sizes = [len(atoms) for atoms in molecules_of(made(positions, ("O", "O", "O", "H"), None), {("H", "O"): 0.125})]
    assert sorted(sizes) == [1, 1, 2]


def test_ions_in_a_solution_are_alone() -> None:
    """Waters around each ion, closer than their number changes; a pair of ions in contact."""
    rng, edge, frames = np.random.default_rng(8), 2.4, []
    species = ("Na", "Cl") + ("O", "H", "H") * 40
    water = np.array([[0.0, 0.0, 0.0], [0.096, 0.0, 0.0], [-0.024, 0.093, 0.0]])
    sites = np.stack(np.meshgrid(*[np.arange(6)] * 3), axis=-1).reshape(-1, 3) * edge / 6
    chosen = rng.permutation(np.flatnonzero(sites.any(axis=1)))[:40]
    for _ in range(12):
        waters = [sites[k] + 0.6 * rng.normal(scale=0.01, size=3) + water for k in chosen]
        ions = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 0.26]]) + rng.normal(scale=0.004, size=(2, 3))
        frames.append(np.concatenate([ions, *waters]))
    data = made(np.array(frames), species, edge)
    assert set(bond_lengths(data)) == {("H", "O")}
    assert sorted(len(atoms) for atoms in molecules_of(data)) == [1, 1] + [3] * 40
    assert summarise(data).molecules == {"H2O": 40, "Na": 1, "Cl": 1}


FCC, BCC = np.ones((3, 3)) - np.eye(3), np.ones((3, 3)) - 2.0 * np.eye(3)


@pytest.mark.parametrize("copies", [(1, 1, 1), (3, 3, 3)])
@pytest.mark.parametrize(
    ("species", "cell"),
    [(("Mo",), 0.157 * BCC), (("Na", "Cl"), 0.282 * FCC), (("Si", "Si"), 0.272 * FCC), (("Au",), 0.204 * FCC)],
)
def test_a_crystal_has_no_molecules(species: tuple[str, ...], cell: np.ndarray, copies: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(0)
    basis = np.array([[0.0] * 3, [0.25 if "Si" in species else 0.5] * 3])[: len(species)]
    x, names, box = supercell(basis @ cell, species, cell, copies)
    frames = made(x + rng.normal(scale=0.004, size=(5, *x.shape)), names, None)
    frames = replace(frames, cells=np.tile(box, (5, 1, 1)))
    assert bond_lengths(frames) == {}
    assert summarise(frames).molecules == {}
    assert "none" in str(summarise(frames))


def test_few_atoms_of_another_metal_in_an_alloy_are_not_bonded() -> None:
    rng = np.random.default_rng(3)
    basis = np.array([[0.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.5, 0.0, 0.5], [0.0, 0.5, 0.5]])
    x, names, box = supercell(0.37 * basis, ("Au", "Au", "Cu", "Cu"), 0.37 * np.eye(3), (1, 1, 1))
    x, _, box = supercell(x, names, box, (2, 2, 2))
    species = ("Au", "Au") + ("Cu",) * (len(x) - 2)
    frames = made(x + rng.normal(scale=0.006, size=(25, *x.shape)), species, None)
    assert bond_lengths(replace(frames, cells=np.tile(box, (25, 1, 1)))) == {}


@pytest.mark.parametrize(("element", "length"), [("Ge", 0.24), ("Sn", 0.28), ("Hg", 0.25)])
def test_heavy_elements_have_bonds_with_themselves(element: str, length: float) -> None:
    rng, edge = np.random.default_rng(4), 2.0
    sites = np.stack(np.meshgrid(*[np.arange(2)] * 3), axis=-1).reshape(-1, 3) * edge / 2
    x = np.stack([sites, sites + np.array([length, 0.0, 0.0])], axis=1).reshape(-1, 3)
    frames = made(x + rng.normal(scale=0.004, size=(25, *x.shape)), (element,) * len(x), edge)
    assert [len(atoms) for atoms in molecules_of(frames)] == [2] * 8


def test_molecules_do_not_depend_on_order_or_images() -> None:
    frame = liquid()[0][:1]
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
