"""The committee of a corrected model: members of the prior, each corrected with resampled high-level blocks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from openmm_duality.inference import DataSet, fit_delta, infer
from openmm_duality.losses.committee import variance_of
from openmm_duality.losses.evaluator import evaluate_agents
from openmm_duality.reference.frames import Frames
from tests.systems import labelled, random_frames, random_losses, rms

SMALL = {"cutoff": 0.5, "pair_functions": 6, "functions": 3, "coarse_functions": 1, "intervals": 60}
FIXED = {"ridge": 1e-6, "curvature": 1e-6}


@pytest.fixture(scope="module")
def prior():
    return infer(labelled(random_frames(20, least=0.16), random_losses("moment")), form="quadratic", **SMALL, **FIXED)


@pytest.fixture(scope="module")
def high():
    return labelled(random_frames(15, seed=5, least=0.2), random_losses("coupled", seed=3))


def spreads(model, frames):
    """Spread s of each agent in a few frames."""
    places = [(frames.positions[t], frames.species, frames.cell(t)) for t in range(0, len(frames), 4)]
    members = [[evaluate_agents(member, *place).forces for place in places] for member in model.members()]
    return np.sqrt(variance_of(np.array(members)))


def test_every_member_is_corrected_and_the_committee_knows_the_new_errors(prior, high):
    corrected = fit_delta(prior, high, ridge=1e-3, curvature=1e-6)
    assert corrected.committee.size == prior.committee.size
    assert corrected.metadata["committee"]["blocks"] == 5
    forces = [
        evaluate_agents(corrected, high.positions[t], high.species, high.cell(t)).forces for t in range(len(high))
    ]
    errors = np.array(forces) - high.forces
    species_index = corrected.index_of(high.species)
    for a in range(len(corrected.species)):
        least = corrected.committee.residual[a]
        assert least < 3.0 * rms(errors[:, species_index == a])
        predicted = np.sqrt(
            least**2 + corrected.committee.scale[a] ** 2 * np.mean(spreads(corrected, high)[:, species_index == a] ** 2)
        )
        assert 0.5 < predicted / rms(errors[:, species_index == a]) < 2.0


def test_members_that_agree_with_the_prior_differ_by_the_blocks_of_the_high_level_alone(prior, high):
    """A ridge so strong that it allows no correction leaves no spread."""
    k = prior.committee.size
    agreeing = replace(
        prior,
        committee=replace(
            prior.committee,
            pair_coefficients=np.stack([prior.pair_coefficients] * k),
            weights={rank: np.stack([w] * k) for rank, w in prior.weights.items()},
            couplings=np.stack([prior.couplings] * k),
        ),
    )
    loose, tight = (fit_delta(agreeing, high, ridge=ridge, curvature=1e-6) for ridge in (1e-3, 1e6))
    assert spreads(loose, high).mean() > 1e3 * spreads(tight, high).mean()
    assert spreads(loose, high).mean() < spreads(fit_delta(prior, high, ridge=1e-3, curvature=1e-6), high).mean()


def test_without_a_committee_or_without_blocks_there_is_none(prior, high):
    for model, frames, word in ((replace(prior, committee=None), high, "prior"), (prior, high[:3], "blocks")):
        corrected = fit_delta(model, frames, ridge=1e-3, curvature=1e-6)
        assert corrected.committee is None
        assert word in corrected.metadata["committee"]["reason"]


def test_the_domain_of_the_prior_holds_the_frames_of_the_high_level_too(prior, high):
    corrected = fit_delta(prior, high, ridge=1e-3, curvature=1e-6)
    assert (corrected.domain.seen >= prior.domain.seen).all()
    shift = corrected.domain.losses[:, 0] - prior.domain.losses[:, 0]
    assert np.abs(shift).max() > 0.0  # ΔH shifts the losses of all frames, and the domain with them


def test_sets_of_a_few_frames_each_have_blocks_enough_together(prior, high):
    corrected = fit_delta(
        prior, [DataSet(high[:3], name="a"), DataSet(high[3:5], name="b")], ridge=1e-3, curvature=1e-6
    )
    assert corrected.committee is not None or "blocks" in corrected.metadata["committee"]["reason"]


def test_frames_of_the_high_level_without_a_species_leave_its_agents_as_they_were(high):
    """Under `agent` every species has its own equations."""
    frames = labelled(random_frames(20, least=0.16), random_losses("moment", "agent"))
    low = infer(frames, form="quadratic", gradient="agent", **SMALL, **FIXED)
    selected = np.flatnonzero(np.array(high.species) == low.species[0])
    alone = Frames(
        positions=high.positions[:, selected],
        species=tuple(high.species[i] for i in selected),
        masses=high.masses[selected],
        cells=high.cells,
        forces=high.forces[:, selected],
        steps=high.steps,
        times=high.times,
    )
    corrected = fit_delta(low, alone)
    np.testing.assert_array_equal(corrected.pair_coefficients[1], low.pair_coefficients[1])
    assert not np.array_equal(corrected.pair_coefficients[0, 0], low.pair_coefficients[0, 0])
