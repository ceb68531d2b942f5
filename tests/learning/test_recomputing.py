"""Forces along a run, compared with CP2K's own for the same frames: the bundled water knows them already."""

import json
from dataclasses import replace

import numpy as np
import openmm as mm
import pytest
from click.testing import CliRunner

from openmm_duality.cli import main
from openmm_duality.errors import DualityError
from openmm_duality.inference import evaluate
from openmm_duality.learning import find_model, recompute_forces
from openmm_duality.losses import AgentLosses
from openmm_duality.losses.baseline import Baseline
from openmm_duality.observables import compare, read_run, sample_runs
from openmm_duality.observables.force_errors import measure_force_errors
from openmm_duality.reference.frames import evenly_spaced
from tests.observables import made
from tests.water import liquid, water_losses

COUNT = 3


@pytest.fixture(scope="module")
def method(tmp_path_factory):
    path = tmp_path_factory.mktemp("method") / "method.yaml"
    path.write_text(
        "method: {name: nnp, members: 8}\nstress: true\ntasks: [{name: left alone, label: {data: nowhere}}]\n"
    )
    return path


def water_run(folder, directory, frames):
    """A run directory of frames of the bundled water, and the model it says it used."""
    digest = AgentLosses.load(folder / "model.safetensors").sha256()
    model = {"name": "model.safetensors", "sha256": digest, "gradient": "collective"}
    even = replace(frames, times=0.16 * np.arange(1, len(frames) + 1))
    return made.write_run(directory, even, model=model)


@pytest.fixture(scope="module")
def done(folder, method, tmp_path_factory):
    """A run, its frames, where CP2K worked, and what came of it."""
    place = tmp_path_factory.mktemp("recomputing")
    run = read_run(water_run(folder, place / "run", liquid()[1]))
    (sample,) = sample_runs(run.directory, liquid()[0], count=COUNT, discard=0)
    model = find_model(run.directory, (folder / "model.safetensors",))
    where = place / "recomputed" / "run"
    return run, sample, where, recompute_forces(sample.frames, model, method, where)


def test_errors_are_those_against_the_forces_that_the_frames_came_with(done):
    found = measure_force_errors(done[-1])
    frames = liquid()[1]
    known = evaluate(water_losses("collective"), frames[evenly_spaced(len(frames), COUNT)])
    assert found.times == pytest.approx(0.16 * (1 + evenly_spaced(len(frames), COUNT)))
    assert set(found.rmse) == set(known.force_rmse) == {"all", "H", "O", "molecular"}
    for key in found.rmse:
        assert found.error(key) == pytest.approx((known.force_rmse[key], known.force_rms[key]), rel=2e-3)
    assert found.refused == ()
    assert found.pressure_error.mean == pytest.approx(known.pressure_error, abs=0.5)
    assert found.method == "nnp (members 8)"


def test_what_is_labelled_is_not_labelled_again(done, method):
    run, sample, where, found = done
    files = {path: path.stat().st_mtime_ns for path in where.rglob("*-frc-1.xyz")}
    assert files
    again = recompute_forces(sample.frames, found.model, method, where)
    plain, expected = (
        json.dumps(measure_force_errors(recomputed).to_dict(), default=list) for recomputed in (again, found)
    )
    assert plain == expected
    assert {path: path.stat().st_mtime_ns for path in where.rglob("*-frc-1.xyz")} == files
    (later,) = sample_runs(run.directory, liquid()[0], count=COUNT, discard=0.32)
    with pytest.raises(DualityError, match="other frames"):
        recompute_forces(later.frames, found.model, method, where)


