"""The committee of an inference: refits to resampled blocks, and the calibration of their spread."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from openmm_duality.inference import DataSet, Settings, infer
from openmm_duality.inference.equations.accumulation import accumulate
from openmm_duality.inference.equations.inference import Inference
from openmm_duality.inference.equations.pair_statistics import pair_statistics
from openmm_duality.inference.equations.solution import solve
from openmm_duality.inference.uncertainty.committee import NOMINAL, Members, calibrate, with_committee
from openmm_duality.inference.uncertainty.domain import FrameDescriptors, with_domain
from openmm_duality.inference.uncertainty.measurements import measure
from openmm_duality.losses import GRADIENTS, evaluate_agents
from openmm_duality.losses.committee import variance_of
from tests.systems import NARROW, SPECIES, labelled, narrow_frames, random_frames, random_losses, repeated, rms

SMALL = {"cutoff": 0.5, "pair_functions": 5, "functions": 2, "coarse_functions": 2, "intervals": 60}
FIXED = {"ridge": 1e-6, "curvature": 1e-6}


@pytest.fixture(scope="module")
def frames():
    """Frames labelled by losses that no model here can represent exactly."""
    return labelled(random_frames(20, n_atoms=20), random_losses("moment"))


def settings(**choices):
    return Settings.of({**SMALL, **FIXED, "form": "quadratic", **choices})


def members_of(data, chosen):
    """An inference, its losses and the solver of its members."""
    inference = Inference.of([DataSet(data)] if not isinstance(data, list) else data, chosen)
    strengths = [preferred[0] for preferred in inference.preferences]
    losses = inference.losses(strengths)
    return inference, losses, Members.of(inference, losses)


@pytest.mark.parametrize(("gradient", "energy_weight"), [("agent", 0.0), ("collective", 0.0), ("collective", 1.0)])
def test_members_are_fits_to_the_drawn_blocks_from_scratch(frames, gradient, energy_weight):
    """Block weights are 0, 1 and 2; scales and regularisation are those of the fit to all frames."""
    chosen = settings(gradient=gradient, energy_weight=energy_weight, ridge=1e-3)
    inference, losses, members = members_of(frames, chosen)
    blocks = len(inference.equations.blocks[0])
    counts = np.array([2, 0, 1, 0, 2, 1, 1, 0, 2, 1])
    assert blocks == len(counts) == 10
    found = members.solved(dict(enumerate(counts.astype(float))))
    drawn = [DataSet(frames[2 * k : 2 * k + 2], float(n)) for k, n in enumerate(counts) if n]
    alone = accumulate(drawn, losses.species, inference.design, replace(chosen, members=0), inference.reference, False)
    for k, total in enumerate(alone.totals):
        strengths = {"ridge": 1e-3, "curvature": 1e-6}
        expected = solve(total, inference.penalties[k], strengths, inference.scales[k], inference.reference.n_constants)
        np.testing.assert_allclose(found[k], expected, rtol=0.0, atol=1e-7 * rms(expected))
        whole = members.solved(dict.fromkeys(range(blocks), 1.0))[k]
        assert rms(found[k] - whole) > 1e-3 * rms(whole)


def test_as_many_blocks_are_drawn_as_there_are_and_all_of_them_make_the_model(frames):
    inference, losses, members = members_of(frames, settings())
    found = inference.design.layout.unpack(members.solved(dict.fromkeys(range(10), 1.0)))
    u, w = found["pair_coefficients"], found["weights"][0]
    np.testing.assert_allclose(u, losses.pair_coefficients, atol=1e-8 * rms(u))
    np.testing.assert_allclose(w, losses.weights[0], atol=1e-8 * rms(w))
    drawn, _ = members.drawn(np.random.default_rng(3), range(10), 40)
    counts = np.random.default_rng(3).multinomial(10, np.full(10, 0.1), size=40)
    assert {0, 1, 2} <= set(counts.ravel())
    for solutions, row in zip(drawn, counts, strict=True):
        np.testing.assert_array_equal(solutions[0], members.solved(dict(enumerate(row.astype(float))))[0])


def test_identical_blocks_give_no_spread(frames):
    same = frames[[0] * 20]
    losses = infer(same, settings=settings(ridge=1e-3))
    assert losses.committee.size == 16
    forces = [evaluate_agents(m, same.positions[0], same.species, same.cell(0)).forces for m in losses.members()]
    assert np.sqrt(variance_of(np.array(forces)).max()) < 1e-8 * rms(same.forces)


def test_more_data_give_a_smaller_spread():
    """With noisy data the spread decreases as the inverse root of the number of frames."""
    truth = random_losses("pair", shortest=0.16)
    rng = np.random.default_rng(2)
    many = labelled(random_frames(80, n_atoms=20, least=0.17), truth)
    many = replace(many, forces=many.forces + rng.normal(scale=rms(many.forces), size=many.forces.shape))
    test = random_frames(2, n_atoms=20, seed=8, least=0.2)

    def width(data):
        losses = infer(data, settings=settings(form="pair", members=40, ridge=1e-9, curvature=0.0))
        found = [evaluate_agents(m, test.positions[0], test.species, test.cell(0)).forces for m in losses.members()]
        return np.sqrt(variance_of(np.array(found)).mean())

    assert width(many[::4]) / width(many) == pytest.approx(2.0, rel=0.35)


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_dropped_coefficients_stay_zero_in_all_members(frames, gradient):
    losses = infer(frames, settings=settings(gradient=gradient, max_coefficients=20))
    committee = losses.committee
    assert committee.size == 16
    assert losses.metadata["selection"]
    assert ((committee.pair_coefficients == 0.0) == (losses.pair_coefficients == 0.0)).all()
    assert ((committee.weights[0] == 0.0) == (losses.weights[0] == 0.0)).all()
    assert 0 < np.count_nonzero(losses.weights[0]) < losses.weights[0].size
    if losses.has_reactions:
        np.testing.assert_array_equal(committee.pair_coefficients, committee.pair_coefficients.swapaxes(1, 2))
    for member in losses.members():
        np.testing.assert_array_equal(member.weights[0], member.weights[0].swapaxes(1, 2))


def test_the_committee_is_reproducible(frames):
    one, other = (infer(frames, settings=settings(form="coupled")).committee.to_arrays() for _ in range(2))
    assert one.keys() == other.keys()
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name])
        assert np.isfinite(array).all()
    assert (one["limit"] > one["residual"]).all()


def test_without_members_or_with_too_few_frames_there_is_no_committee_and_a_reason_is_recorded(frames):
    none = infer(frames, settings=settings(members=0))
    assert none.committee is None
    assert none.metadata["committee"] == {"members": 0, "reason": "none was requested"}
    few = infer(frames[:3], settings=settings())
    assert few.committee is None
    assert few.metadata["committee"]["members"] == 0
    assert "fewer than 4 blocks" in few.metadata["committee"]["reason"]
    four = infer(frames[:4], settings=settings(ridge=1e-2))
    assert four.committee.size == four.metadata["committee"]["members"] == 16
    assert four.metadata["committee"]["blocks"] == 4
    # a committee does not change the losses
    with_one = infer(frames, settings=settings())
    np.testing.assert_allclose(with_one.pair_coefficients, none.pair_coefficients, rtol=1e-9)


def test_a_species_in_few_frames_is_uncertain_but_no_obstacle():
    """Resampled blocks without the species do not determine its losses."""
    truth = random_losses("quadratic", "agent")
    common = labelled(random_frames(20, n_atoms=12), truth)
    rare = labelled(random_frames(2, n_atoms=12, species=SPECIES, seed=4), truth)
    losses = infer([DataSet(common), DataSet(rare, name="rare")], settings=settings(form="pair", gradient="agent"))
    assert losses.committee.size == 16
    assert np.isfinite(losses.committee.residual).all()
    forces = [evaluate_agents(m, rare.positions[0], rare.species, rare.cell(0)).forces for m in losses.members()]
    widths = variance_of(np.array(forces)) / np.square(rare.forces[0]).mean(axis=1)
    known, unknown = (np.median(widths[losses.index_of(rare.species) == a]) for a in (0, 2))
    assert unknown > 2.0 * known


def test_blocks_that_do_not_determine_the_losses_leave_a_model_without_a_committee():
    truth = random_losses("pair", shortest=0.16)
    frames = labelled(random_frames(5, n_atoms=12, species=SPECIES[:1], least=0.17), truth)
    bare = {"form": "pair", "ridge": 0.0, "curvature": 0.0, "pair_functions": 16}
    losses = infer(frames, settings=settings(**bare))
    assert losses.committee is None
    assert "do not determine" in losses.metadata["committee"]["reason"]
    expected = infer(frames, settings=settings(**bare, members=0))
    np.testing.assert_allclose(losses.pair_coefficients, expected.pair_coefficients, rtol=1e-6)


def made(size, seed=0):
    """Variances of members from small to large, for two species."""
    rng = np.random.default_rng(seed)
    return rng, np.exp(rng.normal(scale=1.5, size=size)), rng.integers(0, 2, size=size)


def test_calibration_recovers_the_parameters_of_normal_errors():
    rng, s2, species_index = made(40_000)
    a, b = np.array([3.0, 2.0]), np.array([1.0, 4.0])
    sigma = np.sqrt(a[species_index] ** 2 + b[species_index] ** 2 * s2)
    residual, scale = calibrate(sigma[:, None] * rng.normal(size=(len(s2), 3)), s2, species_index, 3)
    np.testing.assert_allclose(residual[:2], a, rtol=0.05)
    np.testing.assert_allclose(scale[:2], b, rtol=0.03)
    assert a.min() < residual[2] < a.max()  # without agents of its own it gets the values of all agents
    assert scale[2] > 0.0


@pytest.mark.parametrize("distribution", ["laplace", "student"])
def test_calibration_of_heavy_tails_approaches_the_fractions_of_a_normal_distribution(distribution):
    rng, s2, species_index = made(40_000)
    shape = (len(s2), 3)
    noise = rng.laplace(size=shape) if distribution == "laplace" else rng.standard_t(3.0, size=shape)
    errors = np.sqrt(4.0 + 2.0 * s2)[:, None] * noise
    residual, scale = calibrate(errors, s2, species_index, 2)
    ratios = np.abs(errors) / np.sqrt(residual[species_index] ** 2 + scale[species_index] ** 2 * s2)[:, None]
    for k, nominal in enumerate(NOMINAL, 1):
        assert (ratios < k).mean() == pytest.approx(nominal, abs=0.04)
    np.testing.assert_allclose(scale / residual, np.sqrt(2.0 / 4.0), rtol=0.1)  # the ratio is unaffected


def test_calibration_with_members_that_agree_leaves_the_residual():
    rng = np.random.default_rng(0)
    errors = 7.0 * rng.normal(size=(5000, 3))
    residual, scale = calibrate(errors, np.full(5000, 1e-24), np.zeros(5000, dtype=int), 1)
    sigma = np.sqrt(residual**2 + scale**2 * 1e-24)
    np.testing.assert_allclose(sigma, 7.0, rtol=0.03)


def test_frames_too_few_for_a_tail_are_within_the_limit_by_far(frames):
    """The last block has two frames; larger spreads in other frames must not exceed the limit."""
    losses = infer(frames, settings=settings())
    species_index = losses.index_of(frames.species)
    for t in range(len(frames)):
        place = frames.positions[t], frames.species, frames.cell(t)
        forces = np.array([evaluate_agents(member, *place).forces for member in losses.members()])
        assert (losses.committee.uncertainty(forces, species_index) < losses.committee.limit[species_index]).all()


def test_narrow_cells_and_their_supercells_make_one_model():
    """Coefficients, committee and domain do not depend on the cell in which a crystal is written down."""
    frames, found = narrow_frames(120, 1.1 * NARROW["bcc"]), []
    for data in (frames, repeated(frames, (2, 2, 2))):
        data = labelled(data, random_losses("moment", species=SPECIES[:2]))
        inference, losses, _ = members_of(data, settings())
        measured = measure(data, dict.fromkeys(range(len(data)), (losses,)), range(len(data)))
        described = [FrameDescriptors.of(one, len(data), len(losses.species)) for one in measured]
        statistics = pair_statistics([data], losses.species, losses.grid)
        found.append(with_domain(with_committee(losses, inference), described, statistics))
    small, large = found
    assert small.committee.size == large.committee.size > 1
    assert (small.domain.agents, large.domain.agents) == (2, 16)
    pairs = [(small.pair_coefficients, large.pair_coefficients), (small.weights[0], large.weights[0])]
    pairs += [(small.committee.to_arrays()[name], array) for name, array in large.committee.to_arrays().items()]
    # tails and limits, which are rare, are those of more agents in the supercells
    frequent = small.domain.seen > 0.1
    pairs += [(small.domain.losses, large.domain.losses), (small.domain.seen[frequent], large.domain.seen[frequent])]
    for ours, theirs in zip(small.domain.environments, large.domain.environments, strict=True):
        pairs.append((ours.centre, theirs.centre))
    for ours, theirs in pairs:
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * np.abs(ours).max(initial=0.0))
