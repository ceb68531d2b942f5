"""Stresses as targets: design rows, their weight, and what a fit to them does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from openmm_duality.errors import DualityError
from openmm_duality.inference import DataSet, assess_calibration, evaluate, fit_delta, infer
from openmm_duality.inference.configuration import InferenceConfig
from openmm_duality.inference.equations.design import Design
from openmm_duality.inference.equations.settings import Settings
from openmm_duality.inference.equations.virials import (
    DEFAULT_WEIGHT,
    components,
    resolved_stress_weight,
    virial_rows,
)
from openmm_duality.inference.judgement import doubtful_stresses
from openmm_duality.inference.uncertainty.calibration import Calibration
from openmm_duality.invariants.neighbours import find_neighbours
from openmm_duality.losses import FORMS, AgentLosses, evaluate_agents, evaluate_stress
from openmm_duality.units import MEGAPASCAL, MEV, MEV_PER_ANGSTROM
from tests.command import call
from tests.systems import (
    CELL,
    NARROW,
    RANKED,
    SPECIES,
    TRICLINIC,
    labelled,
    narrow_positions,
    random_frames,
    random_losses,
    random_positions,
    random_species,
    rms,
)

N = 16


def coreless(form):
    losses = random_losses(form)
    return replace(losses, core_strength=np.zeros_like(losses.core_strength))


@pytest.mark.parametrize("form", [*FORMS, *RANKED])
def test_rows_give_the_virial_of_the_evaluator(form):
    losses = coreless(form)
    design = Design.of(losses)
    (coefficients,) = design.layout.pack(losses)
    cases = [(random_positions(N, cell), random_species(N), cell) for cell in (CELL, TRICLINIC)]
    cases.append((narrow_positions(NARROW["skewed"]), SPECIES[1:], NARROW["skewed"]))
    for positions, species, cell in cases:
        index = losses.index_of(species)
        rows = virial_rows(design, find_neighbours(positions, cell, index, 3, losses.cutoff), index)
        expected = components(evaluate_agents(losses, positions, species, cell).virial)
        np.testing.assert_allclose(rows @ coefficients, expected, atol=1e-11 * np.abs(expected).max())


def test_a_fit_without_noise_finds_the_stresses():
    frames = labelled(random_frames(12, least=0.2), random_losses("quadratic", species=SPECIES[:2]), stresses=True)
    choices = {"form": "quadratic", "cutoff": 0.5, "ridge": 1e-9, "curvature": 0.0, "members": 0, "intervals": 60}
    without, fitted = (infer(frames[:8], **choices, stress_weight=w) for w in (0.0, 1.0))
    errors = [evaluate(losses, frames[8:]) for losses in (without, fitted)]
    assert errors[1].stress_rmse < errors[0].stress_rmse
    assert "stress_weight" in fitted.metadata["settings"]
    assert "stress" in str(errors[1])
    scale = errors[1].stress_rmse / errors[1].virial_rmse_per_atom  # MPa per meV and atom
    volume = abs(np.linalg.det(CELL)) / frames.n_atoms
    assert scale == pytest.approx(160.2177 / (1e3 * volume), rel=1e-4)


def test_a_pressure_that_forces_contradict_is_met_at_their_expense():
    truth = coreless("pair")
    frames = labelled(random_frames(10, least=0.2), truth, stresses=True)
    shifted = replace(frames, stresses=frames.stresses + 50.0 * np.eye(3))
    choices = {"form": "pair", "cutoff": 0.5, "ridge": 1e-6, "curvature": 0.0, "members": 0, "intervals": 60}
    light, heavy = (infer(shifted, **choices, stress_weight=w) for w in (0.0, 100.0))
    before, after = (evaluate(losses, shifted) for losses in (light, heavy))
    assert abs(after.pressure_error) < 0.2 * abs(before.pressure_error)
    assert after.force_rmse["all"] > before.force_rmse["all"]


def test_corrections_of_a_prior_model_use_stresses():
    truth = random_losses("quadratic", species=SPECIES[:2])
    frames = labelled(random_frames(10, least=0.2), truth, stresses=True)
    choices = {"form": "quadratic", "cutoff": 0.5, "ridge": 1e-6, "curvature": 0.0, "intervals": 60, "members": 0}
    prior = infer(frames, **choices, stress_weight=0.5)
    high = replace(frames, stresses=frames.stresses + 20.0 * np.eye(3))
    corrections = [fit_delta(prior, high, ridge=1e-4, curvature=0.0, stress_weight=w) for w in (0.0, 30.0)]
    before, after = (abs(evaluate(losses, high).pressure_error) for losses in corrections)
    assert after < 0.7 * before
    assert corrections[1].metadata["settings"]["stress_weight"] == 30.0


def test_the_weight_is_small_where_there_are_stresses_and_zero_elsewhere():
    frames = labelled(random_frames(3, least=0.2), random_losses("pair", species=SPECIES[:2]), stresses=True)
    sets = [DataSet(frames)]
    small = replace(frames, stresses=0.1 * frames.stresses)
    assert resolved_stress_weight(Settings(form="pair"), [DataSet(small)]) == DEFAULT_WEIGHT
    assert resolved_stress_weight(Settings(form="pair", stress_weight=0), sets) == 0.0
    assert resolved_stress_weight(Settings(form="pair", gradient="agent"), sets) == 0.0
    large = replace(frames, stresses=1e4 * frames.stresses)
    reduced = [resolved_stress_weight(Settings(form="pair"), [DataSet(one)]) for one in (large, large[:1])]
    assert max(reduced) < 0.1 * DEFAULT_WEIGHT
    virial = large.stresses[0] * abs(np.linalg.det(large.cell(0))) / large.n_atoms
    weighted = reduced[1] ** 0.5 * np.sqrt(np.mean(virial**2)) * 100.0 * MEV_PER_ANGSTROM / MEV
    assert weighted == pytest.approx(0.5 * np.sqrt(np.mean(large.forces[0] ** 2)))
    for none in (None, 0.0 * frames.stresses):
        bare = [DataSet(replace(frames, stresses=none))]
        assert resolved_stress_weight(Settings(form="pair"), bare) == 0.0
        with pytest.raises(DualityError, match="no data set has forces and stresses other than zeros"):
            resolved_stress_weight(Settings(form="pair", stress_weight=1), bare)
    with pytest.raises(DualityError, match="needs a potential energy"):
        Settings(form="pair", gradient="agent", stress_weight=1)


def test_the_committee_spreads_the_pressure():
    frames = labelled(random_frames(16, least=0.2), random_losses("quadratic", species=SPECIES[:2]), stresses=True)
    losses = infer(frames[:12], form="pair", cutoff=0.5, ridge=1e-6, curvature=0.0, members=4, intervals=60)
    found = assess_calibration(losses, frames[12:])
    assert found.pressure.frames == 4
    models = (losses, *losses.members())

    def pressure(one, t):
        return -np.trace(evaluate_stress(one, frames.positions[t], frames.species, frames.cell(t))) / 3.0

    pressures = np.array([[pressure(one, t) for one in models] for t in range(12, 16)])
    pressures += np.trace(frames.stresses[12:], axis1=1, axis2=2)[:, None] / 3.0
    assert found.pressure.mean_found == pytest.approx(pressures[:, 0].mean() / MEGAPASCAL)
    assert found.pressure.mean_predicted == pytest.approx(pressures[:, 1:].mean(axis=0).std(ddof=1) / MEGAPASCAL)
    assert found.pressure.mean_found == pytest.approx(evaluate(losses, frames[12:]).pressure_error)
    assert Calibration.from_dict(found.to_dict()) == found
    assert "pressure" in str(found)


def test_stresses_of_the_wrong_sign_are_left_out_with_a_warning_or_refused():
    frames = labelled(random_frames(8, least=0.2), random_losses("quadratic", species=SPECIES[:2]), stresses=True)
    wrong = replace(frames, stresses=-frames.stresses)
    choices = {"form": "pair", "cutoff": 0.5, "ridge": 1e-6, "curvature": 0.0, "members": 0, "intervals": 60}
    assert 0.0 < infer(frames, **choices).metadata["settings"]["stress_weight"] <= DEFAULT_WEIGHT
    with pytest.warns(UserWarning, match="contradict their forces .* they are left out"):
        assert infer(wrong, **choices).metadata["settings"]["stress_weight"] == 0.0
    with pytest.raises(DualityError, match=r"opposite sign it is 1\.00; .*stress_key.*`stress_units: -eV/angstrom\^3`"):
        infer(wrong, **choices, stress_weight=0.01)


def test_the_resolved_configuration_has_the_weights_of_the_model(tmp_path):
    frames = labelled(random_frames(8, least=0.2), random_losses("pair", species=SPECIES[:2]), stresses=True)
    choices = "form: pair\ncutoff: 0.5\nridge: 1e-6\ncurvature: 0\nmembers: 0\nintervals: 60\n"
    weight = resolved_stress_weight(Settings(form="pair"), [DataSet(frames)])
    for name, sign in (("right", 1.0), ("wrong", -1.0)):
        replace(frames, stresses=sign * frames.stresses).save(tmp_path / f"{name}.safetensors")
        config, model = tmp_path / f"{name}.yaml", tmp_path / f"model-{name}.safetensors"
        config.write_text(f"{choices}data: [{{path: {name}.safetensors, test_fraction: 0}}]\n")
        assert (f"weight of stresses {weight:g}." in call("infer", config, "-o", model)) is (sign > 0.0)
        resolved = InferenceConfig.load(model.with_suffix(".config.yaml")).settings
        settings = AgentLosses.load(model).metadata["settings"]
        assert resolved.stress_weight == (weight if sign > 0.0 else 0.0)
        assert resolved.energy_weight == settings["energy_weight"]


def test_stresses_that_a_fit_does_not_follow_are_warned_of():
    frames = labelled(random_frames(8, least=0.2), random_losses("pair", species=SPECIES[:2]), stresses=True)
    noise = np.random.default_rng(0).normal(size=frames.stresses.shape) * 10.0 * rms(frames.stresses)
    noisy = replace(frames, stresses=frames.stresses + noise + noise.transpose(0, 2, 1))
    table = evaluate(infer(frames, form="pair", cutoff=0.5, members=0, intervals=60), noisy)
    (sentence,) = doubtful_stresses({"a": table})
    assert "a: the fit does not follow the stresses" in sentence
    assert doubtful_stresses({"a": replace(table, stress_rmse=0.5 * table.stress_rms)}) == []
