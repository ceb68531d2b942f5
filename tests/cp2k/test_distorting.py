"""Distorted frames: each move changes what it says and nothing else, of any molecules."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from openmm_duality.cp2k.distorting import Distortion, distort
from openmm_duality.cp2k.structures import Structure
from openmm_duality.errors import DualityError
from openmm_duality.geometry.cells import minimum_image
from openmm_duality.geometry.molecules import bonded_pairs
from openmm_duality.reference.frames import Frames
from openmm_duality.reference.molecules import bond_lengths, molecules_of
from openmm_duality.schema import build
from tests.reference.conftest import EXAMPLES
from tests.water import liquid


@pytest.fixture(scope="module")
def water() -> Frames:
    return replace(liquid()[0][::30], forces=None)


def changed(frames: Frames, **moves: object) -> tuple[Frames, list[Frames], list[str]]:
    """Distorted frames, and the frames each was made from."""
    entry = build(Distortion, {"frames": 3, **moves}, "distort")
    made, origins = distort(frames, [entry], seed=4)
    return made, [frames[[int(t)]] for t in made.steps], origins


def lengths(frames: Frames, t: int, bonds: np.ndarray) -> np.ndarray:
    a, b = bonds.T
    return np.linalg.norm(minimum_image(frames.positions[t, a] - frames.positions[t, b], frames.cell(t)), axis=1)


def test_displaced_atoms_have_the_size_that_was_asked(water: Frames) -> None:
    made, sources, origins = changed(water, displaced={"size": 0.004})
    assert origins == ["displaced"] * 3
    moved = np.array(
        [minimum_image(made.positions[t] - s.positions[0], s.cell(0)) for t, s in enumerate(sources)]
    ).ravel()
    assert np.std(moved) == pytest.approx(0.004, rel=0.1)
    assert abs(np.mean(moved)) < 0.0005


def test_stretched_bonds_are_scaled_one_per_molecule_and_nothing_else_is(water: Frames) -> None:
    made, sources, _ = changed(water, stretched={"factor": [1.2, 1.5], "molecules": 5, "bond": ["O", "H"]})
    for t, source in enumerate(sources):
        bonds = bonded_pairs(source.positions[0], source.species, source.cell(0), bond_lengths(water))
        ratio = lengths(made, t, bonds) / lengths(source, 0, bonds)
        longer = np.abs(ratio - 1.0) > 1e-6
        assert longer.sum() == 5
        assert ((ratio[longer] >= 1.2) & (ratio[longer] <= 1.5)).all()
        oxygen = [atom for bond in bonds[longer] for atom in bond if source.species[atom] == "O"]
        assert len(set(oxygen)) == 5
        moved = np.linalg.norm(minimum_image(made.positions[t] - source.positions[0], source.cell(0)), axis=1) > 1e-9
        assert moved.sum() == 5
        assert {source.species[i] for i in np.flatnonzero(moved)} == {"H"}  # the smaller side


def test_bent_rotated_and_pushed_molecules_keep_their_bonds(water: Frames) -> None:
    moves = {
        "bent": {"angle": 20, "molecules": 6},
        "rotated": {"molecules": 4, "angle": 60},
        "pushed": {"between": ["O", "O"], "distance": ["2.2 angstrom", "2.4 angstrom"], "pairs": 2},
    }
    for name, keys in moves.items():
        made, sources, _ = changed(water, **{name: keys})
        for t, source in enumerate(sources):
            bonds = bonded_pairs(source.positions[0], source.species, source.cell(0), bond_lengths(water))
            assert lengths(made, t, bonds) == pytest.approx(lengths(source, 0, bonds), abs=1e-9)
            molecules = molecules_of(source)
            step = minimum_image(made.positions[t] - source.positions[0], source.cell(0))
            touched = [atoms for atoms in molecules if np.linalg.norm(step[atoms], axis=1).max() > 1e-9]
            if name == "bent":
                assert len(touched) == 6
                assert all((np.linalg.norm(step[atoms], axis=1) > 1e-9).sum() == 1 for atoms in touched)
            if name == "rotated":
                assert len(touched) == 4
                centres = [source.masses[atoms] @ step[atoms] for atoms in touched]
                assert np.abs(centres).max() < 1e-9
            if name == "pushed":
                assert len(touched) <= 4
                assert all(np.ptp(step[atoms], axis=0).max() < 1e-9 for atoms in touched)
                oxygens = made.atoms_of("O")
                pairs = made.positions[t, oxygens][:, None] - made.positions[t, oxygens]
                apart = np.linalg.norm(minimum_image(pairs, made.cell(t)), axis=-1)[np.triu_indices(64, 1)]
                assert ((apart > 0.2199) & (apart < 0.2401)).sum() >= 2


def test_scaled_cells_move_molecules_without_stretching_them(water: Frames) -> None:
    made, sources, _ = changed(water, scaled={"factor": 0.96})
    for t, source in enumerate(sources):
        bonds = bonded_pairs(source.positions[0], source.species, source.cell(0), bond_lengths(water))
        assert made.cell(t) == pytest.approx(0.96 * source.cell(0))
        assert lengths(made, t, bonds) == pytest.approx(lengths(source, 0, bonds), abs=1e-9)


def test_moves_are_repeatable_and_mixed(water: Frames) -> None:
    recipe = [
        build(Distortion, {"frames": 4, "displaced": {"size": 0.004}}, "distort"),
        build(Distortion, {"frames": 2, "rotated": {"molecules": 2}, "scaled": {"factor": 0.98}}, "distort"),
    ]
    made, origins = distort(water, recipe, seed=1)
    again, _ = distort(water, recipe, seed=1)
    other, _ = distort(water, recipe, seed=2)
    assert (made.positions == again.positions).all()
    assert not (made.positions == other.positions).all()
    assert sorted(origins) == ["displaced"] * 4 + ["rotated+scaled"] * 2
    assert origins != sorted(origins)


def test_larger_molecules_bend_and_stretch_by_their_smaller_side() -> None:
    box = Structure(molecules={"CH3OH": 8}, density=0.4 * 602.214076)
    frame = box.frames(EXAMPLES, 3)
    made, sources, _ = changed(frame, stretched={"factor": [1.1, 1.2], "molecules": 8, "bond": ["C", "O"]})
    step = np.linalg.norm(made.positions - sources[0].positions, axis=2)
    assert ((step > 1e-9).sum(axis=1) == 8 * 2).all()  # O and its H, not the methyl group
    made, sources, _ = changed(frame, bent={"angle": 30, "molecules": 8})
    for atoms in molecules_of(frame):
        assert ((np.linalg.norm(made.positions[:, atoms] - sources[0].positions[:, atoms], axis=2) > 1e-9).any(1)).all()


def test_atoms_without_molecules_are_pushed() -> None:
    crystal = Structure(crystal="fcc", formula="Ar", constant=0.526, copies=(2, 2, 2)).frames(EXAMPLES, 1)
    made, _, _ = changed(crystal, pushed={"between": ["Ar", "Ar"], "distance": [0.30, 0.31], "pairs": 2})
    for t in range(3):
        apart = minimum_image(made.positions[t][:, None] - made.positions[t], made.cell(t))
        close = np.linalg.norm(apart, axis=-1)[np.triu_indices(32, 1)]
        assert ((close > 0.2999) & (close < 0.3101)).sum() >= 2


def test_a_frame_that_leaves_no_room_is_replaced_by_another() -> None:
    crystal = Structure(crystal="fcc", formula="Ar", constant=0.526, copies=(2, 2, 2)).frames(EXAMPLES, 1)
    positions = np.array([crystal.positions[0]] * 3)
    positions[:2, 1] = positions[:2, 0] + [0.3, 0.0, 0.0]
    crowded = crystal[[0, 0, 0]]
    made, _, _ = changed(replace(crowded, positions=positions), displaced={"size": 0.001}, closest=0.35)
    assert (made.steps == 2).all()


@pytest.mark.parametrize(
    ("moves", "said"),
    [
        ({"rotated": {"molecules": 65}}, "65 molecules"),
        ({"stretched": {"factor": [1, 2], "molecules": 1, "bond": ["C", "O"]}}, "has|have 0"),
        ({"pushed": {"between": ["O", "O"], "distance": [0.01, 0.02], "pairs": 1}}, "closest"),
        ({}, "move"),
        ({"stretched": {"factor": [2, 1], "molecules": 1}}, "smaller"),
        ({"turned": {}}, "unknown key turned"),
    ],
)
def test_what_cannot_be_done_is_refused(water: Frames, moves: dict, said: str) -> None:
    with pytest.raises(DualityError, match=said):
        changed(water, **moves)
    with pytest.raises(DualityError, match="no cell"):
        distort(replace(water, cells=None), [build(Distortion, {"frames": 1, "displaced": {"size": 1}}, "d")], 1)
