"""The committee of a corrected model: members of the base, each corrected with blocks drawn from the dear frames."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from openmm_duality.inference import DataSet, correct, infer
from openmm_duality.losses.committee import variance_of
from openmm_duality.losses.evaluator import evaluate_agents
from openmm_duality.reference.frames import Frames
from tests.systems import labelled, random_frames, random_losses, rms

SMALL = {"cutoff": 0.5, "pair_functions": 6, "functions": 3, "coarse_functions": 1, "intervals": 60}
FIXED = {"ridge": 1e-6, "curvature": 1e-6}


@pytest.fixture(scope="module")
def base():
    return infer(labelled(random_frames(20, least=0.16), random_losses("moment")), form="quadratic", **SMALL, **FIXED)


@pytest.fixture(scope="module")
def dear():
    return labelled(random_frames(15, seed=5, least=0.2), random_losses("coupled", seed=3))


def spreads(model, frames):
    """s of every agent in a few frames."""
    places = [(frames.positions[t], frames.species, frames.cell(t)) for t in range(0, len(frames), 4)]
    members = [[evaluate_agents(member, *place).forces for place in places] for member in model.members()]
    return np.sqrt(variance_of(np.array(members)))


def test_every_member_is_corrected_and_the_committee_knows_the_new_errors(base, dear):
    corrected = correct(base, dear, ridge=1e-3, curvature=1e-6)
    assert corrected.committee.size == base.committee.size
    assert corrected.metadata["committee"]["blocks"] == 5
    forces = [
        evaluate_agents(corrected, dear.positions[t], dear.species, dear.cell(t)).forces for t in range(len(dear))
    ]
    errors = np.array(forces) - dear.forces
    species_index = corrected.index_of(dear.species)
    for a in range(len(corrected.species)):
        least = corrected.committee.residual[a]
        assert least < 3.0 * rms(errors[:, species_index == a])
        predicted = np.sqrt(
            least**2 + corrected.committee.scale[a] ** 2 * np.mean(spreads(corrected, dear)[:, species_index == a] ** 2)
        )
        assert 0.5 < predicted / rms(errors[:, species_index == a]) < 2.0


def test_members_that_agree_with_the_base_differ_by_the_dear_blocks_alone(base, dear):
    """With a ridge that allows no correction nothing is left of a spread."""
    k = base.committee.size
    agreeing = replace(
        base,
        committee=replace(
            base.committee,
            pair_coefficients=np.stack([base.pair_coefficients] * k),
            weights={rank: np.stack([w] * k) for rank, w in base.weights.items()},
            couplings=np.stack([base.couplings] * k),
        ),
    )
    loose, tight = (correct(agreeing, dear, ridge=ridge, curvature=1e-6) for ridge in (1e-3, 1e6))
    assert spreads(loose, dear).mean() > 1e3 * spreads(tight, dear).mean()
    assert spreads(loose, dear).mean() < spreads(correct(base, dear, ridge=1e-3, curvature=1e-6), dear).mean()


def test_without_a_committee_or_without_blocks_there_is_none(base, dear):
    for model, frames, word in ((replace(base, committee=None), dear, "base"), (base, dear[:3], "blocks")):
        corrected = correct(model, frames, ridge=1e-3, curvature=1e-6)
        assert corrected.committee is None
        assert word in corrected.metadata["committee"]["reason"]


def test_the_domain_of_the_base_holds_the_dear_frames_too(base, dear):
    corrected = correct(base, dear, ridge=1e-3, curvature=1e-6)
    assert (corrected.domain.seen >= base.domain.seen).all()
    shift = corrected.domain.losses[:, 0] - base.domain.losses[:, 0]
    assert np.abs(shift).max() > 0.0  # ΔH moves the losses of all frames, and the domain follows


def test_sets_of_a_few_frames_each_have_blocks_enough_together(base, dear):
    corrected = correct(base, [DataSet(dear[:3], name="a"), DataSet(dear[3:5], name="b")], ridge=1e-3, curvature=1e-6)
    assert corrected.committee is not None or "blocks" in corrected.metadata["committee"]["reason"]


def test_dear_frames_without_a_species_leave_its_agents_as_they_were(dear):
    """Under `agent` every species is a problem of its own."""
    frames = labelled(random_frames(20, least=0.16), random_losses("moment", "agent"))
    cheap = infer(frames, form="quadratic", gradient="agent", **SMALL, **FIXED)
    kept = np.flatnonzero(np.array(dear.species) == cheap.species[0])
    alone = Frames(
        positions=dear.positions[:, kept],
        species=tuple(dear.species[i] for i in kept),
        masses=dear.masses[kept],
        cells=dear.cells,
        forces=dear.forces[:, kept],
        steps=dear.steps,
        times=dear.times,
    )
    corrected = correct(cheap, alone)
    np.testing.assert_array_equal(corrected.pair_coefficients[1], cheap.pair_coefficients[1])
    assert not np.array_equal(corrected.pair_coefficients[0, 0], cheap.pair_coefficients[0, 0])