def test_the_baseline_is_that_of_the_atoms_of_the_run(done, method, tmp_path):
    _, sample, where, found = done
    springy = mm.System()
    springy.setDefaultPeriodicBoxVectors(*sample.frames.cell(0))
    springs = mm.HarmonicBondForce()
    springs.setUsesPeriodicBoundaryConditions(True)
    springs.addBond(0, 1, 0.1, 1e4)
    for mass in sample.frames.masses:
        springy.addParticle(mass)
    springy.addForce(springs)
    with pytest.raises(DualityError, match="without a baseline"):
        recompute_forces(sample.frames, found.model, method, where, baseline=springy)
    few, model = mm.System(), tmp_path / "beside.safetensors"
    few.addParticle(1.0)
    replace(found.losses, baseline=Baseline.of(few)).save(model)
    moved = recompute_forces(sample.frames, model, method, where, baseline=springy)
    assert measure_force_errors(moved).error("all")[0] > measure_force_errors(found).error("all")[0]
    with pytest.raises(DualityError, match=r"baseline is of 1 atoms, and these are 192; give the System .* of the run"):
        recompute_forces(sample.frames, model, method, tmp_path)


def test_a_comparison_holds_them_and_says_who_has_none(done, folder, method, tmp_path):
    """By the command line, which lets CP2K work in a folder of the report."""
    run, _, _, recomputed = done
    found = measure_force_errors(recomputed)
    plain = made.write_run(tmp_path / "tip3p", liquid()[1][:5], model={"name": "TIP3P"})
    model = folder / "model.safetensors"
    options = ["--discard", "0", "--recompute", method, "--recompute-frames", COUNT, "--model", model]
    call = ["compare", run.directory, folder / "few.safetensors", plain, *options, "-o", tmp_path / "report"]
    result = CliRunner().invoke(main, [str(word) for word in call])
    assert result.exit_code in (0, 1), result.output
    assert "forces differ from CP2K’s (nnp" in result.output
    content = json.loads((tmp_path / "report" / "compare.json").read_text())
    assert content["forces_along_run"]["force_rmse"]["all"] == pytest.approx(found.error("all")[0])
    assert (tmp_path / "report" / "recomputed" / "run" / "cp2k").is_dir()
    assert content["more"][0]["forces_along_run"] is None
    assert any("tip3p were not recomputed" in note for note in content["more"][0]["notes"])
    with pytest.raises(DualityError, match="names no model"):
        find_model(plain)
    refused = CliRunner().invoke(main, [str(word) for word in ["compare", plain, *call[2:-1], tmp_path / "none"]])
    assert refused.exit_code == 2
    assert "names no model" in refused.output


def test_the_model_is_known_by_what_it_computes(folder, tmp_path):
    run = water_run(folder, tmp_path / "run", liquid()[1][:2])
    with pytest.raises(DualityError, match="is not in"):
        find_model(run)
    other = tmp_path / "model.safetensors"
    other.write_bytes(b"another model")
    with pytest.raises(DualityError, match="not among the files given"):
        find_model(run, (other,))
    losses = AgentLosses.load(folder / "model.safetensors")
    replace(losses, masses=2 * losses.masses).save(other, overwrite=True)
    with pytest.raises(DualityError, match="not among the files given"):
        find_model(run, (other,))
    replace(losses, metadata={**losses.metadata, "copied": True}).save(other, overwrite=True)
    assert find_model(run) == other.resolve()


@pytest.mark.parametrize(
    ("text", "word"), [("tasks: []\n", "the key method"), ("method: nnp\nmethods: 1\n", "methods"), ("a: [", "YAML")]
)
def test_a_wrong_method_is_an_error(done, tmp_path, text, word):
    run, sample, where, found = done
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(text)
    with pytest.raises(DualityError, match=word):
        recompute_forces(sample.frames, found.model, wrong, where)
    with pytest.raises(DualityError, match="one or more"):
        sample_runs(run.directory, liquid()[0], count=0)


def test_frames_of_another_substance_or_name_are_refused(done):
    run, _, _, found = done
    argon = made.frames(("Ar",) * 5, np.random.default_rng(0).random((5, 5, 3)), np.eye(3))
    with pytest.raises(DualityError, match="another composition"):
        sample_runs(run.directory, argon)
    with pytest.raises(DualityError, match="not the name of a run"):
        compare(run.directory, liquid()[0], recomputed={"another": found}, progress=False)
