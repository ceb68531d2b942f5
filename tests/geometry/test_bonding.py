"""Bonds, stretched or not, coordinations, and networks of crystals."""

from __future__ import annotations

import numpy as np
import pytest

from openmm_duality.geometry.bonding import coordinations_of, covalent_limit, longest_bonds
from openmm_duality.geometry.cells import supercell
from openmm_duality.geometry.molecules import bonded_pairs, find_molecules, in_networks
from openmm_duality.geometry.pairs import pairs_within
from tests.systems import NARROW

LENGTHS = {("H", "O"): 0.125}
LONGEST = longest_bonds(LENGTHS)["H", "O"]


def bonds_of(x, species, lengths=LENGTHS):
    """Bonds of atoms on a line."""
    positions = np.outer(x, [1.0, 0.0, 0.0])
    return [tuple(pair) for pair in bonded_pairs(positions, species, None, lengths).tolist()]


def test_atoms_without_bonds_are_bonded_to_the_nearest_within_the_longest():
    assert 0.13 < LONGEST < 0.14
    for at, bonds in (
        (0.10, [(0, 1)]),
        (0.17, [(1, 2)]),
        (0.13, [(0, 1)]),
        (0.999 * LONGEST, [(0, 1)]),
        (-0.999 * LONGEST, [(0, 1)]),
        (-1.001 * LONGEST, []),
    ):
        assert bonds_of([0.0, at, 0.28], ("O", "H", "O")) == bonds


def test_an_atom_between_two_has_a_bond_while_their_orders_make_one():
    """Half a bond to either of two partners is a bond; without the other it is none."""
    half = LONGEST + 0.071 * np.log10(2.0)
    for at, bonds in ((0.999 * half, [(0, 1)]), (1.001 * half, [])):
        assert bonds_of([0.0, at, 2.0 * at + 1e-6], ("O", "H", "O")) == bonds
    assert bonds_of([0.0, 1.001 * LONGEST], ("O", "H")) == []


def test_an_atom_that_has_a_bond_has_no_longer_one():
    assert bonds_of([0.0, 0.10, 0.23, 0.33], ("O", "H", "O", "H")) == [(0, 1), (2, 3)]


def test_the_longest_bonds_are_those_of_covalent_radii_or_as_given():
    assert covalent_limit(("H", "O")) == pytest.approx(1.4 * (0.031 + 0.066))
    assert covalent_limit(("H", "Ow")) is None
    lengths = {("H", "O"): 0.2, ("H", "Ow"): 0.125, ("C", "C"): 0.19}
    assert longest_bonds(lengths) == {("H", "O"): 0.2, ("H", "Ow"): 0.125, ("C", "C"): covalent_limit(("C", "C"))}


def test_what_is_not_stretched_is_bonded_by_one_distance():
    rng = np.random.default_rng(0)
    cell = np.array([[1.0, 0.0, 0.0], [0.3, 0.9, 0.0], [0.1, -0.2, 1.1]])
    positions, species = rng.uniform(size=(60, 3)) @ cell, np.array(["H", "O", "C"] * 20)
    lengths = {("H", "O"): 0.2, ("C", "C"): 0.25}  # beyond covalent radii
    i, j, d = pairs_within(positions, cell, 0.3)
    pair = np.char.add(species[i], species[j])
    near = (np.isin(pair, ["HO", "OH"]) & (d < 0.2)) | ((pair == "CC") & (d < 0.25))
    expected = {(min(pair), max(pair)) for pair in zip(i[near].tolist(), j[near].tolist(), strict=True)}
    found = bonded_pairs(positions, species, cell, lengths)
    assert [tuple(pair) for pair in found.tolist()] == sorted(expected)
    assert len(found) > 5
    assert not len(bonded_pairs(positions, species, cell, {}))


def test_coordinations_are_what_atoms_are_bonded_to():
    bonds = np.array([[0, 1], [1, 2], [3, 4]])
    assert coordinations_of(bonds, ("O", "H", "O", "C", "C", "Na")) == {
        ("O", (("H", 1),)),
        ("H", (("O", 2),)),
        ("C", (("C", 1),)),
        ("Na", ()),
    }
    assert coordinations_of(bonds, ("O", "H", "O", "C", "C", "Na"), [1, 5]) == {("H", (("O", 2),)), ("Na", ())}


@pytest.mark.parametrize("copies", [(1, 1, 1), (2, 1, 3)])
@pytest.mark.parametrize("name", NARROW)
def test_a_crystal_is_a_network_in_any_cell_and_a_molecule_in_it_is_none(name, copies):
    """A diatomic molecule in a cell along whose shortest vector atoms of another kind make a chain."""
    cell = np.linalg.norm(NARROW[name][0]) ** -1 * 0.3 * NARROW[name]
    place = 0.5 * cell[1] + 0.5 * cell[2] + 0.37 * cell[0]
    positions = np.array([[0.0, 0.0, 0.0], place, place + np.array([0.0, 0.0, 0.07])])
    x, species, box = supercell(positions, ("M", "H", "H"), cell, copies)
    x = x + np.random.default_rng(1).integers(-2, 3, size=x.shape) @ box
    lengths = {("M", "M"): 0.31, ("H", "H"): 0.08}
    np.testing.assert_array_equal(in_networks(x, species, box, lengths), np.array(species) == "M")
    assert not in_networks(x, species, None, lengths).any()
    molecules = find_molecules(x, species, box, {("H", "H"): 0.08})
    assert [len(atoms) for atoms in molecules] == [1, 2] * int(np.prod(copies))
