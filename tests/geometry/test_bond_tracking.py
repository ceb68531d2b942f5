"""Bonds followed from frame to frame: hysteresis, hops of terminal atoms, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from openmm_duality.geometry.bond_tracking import BondTracker, certain_lengths
from openmm_duality.geometry.molecules import bonded_pairs
from tests.observables.made import water

LENGTHS = {("H", "O"): 0.13}
TERMINAL = {"H"}


def between_two_oxygens(x):
    """O–H···O: the oxygens 0.25 nm apart, a hydrogen x nm from the first, and one more on each."""
    return np.array([[0.0, 0, 0], [x, 0, 0], [0.25, 0, 0], [0.0, 0.1, 0], [0.25, 0.1, 0]])


def partner_of_the_shared(tracker, path, cell=None):
    """The oxygen, 0 or 2, to which atom 1 is bonded along a path of its distance from the first."""
    found = []
    for x in path:
        bonds = tracker.update(between_two_oxygens(x), cell)
        mine = bonds[(bonds == 1).any(axis=1)]
        assert len(mine) == 1
        assert {(0, 3), (2, 4)} <= set(map(tuple, bonds.tolist()))
        found.append(int(mine[0, mine[0] != 1][0]))
    return found


@pytest.mark.parametrize("cell", [None, 0.9 * np.eye(3)], ids=["open", "periodic"])
def test_a_shared_proton_goes_over_only_where_the_other_is_nearer_by_the_margin(cell):
    tracker = BondTracker(("O", "H", "O", "H", "H"), LENGTHS, TERMINAL)
    path = [0.1, 0.12, 0.125, 0.13, 0.134, 0.136, 0.13, 0.12, 0.116, 0.114, 0.1]
    # over at 0.136 (0.114 from the second) and back at 0.114
    assert partner_of_the_shared(tracker, path, cell) == [0, 0, 0, 0, 0, 2, 2, 2, 2, 0, 0]


def test_without_terminal_species_a_shared_proton_has_two_bonds():
    tracker = BondTracker(("O", "H", "O", "H", "H"), LENGTHS, frozenset())
    tracker.update(between_two_oxygens(0.1), None)
    bonds = tracker.update(between_two_oxygens(0.13), None)  # 0.12 from the second, where a bond is made
    assert [0, 1] in bonds.tolist()
    assert [1, 2] in bonds.tolist()
    bonds = tracker.update(between_two_oxygens(0.11), None)
    assert [1, 2] not in bonds.tolist()  # 0.14: beyond the longest


def test_a_bond_is_made_where_it_is_certain_and_broken_beyond_the_longest():
    assert certain_lengths({("H", "O"): 0.1358})["H", "O"] == pytest.approx(0.125 * 0.97, rel=1e-6)
    assert certain_lengths({("H", "O"): 0.11, ("P1", "P2"): 0.3}) == {("H", "O"): 0.11, ("P1", "P2"): 0.3}
    tracker = BondTracker(("C", "C"), {("C", "C"): 0.212}, frozenset())  # radii 0.076: made at 0.19, broken at 0.2128
    lengths = [0.15, 0.2, 0.21, 0.22, 0.2, 0.195, 0.18, 0.2]
    bonded = []
    for length in lengths:
        # a third atom holds neither, so that none is ever left alone
        bonded.append(len(tracker.update(np.array([[0.0, 0, 0], [length, 0, 0]]), None)))
    # alone, an atom takes the nearest up to the longest bond, so only the broken one differs
    assert bonded == [1, 1, 1, 0, 1, 1, 1, 1]


def test_bonds_of_water_are_those_of_one_frame_wrapped_or_not_and_in_any_order():
    frames = water(3, seed=1)
    tracker = BondTracker(frames.species, LENGTHS, TERMINAL)
    order = np.random.default_rng(0).permutation(frames.n_atoms)
    other = BondTracker([frames.species[i] for i in order], LENGTHS, TERMINAL)
    for t in range(3):
        known = bonded_pairs(frames.positions[t], frames.species, frames.cell(t), LENGTHS)
        moved = frames.positions[t] + np.random.default_rng(t).integers(-2, 3, (frames.n_atoms, 3)) @ frames.cell(t)
        np.testing.assert_array_equal(tracker.update(moved, frames.cell(t)), known)
        found = np.sort(order[other.update(frames.positions[t][order], frames.cell(t))], axis=1)
        np.testing.assert_array_equal(np.unique(found, axis=0), known)


def test_nothing_is_bonded_without_lengths():
    tracker = BondTracker(("Ar", "Ar"), {}, frozenset())
    assert tracker.update(np.array([[0.0, 0, 0], [0.1, 0, 0]]), None).shape == (0, 2)
