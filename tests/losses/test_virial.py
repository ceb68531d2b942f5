"""Virials compared with central differences of the energy under strain, for every form and cell."""

from __future__ import annotations

import numpy as np
import pytest

from openmm_duality.errors import DualityError
from openmm_duality.losses import FORMS, evaluate_agents, evaluate_stress
from tests.systems import (
    CELL,
    NARROW,
    RANKED,
    SPECIES,
    TRICLINIC,
    narrow_positions,
    random_losses,
    random_positions,
    random_species,
    strain_derivatives,
)

N = 20
CELLS = {"orthorhombic": CELL, "triclinic": TRICLINIC, **NARROW}


def configuration(name):
    cell = CELLS[name]
    return (narrow_positions(cell), SPECIES[1:]) if name in NARROW else (random_positions(N, cell), random_species(N))


@pytest.mark.parametrize(
    ("form", "cell_name"),
    [*((form, name) for form in FORMS for name in CELLS), *((form, "triclinic") for form in RANKED)],
)
def test_virials_are_derivatives_of_the_energy_by_strain(form, cell_name):
    losses, cell = random_losses(form), CELLS[cell_name]
    positions, species = configuration(cell_name)
    virial = evaluate_agents(losses, positions, species, cell).virial
    numerical = strain_derivatives(lambda q, box: evaluate_agents(losses, q, species, box).energy, positions, cell)
    assert np.abs(virial + numerical).max() < 1e-7 * np.abs(virial).max()
    assert np.abs(virial - virial.T).max() < 1e-12 * np.abs(virial).max()
    stress = evaluate_stress(losses, positions, species, cell)
    np.testing.assert_allclose(stress, numerical / abs(np.linalg.det(cell)), atol=1e-7 * np.abs(stress).max())


def test_atoms_below_the_data_have_the_virial_of_the_core():
    losses = random_losses("moment")
    positions = np.array([[0.0, 0.0, 0.0], [0.05, 0.02, 0.03]])
    virial = evaluate_agents(losses, positions, SPECIES[:2], CELL).virial
    numerical = strain_derivatives(lambda q, box: evaluate_agents(losses, q, SPECIES[:2], box).energy, positions, CELL)
    assert np.abs(virial + numerical).max() < 1e-7 * np.abs(virial).max()
    assert np.trace(virial) > 0.0  # they repel each other


@pytest.mark.parametrize("gradient", ["agent", "mutual"])
def test_losses_without_a_potential_have_no_stress(gradient):
    losses, positions = random_losses("moment", gradient), random_positions(N, CELL)
    assert evaluate_agents(losses, positions, random_species(N), CELL).virial is None
    with pytest.raises(DualityError, match=f"a stress needs a potential energy, and losses with the {gradient}"):
        evaluate_stress(losses, positions, random_species(N), CELL)


def test_an_open_system_has_no_stress():
    with pytest.raises(DualityError, match="needs a periodic cell"):
        evaluate_stress(random_losses(), random_positions(N, CELL), random_species(N), None)
