"""The committee: its spread, the uncertainty derived from it, and its storage in the model file."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from openmm_duality.container import read_container, write_container
from openmm_duality.errors import DualityError
from openmm_duality.losses import FORMS, AgentLosses, evaluate_agents
from openmm_duality.losses.coefficients import combine, read_coefficients
from openmm_duality.losses.committee import Committee, variance_of
from openmm_duality.losses.evaluator import LocalEnvironments
from tests.systems import CELL, laws, random_losses, random_positions, random_species

KIND = "openmm_duality losses 4"
SPECIES = random_species(12)


def of(losses, members=4, seed=5, residual=(3.0, 4.0, 5.0), scale=(2.0, 1.0, 0.5), limit=(9.0, 8.0, 7.0)):
    """A committee whose members have random coefficients."""
    rng = np.random.default_rng(seed)

    def drawn(arrays):
        return arrays[0] * rng.normal(1.0, 0.1, size=(members, *arrays[0].shape))

    coefficients = combine(drawn, [losses]).coefficient_fields()
    residual, scale, limit = map(np.array, (residual, scale, limit))
    return Committee(**coefficients, residual=residual, scale=scale, limit=limit, tail=np.zeros_like(limit))


def with_committee(losses, **choices):
    return replace(losses, committee=of(losses, **choices))


def test_the_spread_is_the_variance_over_the_members_averaged_over_components():
    forces = np.zeros((2, 3, 3))
    forces[0, 0], forces[1, 0] = (1.0, 0.0, 0.0), (-1.0, 0.0, 0.0)  # variance 2 in x, 0 in y and z
    forces[:, 1] = 7.0  # members that agree
    forces[0, 2], forces[1, 2] = (2.0, 4.0, 0.0), (0.0, 0.0, 0.0)
    np.testing.assert_allclose(variance_of(forces), [2.0 / 3.0, 0.0, (2.0 + 8.0) / 3.0])


def test_the_spread_of_normal_forces_is_their_variance_and_turns_with_them():
    rng = np.random.default_rng(0)
    forces = rng.normal(scale=3.0, size=(400, 50, 3))
    assert variance_of(forces).mean() == pytest.approx(9.0, rel=0.03)
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    np.testing.assert_allclose(variance_of(forces @ rotation), variance_of(forces), rtol=1e-10)
    assert variance_of(forces.reshape(400, 5, 10, 3)).shape == (5, 10)


def test_the_uncertainty_adds_what_the_members_have_in_common():
    committee = of(random_losses("pair"))
    forces = np.zeros((2, 4, 3))
    forces[0, 1:] = np.sqrt(2.0) * 6.0  # variance 36 of every component
    found = committee.uncertainty(forces, np.array([0, 0, 1, 2]))
    expected = [3.0, np.hypot(3.0, 12.0), np.hypot(4.0, 6.0), np.hypot(5.0, 3.0)]
    np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize(("form", "gradient"), laws(FORMS))
def test_members_are_losses_with_the_coefficients_of_one(form, gradient):
    losses = with_committee(random_losses(form, gradient))
    members = losses.members()
    assert len(members) == losses.committee.size == 4
    positions = random_positions(12, CELL)
    environments = LocalEnvironments.of(losses, positions, SPECIES, CELL)
    for k, member in enumerate(members):
        arrays = {name: array[k] for name, array in losses.committee.coefficient_arrays().items()}
        coefficients = read_coefficients(arrays, losses.form.ranks, len(losses.channels), losses.own is not None)
        alone = replace(random_losses(form, gradient), **coefficients.coefficient_fields())
        expected = evaluate_agents(alone, positions, SPECIES, CELL)
        found = environments.evaluate(member)
        np.testing.assert_array_equal(found.forces, expected.forces)
        np.testing.assert_array_equal(found.losses, expected.losses)
    assert variance_of(np.array([environments.evaluate(member).forces for member in members])).min() > 0.0
    assert random_losses(form, gradient).members() == []


@pytest.mark.parametrize("form", FORMS)
def test_a_loaded_committee_is_the_saved_one(form, tmp_path):
    losses = with_committee(random_losses(form))
    losses.save(tmp_path / "m.safetensors")
    again = AgentLosses.load(tmp_path / "m.safetensors")
    expected = losses.committee.to_arrays()
    assert expected.keys() == again.committee.to_arrays().keys()
    for name, array in again.committee.to_arrays().items():
        np.testing.assert_array_equal(array, expected[name])
    assert sorted(again.committee.weights) == sorted(losses.weights)
    assert again.domain is None
    assert again.equations == {}
    random_losses(form).save(tmp_path / "without.safetensors")
    assert AgentLosses.load(tmp_path / "without.safetensors").committee is None


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("weights_1", None),
        ("residual", None),
        ("residual", lambda a: a[:2]),
        ("limit", lambda a: a[:, None]),
        ("limit", lambda a: 0.0 * a),
        ("couplings", lambda a: a[1:]),
        ("couplings", lambda a: a[:, :, :-1]),
        ("weights_1", lambda a: a[:, :, :, 1:]),
        ("weights_2", lambda a: a[:-1]),
        ("pair_coefficients", lambda a: a[..., :-1]),
        ("pair_coefficients", lambda a: np.nan * a),
        ("every", lambda a: a[:1]),
    ],
)
def test_a_damaged_committee_is_refused_with_the_file_and_what_to_do(name, change, tmp_path):
    path = tmp_path / "model.safetensors"
    with_committee(random_losses("coupled")).save(path)
    arrays, header = read_container(path, KIND)
    members = ("pair_coefficients", "couplings", "weights_0", "weights_1", "weights_2")
    for key in [f"committee/{each}" for each in (members if name == "every" else (name,))]:
        if change is None:
            del arrays[key]
        else:
            arrays[key] = np.ascontiguousarray(change(arrays[key]))
    write_container(path, KIND, arrays, header, overwrite=True)
    with pytest.raises(DualityError, match=r"model\.safetensors.*infer the model again"):
        AgentLosses.load(path)
