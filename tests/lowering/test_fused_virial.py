"""Virials of the fused kernel against the NumPy evaluator."""

from __future__ import annotations

import numpy as np
import pytest

from openmm_duality.errors import DualityError
from openmm_duality.geometry.cells import supercell
from openmm_duality.losses import evaluate_agents
from openmm_duality.lowering.fused.losses import FusedLosses
from tests.systems import (
    CELL,
    NARROW,
    SPECIES,
    TRICLINIC,
    narrow_positions,
    random_losses,
    random_positions,
    random_species,
)

N = 40


@pytest.mark.parametrize(
    ("form", "cell", "tolerances"),
    [
        ("pair", CELL, {"double": 1e-11}),
        ("quadratic", TRICLINIC, {"double": 1e-11}),
        ("coupled", CELL, {"double": 1e-11}),
        ("moment", TRICLINIC, {"double": 1e-11, "single": 2e-5}),
        ("channels", TRICLINIC, {"double": 1e-11, "single": 2e-5}),
    ],
)
def test_virials_are_those_of_the_evaluator(form, cell, tolerances):
    losses, species, positions = random_losses(form), random_species(N), random_positions(N, cell)
    expected = evaluate_agents(losses, positions, species, cell).virial
    for precision, tolerance in tolerances.items():
        virial = FusedLosses(losses, species, precision, threads=2).virial(positions + 0.5, cell)
        assert np.abs(virial - expected).max() < tolerance * np.abs(expected).max()


def test_a_virial_leaves_energies_and_forces_as_they_are():
    losses, species, positions = random_losses("pair"), random_species(N), random_positions(N, CELL)
    fused = FusedLosses(losses, species, threads=2)
    energy, forces = fused(positions, CELL)
    fused.virial(positions + 0.01, CELL)
    again = fused(positions, CELL)
    assert again[0] == energy
    np.testing.assert_array_equal(again[1], forces)


def test_virials_in_narrow_boxes_count_every_image():
    losses = random_losses("moment")
    for cell in NARROW.values():  # images are atoms of their own, in an open box
        positions, species, box = supercell(narrow_positions(cell), SPECIES[:2], cell, (1, 1, 2))
        expected = evaluate_agents(losses, positions, species, box).virial
        virial = FusedLosses(losses, species, "double").virial(positions, box)
        assert np.abs(virial - expected).max() < 1e-11 * np.abs(expected).max()


def test_virials_of_some_particles():
    losses = random_losses("moment")
    positions, chosen = random_positions(N, CELL), np.arange(N)[::-3]
    species = [random_species(N)[k] for k in chosen]
    found = FusedLosses(losses, species, "double", particles=chosen).virial(positions, CELL)
    expected = evaluate_agents(losses, positions[chosen], species, CELL).virial
    assert np.abs(found - expected).max() < 1e-11 * np.abs(expected).max()


def test_losses_without_a_potential_have_no_virial():
    fused = FusedLosses(random_losses("moment", "agent"), random_species(N))
    with pytest.raises(DualityError, match="a virial needs a potential energy"):
        fused.virial(random_positions(N, CELL), CELL)
