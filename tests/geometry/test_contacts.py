"""Contacts of elements, against tabulated energies of the screened nuclei."""

from __future__ import annotations

import numpy as np
import pytest

from openmm_duality.geometry.contacts import (
    TOUCHING,
    collapse_distance,
    contacts,
    distance_at,
    screened_forces,
    screened_repulsion,
)
from openmm_duality.units import ELECTRONVOLT


def test_the_nuclei_are_bare_at_short_distances_and_screened_at_long_ones():
    near = 1e-6
    assert screened_repulsion(("O", "H"), near) * near / (8.0 * 138.935458) == pytest.approx(1.0, abs=2e-4)
    # two silicon atoms at 1 Å: 14² · 14.4 eV φ(7.833), where φ = 0.01806
    assert screened_repulsion(("Si", "Si"), 0.1) / ELECTRONVOLT == pytest.approx(50.97, rel=1e-3)


def test_forces_of_nuclei_are_the_slopes_of_their_energy():
    species, chosen = (
        ("O", "H", "Si", "X1"),
        np.array([[0, 1, 1, 1], [1, 0, 0, 1], [1, 0, 0, 1], [1, 1, 1, 0]], dtype=bool),
    )
    positions = np.random.default_rng(0).normal(scale=0.12, size=(4, 3))

    def energy(x):
        pairs = [(i, j) for i in range(3) for j in range(i) if chosen[i, j]]
        return sum(screened_repulsion((species[i], species[j]), np.linalg.norm(x[i] - x[j])) for i, j in pairs)

    forces, h = screened_forces(species, positions, chosen), 1e-6
    for i, axis in np.ndindex(positions.shape):
        step = np.zeros_like(positions)
        step[i, axis] = h
        slope = (energy(positions + step) - energy(positions - step)) / (2.0 * h)
        assert forces[i, axis] == pytest.approx(-slope, rel=1e-6, abs=1e-6 * np.abs(forces).max())
    assert not forces[3].any()  # no element


def test_a_contact_has_its_energy_and_grows_with_the_elements():
    for pair in (("Ar", "H"), ("H", "H"), ("Au", "Cu")):
        assert screened_repulsion(pair, distance_at(pair)) == pytest.approx(TOUCHING, rel=1e-3)
    assert distance_at(("H", "H")) < distance_at(("H", "O")) < distance_at(("O", "O")) < 0.35
    assert distance_at(("H", "X1")) is None


def test_neighbours_in_a_metal_or_a_liquid_have_met():
    for species, shortest in ((("C",), 0.345), (("Cs",), 0.52), (("K",), 0.42), (("Ar",), 0.33), (("Au",), 0.27)):
        assert contacts(np.array([[shortest]]), species)[0, 0] == shortest


def test_contacts_are_the_shortest_distances_unless_these_are_far():
    species = ("Ar", "H", "X1")
    shortest = np.array([[np.nan, 0.45, np.nan], [0.45, 0.13, 0.4], [np.nan, 0.4, 0.2]])
    found = contacts(shortest, species)
    assert found[0, 1] == found[1, 0] == distance_at(("Ar", "H")) < 0.3
    assert found[0, 0] == distance_at(("Ar", "Ar"))
    assert found[1, 1] == 0.13
    assert (found[1, 2], found[2, 2]) == (0.4, 0.2)
    assert np.isnan(found[0, 2])


def test_a_pair_collapses_below_its_shortest_distance_but_not_before_its_nuclei_repel():
    assert collapse_distance(("O", "O"), 0.24) == pytest.approx(0.192)
    assert screened_repulsion(("O", "O"), collapse_distance(("O", "O"), 0.43)) == pytest.approx(ELECTRONVOLT, rel=1e-3)
    assert collapse_distance(("X1", "O"), 0.43) == pytest.approx(0.344)
