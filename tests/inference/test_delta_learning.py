"""Δ-learning: a model of a low level of theory, corrected towards a high one."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import yaml

from openmm_duality.errors import DualityError
from openmm_duality.inference import DataSet, Settings, add_frames, evaluate, fit_delta, infer, learning_curve
from openmm_duality.inference.configuration import InferenceConfig
from openmm_duality.inference.cross_validation import block_errors, jackknife, resampled_fits
from openmm_duality.inference.equations.inference import Inference
from openmm_duality.losses import GRADIENTS, AgentLosses, evaluate_agents
from openmm_duality.reference import read
from openmm_duality.report.learning import delta_learning_figure
from openmm_duality.units import MEV_PER_ANGSTROM
from tests.command import call, refused
from tests.systems import SPECIES, labelled, random_frames, random_losses, rms, verlet
from tests.water import EXAMPLES, liquid, small_water

SMALL = {"cutoff": 0.5, "pair_functions": 6, "functions": 3, "coarse_functions": 1, "intervals": 60}
FIXED = {"ridge": 1e-6, "curvature": 1e-6}


def forces(losses, frames):
    return np.array(
        [
            evaluate_agents(losses, frames.positions[t], frames.species, frames.cell(t)).forces
            for t in range(len(frames))
        ]
    )


def low_level_model(gradient="collective", form="quadratic", **choices):
    truth = random_losses("moment", gradient)
    frames = labelled(random_frames(16, least=0.16), truth)
    return infer(frames, form=form, gradient=gradient, members=0, **{**FIXED, **SMALL, **choices})


@pytest.fixture(scope="module")
def low():
    return low_level_model()


@pytest.fixture(scope="module")
def high_frames():
    """Frames labelled by losses that no model here can represent exactly."""
    return labelled(random_frames(12, seed=5, least=0.2), random_losses("coupled", seed=3))


@pytest.fixture(scope="module")
def density_functional():
    frames = read(EXAMPLES / "water32-revpbe-d3" / "water32")
    return frames[:40:8], frames[-16::4]


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_forces_of_the_prior_model_itself_change_nothing(gradient):
    low = low_level_model(gradient, "coupled")
    frames = labelled(random_frames(6, seed=5, least=0.2), low)
    corrected = fit_delta(low, frames)
    expected = forces(low, frames)
    assert rms(forces(corrected, frames) - expected) < 1e-7 * rms(expected)
    assert corrected.metadata["delta"]["blocks"]["before"]["force_rmse"] < 1e-3


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_a_difference_that_the_form_can_represent_is_recovered(gradient):
    """The high level differs from the low one by losses in the same bases, and the ridge is weak."""
    low = low_level_model(gradient)
    rng = np.random.default_rng(4)
    change = rng.normal(size=low.pair_coefficients.shape)
    if low.has_reactions:
        change = change + change.transpose(1, 0, 2)
    high = replace(low, pair_coefficients=low.pair_coefficients + 5.0 * change)
    frames = labelled(random_frames(20, seed=5, least=0.2), high)
    corrected = fit_delta(low, frames, ridge=1e-12, curvature=0.0)
    held_out = labelled(random_frames(4, seed=6, least=0.21), high)
    before, after = (rms(forces(losses, held_out) - held_out.forces) for losses in (low, corrected))
    assert after < 1e-4 * before


def test_a_stronger_ridge_gives_a_model_closer_to_the_prior(low, high_frames):
    expected = forces(low, high_frames)
    left = rms(expected - high_frames.forces)
    ridges = (1e-9, 1e-2, 1.0, 1e12)
    corrected = [fit_delta(low, high_frames, ridge=ridge, curvature=1e-6) for ridge in ridges]
    changes = [rms(forces(losses, high_frames) - expected) for losses in corrected]
    assert changes == sorted(changes, reverse=True)
    assert changes[0] > 0.2 * left
    assert changes[-1] < 1e-6 * left
    np.testing.assert_allclose(corrected[-1].pair_coefficients, low.pair_coefficients, rtol=0.0, atol=1e-6)


def test_many_frames_of_the_high_level_approach_the_fit_from_scratch(low):
    high = random_losses("coupled", seed=3)
    frames = labelled(random_frames(40, seed=5, least=0.2), high)
    scratch = infer(frames, form="quadratic", members=0, ridge=1e-9, curvature=1e-9, **SMALL)
    test = labelled(random_frames(8, seed=6, least=0.22), high)
    errors = {}
    for count in (4, len(frames)):
        errors[count] = evaluate(fit_delta(low, frames[:count]), test).force_rmse["all"]
    alone = evaluate(scratch, test).force_rmse["all"]
    assert errors[len(frames)] < 1.05 * alone
    assert errors[len(frames)] < errors[4] < evaluate(low, test).force_rmse["all"]


def test_the_equations_are_those_of_the_residual_forces(low, high_frames):
    """The targets are residual forces, and the weights depend on the full forces."""
    inference = Inference.of([DataSet(high_frames)], Settings(members=0), low)
    (total,) = inference.totals
    left = high_frames.forces - forces(low, high_frames)
    squared = np.sum(high_frames.forces**2, axis=2)
    weights = 1.0 / (1.0 + squared / Settings.large_force**2)
    assert total.target_squares == pytest.approx(np.sum(weights[..., None] * left**2), rel=1e-9)
    assert total.weight == pytest.approx(3.0 * weights.sum())


def test_functions_hardly_sampled_by_the_high_level_keep_their_coefficients(low):
    """Noise in a few frames must not determine them: only the prior model was fitted to data in that range."""
    truth = random_losses("moment")
    far = labelled(random_frames(6, seed=5, least=0.235), truth)
    rng = np.random.default_rng(0)
    noisy = replace(far, forces=far.forces + 0.3 * rms(far.forces) * rng.normal(size=far.forces.shape))
    corrected = fit_delta(low, noisy, ridge=1e-2, curvature=1e-6)
    near = random_frames(6, seed=7, least=0.17)
    change = rms(forces(corrected, near) - forces(low, near))
    assert change < 3.0 * rms(noisy.forces - forces(low, far))


def test_the_selection_of_coefficients_is_kept(high_frames):
    low = low_level_model(max_coefficients=25)
    corrected = fit_delta(low, high_frames, **FIXED)
    packed = [
        Inference.of([DataSet(high_frames)], Settings(members=0), x).design.layout.pack(x)[0] for x in (low, corrected)
    ]
    np.testing.assert_array_equal(packed[0] != 0.0, packed[1] != 0.0)
    assert np.count_nonzero(packed[0]) == 25
    assert corrected.metadata["coefficients"] == 25
    assert rms(packed[1] - packed[0]) > 1e-3 * rms(packed[0])


def test_metadata_of_a_corrected_model(low, high_frames, tmp_path):
    low.save(tmp_path / "low.safetensors")
    test = {"later": labelled(random_frames(4, seed=8, least=0.22), random_losses("coupled", seed=3))}
    corrected = fit_delta(tmp_path / "low.safetensors", [DataSet(high_frames, name="dft")], test=test)
    corrected.save(tmp_path / "high.safetensors")
    metadata = AgentLosses.load(tmp_path / "high.safetensors").metadata
    origin, found = metadata["prior"], metadata["delta"]
    assert origin["sha256"] == low.sha256() != corrected.sha256()
    assert origin["file"].startswith("low.safetensors sha256:")
    assert origin["data"] == low.metadata["data"]
    assert [(entry["name"], entry["frames"]) for entry in metadata["data"]] == [("dft", 12)]
    assert len(found["blocks"]["after"]["blocks"]) == 5
    assert 0.0 < found["blocks"]["after"]["error"] < found["blocks"]["after"]["force_rmse"]
    before = found["before"]["test"]["later"]["force_rmse"]
    after, error = metadata["errors"]["test"]["later"]["force_rmse"], found["error"]["later"]
    assert set(error) == set(after) == set(before)
    assert all(0.0 < error[key] < before[key] for key in error)
    assert before["all"] == pytest.approx(evaluate(low, test["later"]).force_rmse["all"])
    with pytest.raises(DualityError, match="fit its prior model again"):
        add_frames(corrected, high_frames)
    twice = fit_delta(corrected, high_frames, **FIXED)
    assert twice.metadata["prior"]["prior"]["sha256"] == low.sha256()


def test_block_errors_are_those_of_models_fitted_without_the_block(low, high_frames):
    inference = Inference.of([DataSet(high_frames)], Settings(members=0, blocks=4, **FIXED), low)
    strengths = [preferred[0] for preferred in inference.preferences]
    fits = resampled_fits(inference, strengths)
    found = block_errors(inference, fits)
    assert len(fits) == 4
    for b, fit in enumerate(fits):
        mine = high_frames[3 * b : 3 * b + 3]
        weights = 1.0 / (1.0 + np.sum(mine.forces**2, axis=2) / Settings.large_force**2)
        for losses, when in ((low, "before"), (inference.added_to_prior(fit, low), "after")):
            squared = weights[..., None] * (forces(losses, mine) - mine.forces) ** 2
            expected = np.sqrt(squared.sum() / (3.0 * weights.sum())) / MEV_PER_ANGSTROM
            assert found[when]["blocks"][b] == pytest.approx(expected, rel=1e-6)
    # a fit without a block differs from the fit to all frames
    every = inference.solve(inference.totals, strengths)[0]
    assert all(rms(fit[0] - every) > 1e-3 * rms(every) for fit in fits)


def test_the_jackknife_of_a_mean_is_its_standard_error():
    values = np.random.default_rng(0).normal(size=12)
    without = [np.delete(values, k).mean() for k in range(12)]
    assert jackknife(without) == pytest.approx(values.std(ddof=1) / np.sqrt(12))


def test_accelerations_can_be_the_targets(low):
    high = random_losses("moment", seed=3)
    start = random_frames(1, seed=5, least=0.24)
    trajectory = verlet(high, start, 80, dt=5e-4)
    moved = replace(trajectory, forces=None, energies=None)
    by_forces = fit_delta(low, trajectory[10::20], ridge=1e-3, curvature=1e-6)
    by_positions = fit_delta(low, moved, ridge=1e-3, curvature=1e-6)
    left = [rms(forces(x, trajectory[::20]) - trajectory.forces[::20]) for x in (low, by_forces, by_positions)]
    assert left[2] < 0.5 * left[0]
    assert by_positions.metadata["data"][0]["targets"] == "accelerations"


def test_a_learning_curve_of_corrections_begins_below_one_from_scratch(low):
    high = random_losses("moment")  # the training data of the low-level model
    train, test = (labelled(random_frames(n, seed=seed, least=0.2), high) for n, seed in ((20, 5), (4, 6)))
    settings = Settings(form="quadratic", members=0, **FIXED, **SMALL)
    alone, corrected = (
        learning_curve([DataSet(train)], test, settings, fractions=(0.5,), prior=prior) for prior in (None, low)
    )
    assert corrected.frames == alone.frames == (10,)
    assert corrected.tables[0].force_rmse["all"] < alone.tables[0].force_rmse["all"]


def test_frames_outside_the_training_data_of_the_prior_are_refused(low, high_frames):
    with pytest.raises(DualityError, match=r"closer than the .* label these frames with the method of the prior model"):
        fit_delta(low, labelled(random_frames(6, seed=3, least=0.12), random_losses()))
    unlike = random_losses("pair", species=SPECIES)
    with pytest.raises(DualityError, match="the data contain Xe too"):
        fit_delta(low, labelled(random_frames(2, species=SPECIES, least=0.2), unlike))
    with pytest.raises(DualityError, match="there are no frames to infer from"):
        fit_delta(low, high_frames[:0])
    with pytest.raises(DualityError, match="at least two blocks"):
        fit_delta(low, high_frames[:1])
    with pytest.raises(DualityError, match="ridge: expected"):
        fit_delta(low, high_frames, ridge=-1.0)
    with pytest.raises(DualityError, match="blocks: expected a whole number of at least 2"):
        fit_delta(low, high_frames, blocks=1)
    one = fit_delta(low, high_frames[:1], **FIXED)
    assert one.metadata["delta"]["blocks"] == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("form: moment\n", r"own form, which Δ-learning keeps.*ridge, curvature, blocks, large_force"),
        ("cutoff: 0.5\ngradient: agent\n", "own cutoff, gradient"),
        ("energy_weight: 1\n", "own energy_weight"),
        ("ridges: 1\n", "unknown setting ridges"),
        ("ridge: -1\n", "not negative"),
    ],
)
def test_a_configuration_with_a_prior_accepts_only_settings_of_delta_learning(tmp_path, text, message):
    (tmp_path / "c.yaml").write_text(f"prior: low.safetensors\n{text}data: [x]\n")
    with pytest.raises(DualityError, match=message):
        InferenceConfig.load(tmp_path / "c.yaml")


def test_a_configuration_with_a_prior_is_read_back_from_another_folder(tmp_path):
    (tmp_path / "c.yaml").write_text("prior: models/low.safetensors\nridge: 1e-2\nblocks: 4\ndata: [x]\n")
    config = InferenceConfig.load(tmp_path / "c.yaml")
    given = {"ridge": 0.01, "curvature": None, "blocks": 4, "large_force": Settings.large_force, "memory": None}
    given["stress_weight"] = None
    assert config.choices == given
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "r.yaml").write_text(config.to_yaml(tmp_path / "there"))
    again = InferenceConfig.load(tmp_path / "there" / "r.yaml")
    assert again.choices == config.choices
    assert (again.folder / again.prior).resolve() == (tmp_path / "models" / "low.safetensors").resolve()
    assert InferenceConfig.load(tmp_path / "c.yaml", "/other.safetensors").prior == "/other.safetensors"
    (tmp_path / "c.yaml").write_text("prior: [one]\ndata: [x]\n")
    with pytest.raises(DualityError, match="prior: expected a name"):
        InferenceConfig.load(tmp_path / "c.yaml")


def test_five_frames_of_density_functional_theory_correct_a_model_of_the_network(density_functional):
    train, test = density_functional
    distorted = read(EXAMPLES / "water64-distorted" / "distorted")[::8]
    hot = read(EXAMPLES / "water64-distorted" / "hot600K")[::20]
    sets = [DataSet(liquid()[0][::12]), DataSet(distorted, 0.2), DataSet(hot, 0.5)]
    chosen = {"form": "moment", "functions": 4, "cutoff": 0.49, "members": 0}
    low = infer(sets, ridge=1e-7, curvature=1e-4, **chosen)
    corrected = fit_delta(low, train, test=test)
    alone = infer(train, ridge=1e-3, curvature=1e-4, **chosen)
    tables = [evaluate(losses, test).force_rmse for losses in (low, corrected, alone)]
    assert tables[0]["all"] > 300.0
    assert tables[1]["all"] < 0.3 * tables[0]["all"]
    assert tables[1]["all"] < 0.8 * tables[2]["all"]
    bars = corrected.metadata["delta"]["error"]["data"]
    assert 0.0 < bars["all"] < 0.1 * tables[1]["all"]


def test_the_command_line_corrects_a_model(folder, tmp_path):
    small_water().save(tmp_path / "low.safetensors")
    (tmp_path / "c.yaml").write_text(
        "prior: low.safetensors\nridge: 1e-2\ncurvature: 1e-4\n"
        f"data: [{{path: {folder / 'few.safetensors'}, name: high}}]\n"
    )
    model, figures = tmp_path / "high.safetensors", tmp_path / "f.json"
    text = call("infer", tmp_path / "c.yaml", "-o", model, "--json", figures)
    assert "Δ-learning" in text
    assert "high, held out: all" in text
    assert "→" in text
    losses = AgentLosses.load(model)
    content = json.loads(figures.read_text())
    assert content["delta"] == losses.metadata["delta"]
    assert (losses.form.name, losses.cutoff) == ("quadratic", small_water().cutoff)
    resolved = yaml.safe_load(model.with_suffix(".config.yaml").read_text())
    assert resolved["prior"] == "low.safetensors"
    assert "form" not in resolved
    (tmp_path / "again").mkdir()
    call("infer", model.with_suffix(".config.yaml"), "-o", tmp_path / "again" / "high.safetensors")
    again = AgentLosses.load(tmp_path / "again" / "high.safetensors")
    assert again.metadata["prior"] == losses.metadata["prior"]
    np.testing.assert_array_equal(again.pair_coefficients, losses.pair_coefficients)
    last = ("-o", tmp_path / "d.safetensors")
    data = ("infer", "--data", folder / "few.safetensors", "--prior")
    assert "own form" in refused("infer", tmp_path / "c.yaml", "--form", "moment", *last)
    assert "own form" in refused(*data, tmp_path / "low.safetensors", "--form", "moment", *last)
    assert "missing" in refused(*data, tmp_path / "none.safetensors", *last)


def test_the_figure_of_the_docs_shows_every_curve():
    content = json.loads((EXAMPLES.parent / "docs" / "delta-learning.json").read_text())
    for axes, key in zip(delta_learning_figure(content).axes, ("all", "H"), strict=True):
        assert len(axes.containers) == len(content["curves"])
        for bars, curve in zip(axes.containers, content["curves"], strict=True):
            drawn = bars.lines[0].get_ydata()
            np.testing.assert_array_equal(drawn, [point["force_rmse"][key] for point in curve["points"]])
