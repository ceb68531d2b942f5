"""Forces compared with central differences, invariances and conservation laws, for every form and gradient."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from openmm_duality.errors import DualityError
from openmm_duality.geometry.cells import supercell
from openmm_duality.losses import FORMS, evaluate_agents
from openmm_duality.losses.evaluator import LocalEnvironments, polynomials
from tests.systems import (
    CELL,
    NARROW,
    RANKED,
    TRICLINIC,
    descended,
    laws,
    narrow_positions,
    random_losses,
    random_positions,
    random_species,
    with_gradient,
)

N = 24
SPECIES = random_species(N)
CELLS = {"orthorhombic": CELL, "triclinic": TRICLINIC, "open": None}


def configuration(cell_name):
    cell = CELLS[cell_name]
    return random_positions(N, CELL if cell is None else cell), cell


def rms(array):
    return np.sqrt(np.mean(np.square(array)))


@pytest.mark.parametrize(
    ("form", "gradient", "cell_name"),
    [
        *((form, gradient, cell) for form, gradient in laws(FORMS) for cell in CELLS),
        *((form, gradient, "triclinic") for form, gradient in laws(RANKED)),
    ],
)
def test_forces_are_central_differences(form, gradient, cell_name):
    losses = random_losses(form, gradient)
    positions, cell = configuration(cell_name)
    forces = evaluate_agents(losses, positions, SPECIES, cell).forces
    step, directions = 1e-5, np.random.default_rng(0).normal(size=(N, 3))
    numerical = np.empty(N)
    for i, direction in enumerate(directions):
        moved = np.array([positions, positions])
        moved[:, i] += np.outer((step, -step), direction)
        plus, minus = (descended(losses, one, SPECIES, cell)[i] for one in moved)
        numerical[i] = -(plus - minus) / (2 * step)
    assert np.abs(np.sum(forces * directions, axis=1) - numerical).max() < 1e-6 * rms(forces)


@pytest.mark.parametrize("form", [*FORMS, *RANKED])
def test_summed_gradients_are_the_sums_of_those_of_pairs(form):
    losses = random_losses(form)
    environments = LocalEnvironments.of(losses, random_positions(N, CELL), SPECIES, CELL)
    _, adjoints = polynomials([losses, losses], environments.species_index, environments.moments)
    for b in range(len(losses.species)):
        _, gradient, sums = environments.gradients([losses, losses], adjoints, b)
        np.testing.assert_allclose(sums, 2.0 * gradient.sum(axis=1), atol=1e-11 * rms(gradient) * N)


@pytest.mark.parametrize(("form", "gradient"), laws([*FORMS, *RANKED]))
class TestInvariance:
    def check(self, form, gradient, moved, cell, species=SPECIES, rotation=None, order=None, original_cell=CELL):
        losses = random_losses(form, gradient)
        before = evaluate_agents(losses, random_positions(N, CELL), SPECIES, original_cell)
        after = evaluate_agents(losses, moved, species, cell)
        order = np.arange(N) if order is None else order
        expected = before.forces if rotation is None else before.forces @ rotation.T
        assert np.abs(after.losses - before.losses[order]).max() < 1e-10 * rms(before.losses)
        assert np.abs(after.forces - expected[order]).max() < 1e-9 * rms(before.forces)

    def test_translation(self, form, gradient):
        self.check(form, gradient, random_positions(N, CELL) + np.array([0.3, -2.0, 0.7]), CELL)

    def test_lattice_shifts_of_single_atoms(self, form, gradient):
        shifts = np.random.default_rng(1).integers(-2, 3, size=(N, 3))
        self.check(form, gradient, random_positions(N, CELL) + shifts @ CELL, CELL)

    def test_rotation(self, form, gradient):
        rotation = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))[0]
        self.check(form, gradient, random_positions(N, CELL) @ rotation.T, CELL @ rotation.T, rotation=rotation)

    def test_permutation(self, form, gradient):
        order = np.random.default_rng(3).permutation(N)
        moved = random_positions(N, CELL)[order]
        self.check(form, gradient, moved, CELL, species=[SPECIES[i] for i in order], order=order)


@pytest.mark.parametrize("form", [*FORMS, *RANKED])
def test_collective_conserves_momentum_and_angular_momentum(form):
    losses = random_losses(form, "collective")
    positions = random_positions(N, CELL)
    periodic = evaluate_agents(losses, positions, SPECIES, CELL).forces
    assert np.abs(periodic.sum(axis=0)).max() < 1e-11 * np.abs(periodic).sum()
    forces_in_vacuum = evaluate_agents(losses, positions, SPECIES).forces
    assert np.abs(np.cross(positions, forces_in_vacuum).sum(axis=0)).max() < 1e-11 * np.abs(forces_in_vacuum).sum()


def test_agent_gradient_of_a_many_body_loss_does_not_conserve_momentum():
    forces = evaluate_agents(random_losses("quadratic", "agent"), random_positions(N, CELL), SPECIES, CELL).forces
    assert np.abs(forces.sum(axis=0)).max() > 0.1 * rms(forces)


def test_pair_losses_with_symmetric_coefficients_have_half_the_collective_force_under_agent():
    positions = random_positions(N, CELL)
    agent, collective = (
        evaluate_agents(random_losses("pair", gradient), positions, SPECIES, CELL).forces
        for gradient in ("agent", "collective")
    )
    symmetric = random_losses("pair", "collective")
    own = evaluate_agents(with_gradient(symmetric, "agent"), positions, SPECIES, CELL).forces
    assert np.allclose(2.0 * own, collective, rtol=0, atol=1e-12 * rms(collective))
    assert not np.allclose(2.0 * agent, collective)


@pytest.mark.parametrize("form", FORMS)
def test_forces_and_losses_are_continuous_through_the_cutoff_and_those_of_lone_agents_beyond(form):
    losses = random_losses(form)
    species = ("Ar", "Kr")
    r = losses.cutoff + np.array([-1e-6, 0.0, 1e-6, 0.1])
    results = [evaluate_agents(losses, np.array([[0, 0, 0], [x, 0, 0]]), species) for x in r]
    alone = [evaluate_agents(losses, np.zeros((1, 3)), (name,)).energy for name in species]
    assert FORMS[form].channels or alone == [0.0, 0.0]
    assert np.abs(results[0].forces).max() < 1e-4
    assert results[0].energy == pytest.approx(sum(alone), abs=1e-8)
    for beyond in results[1:]:
        assert np.abs(beyond.forces).max() == 0.0
        assert beyond.losses.tolist() == alone


def test_a_lone_agent_has_no_force():
    result = evaluate_agents(random_losses(), np.zeros((1, 3)), ("Xe",))
    assert result.energy == 0.0
    assert (result.forces == 0.0).all()


def test_unknown_species_and_cells_without_volume_are_refused():
    with pytest.raises(DualityError, match="Ne"):
        evaluate_agents(random_losses(), np.zeros((1, 3)), ("Ne",))
    with pytest.raises(DualityError, match="span a volume"):
        evaluate_agents(random_losses(), random_positions(N, CELL), SPECIES, np.ones((3, 3)))


@pytest.mark.parametrize("cell", NARROW.values(), ids=NARROW)
@pytest.mark.parametrize("form", [*FORMS, *RANKED])
class TestNarrowCells:
    """Cells narrower than the cutoff, in which an atom meets many images of the others and of itself."""

    def test_forces_are_central_differences(self, form, cell):
        losses = random_losses(form)
        positions, species = narrow_positions(cell), SPECIES[:2]
        forces = evaluate_agents(losses, positions, species, cell).forces
        step, numerical = 1e-5, np.empty((2, 3))
        for i, x in np.ndindex(2, 3):
            moved = np.array([positions, positions])
            moved[:, i, x] += (step, -step)
            plus, minus = (evaluate_agents(losses, one, species, cell).energy for one in moved)
            numerical[i, x] = -(plus - minus) / (2 * step)
        assert np.abs(forces - numerical).max() < 1e-6 * rms(forces)

    def test_a_supercell_has_the_same_forces_and_losses(self, form, cell):
        for _, gradient in laws([form]):
            losses = random_losses(form, gradient)
            positions, species = narrow_positions(cell), SPECIES[:2]
            small = evaluate_agents(losses, positions, species, cell)
            large = evaluate_agents(losses, *supercell(positions, species, cell, (3, 3, 3)))
            np.testing.assert_allclose(large.losses, np.tile(small.losses, 27), rtol=1e-10)
            assert np.abs(large.forces - np.tile(small.forces, (27, 1))).max() < 1e-10 * rms(small.forces)

    def test_an_atom_among_its_own_images_has_no_force(self, form, cell):
        losses = random_losses(form)
        found = evaluate_agents(losses, np.full((1, 3), 0.1), SPECIES[:1], cell)
        assert found.losses[0] != 0.0
        assert np.abs(found.forces).max() < 1e-9 * np.abs(found.losses[0])


@pytest.mark.parametrize("form", [form for form, gradient in laws([*FORMS, *RANKED]) if gradient == "mutual"])
def test_mutual_losses_without_an_own_part_are_collective(form):
    losses, positions = random_losses(form, "collective"), random_positions(N, CELL)
    mutual = with_gradient(losses, "mutual")
    found, expected = (evaluate_agents(one, positions, SPECIES, CELL) for one in (mutual, losses))
    np.testing.assert_array_equal(found.losses, expected.losses)
    np.testing.assert_allclose(found.forces, expected.forces, rtol=0, atol=1e-12 * rms(expected.forces))


def test_mutual_forces_are_those_of_the_shared_and_of_the_own_part():
    losses, positions = random_losses("coupled", "mutual"), random_positions(N, CELL)
    shared = replace(losses, gradient="collective", own=None)
    own = replace(shared, gradient="agent", **losses.own.coefficient_fields(), core_strength=np.zeros((3, 3)))
    parts = [evaluate_agents(part, positions, SPECIES, CELL).forces for part in (shared, own)]
    forces = evaluate_agents(losses, positions, SPECIES, CELL).forces
    np.testing.assert_allclose(forces, sum(parts), rtol=0, atol=1e-12 * rms(forces))
