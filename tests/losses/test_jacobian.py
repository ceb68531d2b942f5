"""The Jacobian of the forces compared with central differences."""

from __future__ import annotations

import numpy as np
import pytest

from openmm_duality.losses import FORMS, evaluate_agents
from openmm_duality.losses.evaluator import LocalEnvironments
from openmm_duality.losses.jacobian import jacobian
from tests.systems import (
    CELL,
    NARROW,
    SPECIES,
    TRICLINIC,
    laws,
    narrow_positions,
    random_losses,
    random_positions,
    random_species,
    rms,
)


def numerical(losses, positions, species, cell, step=1e-5):
    """Central differences of the forces, shape (3 N, 3 N)."""
    columns = []
    for k in range(positions.size):
        shift = step * np.eye(positions.size)[k].reshape(positions.shape)
        up, down = (evaluate_agents(losses, positions + sign * shift, species, cell).forces for sign in (1, -1))
        columns.append((up - down).ravel() / (2 * step))
    return np.array(columns).T


@pytest.mark.parametrize(("form", "gradient"), laws(FORMS))
def test_the_jacobian_is_that_of_central_differences(form, gradient):
    losses, species = random_losses(form, gradient), random_species(20)
    for cell in (CELL, TRICLINIC, None):
        positions = random_positions(20, CELL if cell is None else cell)
        found = jacobian(losses, LocalEnvironments.of(losses, positions, species, cell))
        expected = numerical(losses, positions, species, cell)
        assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()
        asymmetry = rms(found - found.T) / rms(found)
        assert asymmetry < 1e-8 if losses.has_potential else asymmetry > 1e-2


@pytest.mark.parametrize("gradient", ["agent", "collective", "mutual"])
def test_images_of_one_atom_are_one_atom(gradient):
    losses, cell = random_losses("moment", gradient), NARROW["skewed"]
    positions = narrow_positions(cell)
    found = jacobian(losses, LocalEnvironments.of(losses, positions, SPECIES[:2], cell))
    expected = numerical(losses, positions, SPECIES[:2], cell)
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()
