"""The domain: configurations inside and outside, and its storage in the model file."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from openmm_duality.container import read_container, write_container
from openmm_duality.errors import DualityError
from openmm_duality.losses import AgentLosses
from openmm_duality.losses.domain import REFERENCE_SHARE, Domain, KnownEnvironments, mean_losses
from tests.systems import random_losses

KIND = "openmm_duality losses 4"
SPECIES_INDEX = np.array([0, 0, 1, 1, 1])
INTERVALS = 8


def domain(components=2):
    """A domain of two species: φ near (1, 2, 3), with widths 0.1 and 0.5 of the first two; losses near −5 and −1."""
    whitening = np.zeros((3, components))
    whitening[0, 0] = 1.0 / 0.1
    whitening[1, 1] = 1.0 / 0.5
    known = KnownEnvironments(np.array([1.0, 2.0, 3.0]), whitening, 4.0)
    seen = np.ones((2, 2, INTERVALS))
    seen[..., :2] = 0.0
    seen[0, 1, 5] = seen[1, 0, 5] = 0.0
    return Domain(seen, (known, known), np.array([[-5.0, 0.5], [-1.0, 0.1], [-2.6, 0.2]]), 3.0, agents=5.0)


def known_configuration():
    """Invariants φ, occupied intervals and losses within the training distribution."""
    present = np.zeros((2, 2, INTERVALS), dtype=bool)
    present[..., 3:5] = True
    return np.tile([1.0, 2.0, 3.0], (5, 1)), present, np.array([-5.0, -5.0, -1.0, -1.0, -1.0])


def test_a_known_configuration_is_inside():
    phi, present, losses = known_configuration()
    found = domain().distances([phi], present, losses, SPECIES_INDEX)
    assert not found.unseen.any()
    np.testing.assert_allclose(found.environments, 0.0)
    np.testing.assert_allclose(found.losses, 0.0, atol=1e-12)
    assert found.losses.shape == (3,)


def test_unobserved_distances_are_located():
    phi, present, losses = known_configuration()
    present[0, 1, 5] = present[1, 0, 5] = True
    present[1, 1, 5] = True  # observed for this pair
    found = domain().distances([phi], present, losses, SPECIES_INDEX)
    assert np.argwhere(found.unseen).tolist() == [[0, 1, 5], [1, 0, 5]]


def test_the_distance_of_an_environment_is_its_largest_component():
    phi, present, losses = known_configuration()
    phi[1, 0] += 0.1 * 4.0 * 1.5  # 1.5 times the limit
    phi[2, 1] -= 0.5 * 4.0 * 0.9  # within it
    phi[3, 2] += 1e6  # a component without a width is ignored
    found = domain().distances([phi], present, losses, SPECIES_INDEX)
    np.testing.assert_allclose(found.environments, [0.0, 1.5, 0.9, 0.0, 0.0], atol=1e-12)


def test_descriptors_may_come_a_few_agents_at_a_time():
    phi, present, losses = known_configuration()
    phi = phi + 0.1 * np.random.default_rng(0).normal(size=phi.shape)
    whole = domain().distances([phi], present, losses, SPECIES_INDEX)
    parts = domain().distances((phi[k : k + 2] for k in (0, 2, 4)), present, losses, SPECIES_INDEX)
    np.testing.assert_array_equal(parts.environments, whole.environments)


def test_limits_of_agents_are_wider_where_a_smaller_share_may_exceed_them():
    phi, present, losses = known_configuration()
    phi[1, 0] += 0.1 * 5.0
    one = replace(domain(), environments=tuple(replace(known, tail=0.5) for known in domain().environments))
    for share, limit in ((REFERENCE_SHARE, 4.0), (REFERENCE_SHARE / np.e**4, 6.0)):
        found = one.distances([phi], present, losses, SPECIES_INDEX, share)
        np.testing.assert_allclose(found.environments, [0.0, 5.0 / limit, 0.0, 0.0, 0.0], atol=1e-12)


def test_distances_are_unlikely_where_no_more_than_a_share_of_the_agents_has_a_neighbour():
    one, rng = domain(), np.random.default_rng(0)
    one = replace(one, seen=np.exp(rng.normal(-8.0, 4.0, size=one.seen.shape)))
    for share in (1e-12, 1e-6, 1e-3, 1e9):
        unlikely = one.unlikely(share)
        assert one.seen[unlikely].sum() <= share
        if not unlikely.all():
            assert one.seen[unlikely].sum() + one.seen[~unlikely].min() > share
            assert one.seen[unlikely].max(initial=0.0) <= one.seen[~unlikely].min()


def test_mean_losses_outside_the_training_data_are_detected_above_and_below():
    phi, present, losses = known_configuration()
    for sign in (1.0, -1.0):
        found = domain().distances([phi], present, losses + sign * np.array([0, 0, 1.2, 0, 0]), SPECIES_INDEX)
        # the mean of the second species moves by four of three standard deviations, 0.4; that of all agents by 0.24
        np.testing.assert_allclose(found.losses, [0.0, 4.0 / 3.0, 0.24 / 0.6], atol=1e-12)


def test_mean_losses_of_fewer_agents_may_fluctuate_more_and_those_of_more_agents_as_in_the_data():
    phi, present, losses = known_configuration()
    losses = losses + 1.0
    found = domain().distances([phi], present, losses, SPECIES_INDEX)
    fewer = replace(domain(), agents=20.0).distances([phi], present, losses, SPECIES_INDEX)
    more = replace(domain(), agents=2.0).distances([phi], present, losses, SPECIES_INDEX)
    np.testing.assert_allclose(fewer.losses, 0.5 * found.losses)
    np.testing.assert_array_equal(more.losses, found.losses)


def test_a_species_without_agents_has_no_distance():
    phi, present, _ = known_configuration()
    species_index = np.ones(5, dtype=int)
    losses = np.full(5, -1.0)
    means = mean_losses(losses, species_index, 2)
    assert np.isnan(means[0])
    np.testing.assert_allclose(means[1:], -1.0)
    found = domain().distances([phi], present, losses, species_index)
    assert found.losses[0] == 0.0
    assert found.losses[1] == pytest.approx(0.0, abs=1e-12)
    assert found.losses[2] == pytest.approx(1.6 / 0.6)


def test_non_finite_numbers_are_outside():
    phi, present, losses = known_configuration()
    phi[4, 0] = np.nan
    losses[0] = np.nan
    found = domain().distances([phi], present, losses, SPECIES_INDEX)
    assert not found.environments[4] <= 1.0
    assert not found.losses[0] <= 1.0
    assert not found.losses[2] <= 1.0
    assert found.losses[1] == pytest.approx(0.0, abs=1e-12)


def model():
    """Random losses with a domain of their two species, on their grid."""
    losses = random_losses("pair", species=("Ar", "Kr"))
    grid = np.ones((2, 2, losses.grid.intervals))
    return replace(losses, domain=replace(domain(), seen=grid))


def test_a_loaded_domain_is_the_saved_one(tmp_path):
    losses = model()
    losses.save(tmp_path / "m.safetensors")
    again = AgentLosses.load(tmp_path / "m.safetensors")
    expected, found = losses.domain.to_arrays(), again.domain.to_arrays()
    assert expected.keys() == found.keys()
    for name, array in found.items():
        np.testing.assert_array_equal(array, expected[name])
    assert again.committee is None
    assert [type(known.limit) for known in again.domain.environments] == [float, float]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("seen", None),
        ("1/limit", None),
        ("0/centre", lambda a: a[:2]),
        ("0/limit", lambda a: a[:0]),
        ("seen", lambda a: a[:1]),
        ("seen", lambda a: a[..., :-1]),
        ("losses", lambda a: a[:2]),
        ("1/whitening", lambda a: a[:, :0]),
        ("limit", lambda a: np.inf * a),
        ("0/tail", lambda a: a - 1.0),
        ("seen", lambda a: -a),
    ],
)
def test_a_damaged_domain_is_refused_with_the_file_and_what_to_do(name, change, tmp_path):
    path = tmp_path / "model.safetensors"
    model().save(path)
    arrays, header = read_container(path, KIND)
    if change is None:
        del arrays[f"domain/{name}"]
    else:
        arrays[f"domain/{name}"] = np.ascontiguousarray(change(arrays[f"domain/{name}"]))
    write_container(path, KIND, arrays, header, overwrite=True)
    with pytest.raises(DualityError, match=r"model\.safetensors.*infer the model again"):
        AgentLosses.load(path)
