"""The predicted pump: its rows compared with the Jacobian, and what a penalty on it does to an inference."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest

from openmm_duality.errors import DualityError
from openmm_duality.inference import DataSet, evaluate, infer
from openmm_duality.inference.equations import pump
from openmm_duality.inference.equations.design import Design
from openmm_duality.inference.equations.unlabelled import configurations
from openmm_duality.inference.errors import excessive_pump
from openmm_duality.losses.evaluator import LocalEnvironments
from openmm_duality.losses.jacobian import jacobian
from tests.systems import (
    CELL,
    labelled,
    random_frames,
    random_losses,
    random_positions,
    random_species,
    rms,
    with_small_own_part,
)

SMALL = {"cutoff": 0.5, "pair_functions": 5, "functions": 2, "coarse_functions": 2, "intervals": 60, "members": 0}
FORMS = ("pair", "quadratic", "moment", "coupled", "channels")


def joint_design(losses):
    """Design with all species in one group."""
    return Design.of(replace(losses, metadata={"regularisation": [{}]}))


def configuration(form, gradient):
    losses, species = random_losses(form, gradient), random_species(16)
    losses = replace(losses, core_strength=np.zeros((3, 3)))
    return losses, LocalEnvironments.of(losses, random_positions(16, CELL), species, CELL)


def own_part(losses):
    """The part of losses that agents descend alone, as losses of its own."""
    if losses.own is None:
        return losses
    return replace(losses, gradient="agent", **losses.own.coefficient_fields())


def coefficients_of(design, losses):
    ((_, first),) = list(design.layout.first_columns(design.layout.groups[0]))[-1:]
    return design.layout.pack(losses)[0][first:]


@pytest.mark.parametrize(("gradient", "own"), [("agent", "whole"), ("mutual", "whole"), ("mutual", "small")])
@pytest.mark.parametrize("form", FORMS)
def test_rows_are_derivatives_of_the_forces_of_the_own_part(form, gradient, own):
    losses, environments = configuration(form, gradient)
    if own == "small":
        losses = with_small_own_part(losses)
    design = Design.of(losses) if own == "small" else joint_design(losses)
    directions = np.random.default_rng(1).normal(size=(6, 16, 3))
    slopes = pump._directional_slopes(design, environments, directions) @ coefficients_of(design, losses)
    flat = directions.reshape(6, -1)
    expected = (flat @ jacobian(own_part(losses), environments) @ flat.T).T
    assert np.abs(slopes - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("gradient", ["agent", "mutual"])
def test_the_mean_over_drawn_directions_is_the_predicted_pump_where_resonance_is_even(gradient, monkeypatch):
    losses, environments = configuration("quadratic", gradient)
    if losses.own is not None:  # a small own part, which does not change the modes
        small = {name: 1e-3 * array for name, array in losses.own.coefficient_arrays().items()}
        own = replace(losses.own, pair_coefficients=small["pair_coefficients"], weights={0: small["weights_0"]})
        losses = replace(losses, own=own)
    design = joint_design(losses)
    dephasing = 1e8  # cm⁻¹: all modes are as far from resonance as each other
    monkeypatch.setattr(pump, "_DEPHASING", dephasing)
    monkeypatch.setattr(pump, "BANDS", (pump.Band(0.0, 1e6, np.pi * dephasing, 40),))
    c = coefficients_of(design, losses)
    found = [
        np.sum((pump.pump_rows(design, losses, environments, np.random.default_rng(k)) @ c) ** 2) for k in range(12)
    ]
    expected = pump.predicted_pump(losses, environments)
    assert np.mean(found) == pytest.approx(expected, rel=0.0, abs=5.0 * np.std(found) / np.sqrt(12))
    assert np.std(found) < 0.5 * expected


def test_nothing_is_pumped_where_there_is_a_potential():
    losses, environments = configuration("moment", "collective")
    assert pump.predicted_pump(losses, environments) == 0.0
    silent = replace(losses, gradient="agent", own=None)
    assert pump.predicted_pump(silent, environments) > 0.0


@pytest.fixture(scope="module")
def frames():
    """Frames whose forces are partly those of agents that descend a loss of their own."""
    every = random_frames(16, n_atoms=16, least=0.17)
    shared = random_losses("moment", "collective", every.distinct_species)
    return labelled(every, shared)


@pytest.mark.parametrize("gradient", ["agent", "mutual"])
def test_a_stronger_penalty_pumps_less_and_fits_worse(frames, gradient):
    pumps, errors = [], []
    for strength in (0.0, 1e-4, 1e-2, 1.0):
        found = infer(frames, form="quadratic", gradient=gradient, ridge=1e-6, curvature=1e-6, pump=strength, **SMALL)
        pumps.append(found.metadata["pump"]["train"])
        errors.append(evaluate(found, frames).force_rmse["all"])
    assert pumps == sorted(pumps, reverse=True)
    assert pumps[-1] < 0.1 * pumps[0]
    assert errors[0] <= 1.001 * errors[-1]


@pytest.mark.parametrize("gradient", ["agent", "mutual"])
def test_a_stated_pump_is_kept_or_what_exceeds_it_is_said(frames, gradient):
    choices = {"form": "quadratic", "gradient": gradient, "ridge": 1e-6, "curvature": 1e-6, **SMALL}
    free = infer(frames, pump=0.0, **choices).metadata["pump"]["train"]
    limit = 0.1 * free
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        kept = infer(frames, max_pump=limit, **choices)
    found, said = kept.metadata["pump"]["train"], [str(one.message) for one in caught if "max_pump" in str(one.message)]
    assert found < 0.3 * free  # of other frames than those of the penalty
    assert kept.metadata["regularisation"][0]["pump"] in pump.STRENGTHS
    assert len(said) == (found > limit)
    assert all(f"max_pump: {limit**2 / found:.2g}" in sentence for sentence in said)
    assert excessive_pump(kept, 0.5 * found).startswith("the predicted pump of the model")
    assert excessive_pump(kept, 2.0 * found) == ""


def test_what_pumps_nothing_or_cannot_be_penalised_is_refused(frames):
    for choices, message in (
        ({"gradient": "collective", "pump": 1e-3}, "have a potential"),
        ({"gradient": "mutual", "pump": 1e-3, "max_pump": 0.1}, "either"),
        ({"gradient": "mutual", "max_pump": 1e-12, "ridge": 1e-6, "curvature": 1e-6}, "below max_pump"),
    ):
        with pytest.raises(DualityError, match=message):
            infer(frames, **{**SMALL, **choices})


def test_an_own_part_of_strong_penalty_vanishes(frames):
    found = infer(frames, form="quadratic", gradient="mutual", ridge=1e-6, curvature=1e-6, pump=1e6, **SMALL)
    shared = infer(frames, form="quadratic", gradient="collective", ridge=1e-6, curvature=1e-6, **SMALL)
    ours, theirs = (labelled(frames, losses).forces for losses in (found, shared))
    assert rms(ours - theirs) < 0.05 * rms(theirs)


def test_frames_of_the_penalty_come_from_all_sets_by_weight():
    few, many = random_frames(4, n_atoms=8), random_frames(20, n_atoms=12, seed=1)
    sets = [DataSet(replace(few, forces=few.positions), 5.0), DataSet(replace(many, forces=many.positions))]
    found = list(configurations(sets, 8))
    assert [len(one.species) for one in found] == [8] * 4 + [12] * 4
    assert len({one.positions.tobytes() for one in found}) == 8
    assert len(list(configurations(sets, 1))) == 1
    assert list(configurations([], 8)) == []


def test_own_losses_of_full_symmetry_are_pair_losses():
    """An own loss is conservative only if it is a sum over pairs."""
    every = random_frames(16, least=0.17)
    frames = labelled(every, random_losses("moment", "collective", every.distinct_species))
    choices = {"ridge": 1e-10, "curvature": 0.0, **SMALL}
    free, own = (infer(frames, form="quadratic", gradient="agent", pump=eta, **choices) for eta in (0.0, 1e5))
    pairs = infer(frames, form="pair", gradient="collective", **choices)
    others, ours, theirs = (labelled(frames, losses).forces for losses in (free, own, pairs))
    assert rms(ours - theirs) < 1e-5 * rms(theirs)
    assert rms(others - theirs) > 0.05 * rms(theirs)
