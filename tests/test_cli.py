"""The command line: every verb on small data; bad input is tested in `test_bad_input`."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace

import ase.io
import mdtraj
import numpy as np
import openmm as mm
import pytest
import torch
import yaml
from ase import Atoms
from click.testing import CliRunner
from openmm import app, unit

from openmm_duality.cli import main
from openmm_duality.dynamics.structures import Start
from openmm_duality.inference.equations.channel_choice import ChannelChoice
from openmm_duality.inference.equations.settings import Settings
from openmm_duality.inference.uncertainty.calibration import Calibration
from openmm_duality.losses import AgentLosses, evaluate_agents
from openmm_duality.reference import read
from openmm_duality.report import page as page_of_report
from openmm_duality.verbs.start_notes import narrow_cells, new_cluster, vacuum
from openmm_duality.verbs.structures import read_structure
from tests.command import call, refused
from tests.observables import made
from tests.reference.conftest import INPUT
from tests.systems import SPECIES, random_frames, random_losses, verlet
from tests.water import liquid, water_losses

VERBS = ("inspect", "infer", "evaluate", "simulate", "compare", "benchmark", "reference", "export")


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_help(verb):
    assert "Usage:" in call(*([verb] if verb else []), "--help")


def test_the_first_help_names_every_verb():
    text = call("--help")
    assert all(f"\n  {verb} " in text for verb in VERBS)


def test_inspect(folder, tmp_path):
    text = call("inspect", folder / "liquid.safetensors", "--json", tmp_path / "i.json")
    content = json.loads((tmp_path / "i.json").read_text())
    assert str(len(liquid()[0])) in text
    assert content


def test_infer_from_a_configuration(folder, tmp_path):
    config, model, figures = tmp_path / "c.yaml", tmp_path / "out" / "m.safetensors", tmp_path / "i.json"
    config.write_text(
        "form: pair\ncutoff: 5 angstrom\nridge: 1e-6\ncurvature: 1e-6\nintervals: 120\n"
        f"data:\n- {{path: {folder / 'few.safetensors'}, name: liquid, every: 2}}\n"
    )
    text = call("infer", config, "-o", model, "--json", figures, "--gradient", "agent")
    assert "Held-out frames" in text
    content = json.loads(figures.read_text())
    assert {"seconds", "coefficients", "train", "test"} <= set(content)
    assert {"all", "H", "O", "molecular"} == set(content["test"]["force_rmse"])
    losses = AgentLosses.load(model)
    assert (losses.form.name, losses.gradient, losses.cutoff) == ("pair", "agent", 0.5)
    assert losses.metadata["errors"]["test"]["liquid"] == content["test"]
    resolved = yaml.safe_load(model.with_suffix(".config.yaml").read_text())
    assert (resolved["gradient"], resolved["ridge"], resolved["data"][0]["every"]) == ("agent", 1e-6, 2)


def test_infer_from_data_alone_and_the_resolved_configuration_again(folder, tmp_path):
    call(
        *("infer", "--data", folder / "few.safetensors", "--form", "pair", "--gradient", "collective"),
        *("--cutoff", "0.5", "-o", tmp_path / "one.safetensors"),
    )
    call("infer", tmp_path / "one.config.yaml", "-o", tmp_path / "two.safetensors", "--json", tmp_path / "two.json")
    one, two = (AgentLosses.load(tmp_path / f"{name}.safetensors") for name in ("one", "two"))
    chosen = one.metadata["regularisation"][0]
    resolved = (tmp_path / "one.config.yaml").read_text()
    assert resolved.startswith("# Resolved configuration of one.safetensors, regularisation ")
    for found in (yaml.safe_load(resolved), json.loads((tmp_path / "two.json").read_text())):
        assert {name: found[name] for name in ("ridge", "curvature")} == chosen
    np.testing.assert_array_equal(one.pair_coefficients, two.pair_coefficients)


def test_infer_with_checks_answers_by_its_exit_code(folder, tmp_path):
    """The own losses of pairs, from a few frames of the liquid, pump energy into it, which NVE does not survive."""
    (tmp_path / "c.yaml").write_text(
        "form: pair\ngradient: agent\npair_functions: 16\ncutoff: 5 angstrom\nridge: 1e-6\ncurvature: 1e-6\n"
        f"data: [{{path: {folder / 'few.safetensors'}, name: liquid}}]\n"
    )
    output = ("-o", tmp_path / "m.safetensors")
    assert "add --check" in refused("infer", tmp_path / "c.yaml", "--check-time", "4 ps", *output)
    text = call("infer", tmp_path / "c.yaml", "--check", *output, code=1)
    assert re.search(r"--check runs at (299|300|301) K, the temperature of liquid\.", text)
    assert re.search(r"\nNot stable: curvature 1e-06, ridge 1e-06 \(failed: .*NVE\)", text)
    assert "NVE" in text.split("Stability")[1]
    checks = AgentLosses.load(tmp_path / "m.safetensors").metadata["stability"]
    assert len(checks) == 5
    assert not all(check["passed"] for check in checks)
    call("infer", tmp_path / "c.yaml", "--check", "--check-time", "20 fs", *output, "--overwrite")
    checks = AgentLosses.load(tmp_path / "m.safetensors").metadata["stability"]
    assert [one["time_ps"] for one in checks] == pytest.approx(5 * [0.02])


def test_infer_with_inverse_powers(folder, tmp_path):
    (tmp_path / "c.yaml").write_text(
        "form: quadratic\nbasis: inverse-powers\nfunctions: 3\ncutoff: 0.5\nridge: 1e-6\ncurvature: 1e-6\n"
        f"data: [{{path: {folder / 'few.safetensors'}}}]\n"
    )
    call("infer", tmp_path / "c.yaml", "-o", tmp_path / "m.safetensors", "--json", tmp_path / "i.json")
    train = json.loads((tmp_path / "i.json").read_text())["train"]
    assert train["force_rmse"]["all"] < 0.5 * train["force_rms"]["all"]
    assert AgentLosses.load(tmp_path / "m.safetensors").metadata["settings"]["basis"] == "inverse-powers"


def test_infer_with_channels_says_what_was_chosen(folder, tmp_path):
    (tmp_path / "c.yaml").write_text(
        "form: channels\nchannels: 3\ninvariants: [10, 20, 5]\nfunctions: 4\npair_functions: 6\ncutoff: 0.5\n"
        f"channel_cutoff: 0.4\nridge: 1e-6\ncurvature: 0\nmembers: 0\ndata: [{{path: {folder / 'few.safetensors'}}}]\n"
    )
    text = call("infer", tmp_path / "c.yaml", "-o", tmp_path / "m.safetensors", "--json", tmp_path / "i.json")
    losses = AgentLosses.load(tmp_path / "m.safetensors")
    choice = ChannelChoice.from_dict(losses.metadata["channels"])
    assert str(choice) in text.splitlines()
    assert json.loads((tmp_path / "i.json").read_text())["channels"] == choice.to_dict()
    assert (choice.functions, choice.pair_functions, choice.cutoff) == (4, 6, pytest.approx(0.4, abs=0.01))
    for name, mine in zip(losses.species, losses.channels, strict=True):
        assert sum(choice.channels[name].values()) == sum(map(len, mine.mixing.values()))
        assert sum(choice.invariants[name].values()) == len(mine.invariants)


def test_a_size_is_for_channels(folder, tmp_path):
    options = ("--data", folder / "few.safetensors", "-o", tmp_path / "m.safetensors", "--size", "small")
    assert "--form channels" in refused("infer", *options, "--form", "moment")
    assert "small or medium or large" in (said := refused("infer", *options[:-1], "2000", "--form", "channels"))
    assert "--max-coefficients" in said
    assert Settings.of({"size": "small"}).form == "channels"
    assert Settings.of({"size": "small", "form": "moment"}).form == "moment"


def test_infer_from_accelerations(tmp_path):
    """Accelerations are the targets by configuration or for lack of forces, and errors refer to them."""
    losses = random_losses("pair", "collective", SPECIES[:2])
    frames = verlet(losses, random_frames(1, n_atoms=24, least=0.2), 200)
    frames.save(tmp_path / "all.safetensors")
    replace(frames, forces=None).save(tmp_path / "bare.safetensors")
    figures = []
    for name, more in (("all", ", targets: accelerations"), ("bare", "")):
        (tmp_path / f"{name}-in.yaml").write_text(
            "form: pair\ncutoff: 0.5\npair_functions: 6\nintervals: 60\nridge: 1e-9\ncurvature: 0\n"
            f"data: [{{path: {name}.safetensors, gap: 0, name: data{more}}}]\n"
        )
        model, found = tmp_path / f"{name}-model.safetensors", tmp_path / f"{name}.json"
        text = call("infer", tmp_path / f"{name}-in.yaml", "-o", model, "--json", found)
        rows = [line.split() for line in text.splitlines()]
        assert rows.count(["targets", "accelerations"]) == 2
        figures.append(json.loads(found.read_text()))
        assert AgentLosses.load(model).metadata["data"][0]["targets"] == "accelerations"
    assert figures[0]["train"] == figures[1]["train"]
    assert figures[0]["test"]["targets"] == "accelerations"
    assert figures[0]["test"]["frames"] == 2
    assert 0.0 < figures[0]["test"]["force_rmse"]["all"] < figures[0]["test"]["force_rms"]["all"]
    text = call("evaluate", tmp_path / "all-model.safetensors", tmp_path / "bare.safetensors")
    assert "accelerations" in text


def test_evaluate(folder, tmp_path):
    figures = tmp_path / "e.json"
    text = call("evaluate", folder / "model.safetensors", folder / "test.safetensors", "--every", 5, "--json", figures)
    content = json.loads(figures.read_text())
    assert {"frames", "force_rmse", "force_rms", "energy_rmse_per_atom", "units"} <= set(content)
    assert {"all", "H", "O", "molecular"} == set(content["force_rms"])
    assert content["units"].items() >= {"force": "meV/angstrom", "energy": "meV/atom"}.items()
    assert content["force_rmse"]["all"] < 130.0
    assert "molecules" in text
    judged = Calibration.from_dict(content["calibration"])
    assert judged.frames == content["frames"]
    assert set(judged.species) == {"H", "O"}
    assert str(judged) in text


def test_errors_are_evaluated_by_a_key_of_the_frames(folder, tmp_path):
    atoms = read(folder / "test.safetensors")[:5].to_ase()
    for number, one in enumerate(atoms):
        one.info["config_type"] = "late" if number > 2 else "early"
    ase.io.write(tmp_path / "a.xyz", atoms, format="extxyz")
    command = ("evaluate", folder / "model.safetensors", tmp_path / "a.xyz", "--by")
    lines = [line.split() for line in call(*command, "config_type", "--json", tmp_path / "a.json").splitlines()]
    assert ["early", "3"] in [line[:2] for line in lines]
    assert ["late", "2"] in [line[:2] for line in lines]
    groups = json.loads((tmp_path / "a.json").read_text())["groups"]
    assert groups["late"]["force_rmse"]["all"] > 0.0
    assert "no frame has the key 'kind'" in call(*command, "kind", code=2)


def test_evaluate_without_a_committee_prints_no_uncertainty(folder, tmp_path):
    replace(water_losses("collective"), committee=None).save(tmp_path / "m.safetensors")
    figures = tmp_path / "e.json"
    text = call("evaluate", tmp_path / "m.safetensors", folder / "test.safetensors", "--every", 9, "--json", figures)
    assert "calibration" not in json.loads(figures.read_text())
    assert "uncertainty" not in text


@pytest.fixture(scope="module")
def run(folder):
    """A short run of learning dynamics, with its results as JSON."""
    directory = folder / "run"
    call(
        *("simulate", folder / "model.safetensors", "--start", folder / "liquid.safetensors", "-o", directory),
        *("--time", "0.1", "--report", "2 fs", "--platform", "CPU", "--seed", 5, "--json", folder / "s.json"),
    )
    return directory


def test_infer_with_selection_kept_equations_and_a_learning_curve(folder, tmp_path):
    model = tmp_path / "small.safetensors"
    options = ("--max-coefficients", 60, "--keep-equations", "--learning-curve", "--json", tmp_path / "infer.json")
    printed = call(
        "infer", "--data", folder / "few.safetensors", "--form", "pair", "--cutoff", 0.6, "-o", model, *options
    )
    assert "Selected: pair H-H" in printed
    assert "Learning curve" in printed
    assert (tmp_path / "small-learning-curve.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "infer.json").read_text())["coefficients"] == 60
    assert AgentLosses.load(model).equations


def test_simulate(run, folder):
    figures = json.loads((folder / "s.json").read_text())
    assert figures["ms_per_step"] > 0.0
    assert any(path.suffix == ".dcd" for path in run.iterdir())
    text = call(
        *("simulate", folder / "model.safetensors", "--start", folder / "liquid.safetensors", "-o", run),
        *("--time", "0.1", "--report", "2 fs", "--platform", "CPU", "--seed", 5),
    )
    assert text.strip()


def test_compare(run, folder, tmp_path):
    reference, figures = folder / "few.safetensors", tmp_path / "c.json"
    outputs = ("-o", tmp_path, "--json", figures)
    result = CliRunner().invoke(main, [str(a) for a in ("compare", run, reference, *outputs)])
    content = json.loads(figures.read_text())
    assert result.exit_code == (1 if content["agrees"] is False else 0), result.output
    assert "Too short to tell" in result.output
    assert {"rdf", "integrity", "bond_length", "angle", "verdict"} <= set(content)
    assert set(content["rdf"]) == {"O-O", "H-O", "H-H"} or set(content["rdf"]) == {"O-O", "O-H", "H-H"}
    assert list(tmp_path.glob("*.html"))
    assert "exists already" in refused("compare", run, reference, "-o", tmp_path)
    call("compare", run, reference, *outputs, "--overwrite", code=result.exit_code)


@pytest.mark.parametrize(
    ("frames", "bond", "code", "conclusion", "first"),
    [
        (120, 0.1, 0, "no_difference", "No difference found at p < 0.01 (joint)"),
        (120, 0.104, 1, "differs", "The run differs in H–O length"),
        (20, 0.1, 0, "too_short", "Too short to tell"),
    ],
)
def test_headline_sentences_page_json_and_exit_code_say_the_same(
    tmp_path, frames, bond, code, conclusion, first, monkeypatch
):
    monkeypatch.setattr(page_of_report, "figures", lambda comparison: {})  # they take most of the time
    made.water(120, 1).save(tmp_path / "reference.safetensors")
    directory = made.write_run(tmp_path / "run", made.water(frames, 3, bond=bond))
    text = call("compare", directory, tmp_path / "reference.safetensors", code=code)
    line = next(
        line
        for line in text.split("\n")
        if not line.startswith(("structure", "spectrum", "bonds", "motion")) and line.strip()
    )
    assert line.startswith(first)
    found = json.loads((directory / "report" / "compare.json").read_text())
    page = (directory / "report" / "report.html").read_text().replace("\u00a0", " ")
    assert found["headline"] == line
    assert found["conclusion"] == conclusion
    assert found["agrees"] is {"no_difference": True, "differs": False, "too_short": None}[conclusion]
    assert line.replace("<", "&lt;") in page
    assert ('<h1 class="open">' in page) == (conclusion == "too_short")
    assert [sentence for sentence in found["verdict"] if f"- {sentence}" not in text] == []
    differing = [name for name, test in found["tests"].items() if test["differs"]]
    assert bool(differing) == bool(found["differs_in"]) == (code == 1)
    assert page.count('<span class="no">') == len(found["differs_in"])
    assert any(" differs" in sentence for sentence in found["verdict"]) == (code == 1)
    cells = re.findall(r"<td><span class=[^>]*>[^<]*</span><small>([^<]*)</small></td>", page)
    assert cells
    assert all(cells)
    if conclusion != "too_short":
        assert (found["joint_p_value"] < 0.01) == (code == 1)


def test_losses_without_a_potential_say_what_they_pump(folder, tmp_path):
    model, figures = tmp_path / "mutual.safetensors", tmp_path / "figures.json"
    choices = ("--form", "pair", "--gradient", "mutual", "--cutoff", 0.5, "--max-pump", 0.5)
    text = call("infer", "--data", folder / "few.safetensors", *choices, "-o", model, "--json", figures)
    assert "Predicted pump at 300 K" in text
    found = json.loads(figures.read_text())["pump"]
    assert 0.0 < found["test"] < 1.0
    text = call("evaluate", model, folder / "test.safetensors", "--json", tmp_path / "evaluated.json")
    assert "In a Langevin bath" in text
    assert json.loads((tmp_path / "evaluated.json").read_text())["pump"] == pytest.approx(found["test"], rel=1.0)
    text = monitored(model, folder, tmp_path / "run", "--integrator", "langevin", "--friction", "4/ps")
    assert "no potential energy" in text
    assert "with a friction of 4/ps" in text
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    measured = record["measured_pump"]
    assert f"Measured pump: {measured['mean']:.3g} ± {measured['error']:.2g} kJ/mol per atom and ps" in text
    assert f"; predicted at 300 K: {found['test']:.3g}." in text
    assert record["model"]["pump"] == found
    log = (tmp_path / "run" / "log.csv").read_text().splitlines()
    assert {"temperature_H_K", "temperature_O_K"} < set(log[0].split(","))
    second = tmp_path / "second.safetensors"
    more = ("--unlabelled", tmp_path / "run", "-o", second, "--json", tmp_path / "second.json")
    call("infer", "--data", folder / "few.safetensors", *choices[:-2], *more)
    assert json.loads((tmp_path / "second.json").read_text())["pump"]["unlabelled"] > 0.0
    assert f"unlabelled:\n- {tmp_path / 'run'}\n" in second.with_suffix(".config.yaml").read_text()
    refusal = refused("infer", "--data", folder / "few.safetensors", "--pump", 0.1, "-o", tmp_path / "no.safetensors")
    assert "have a potential" in refusal


def test_a_run_that_stops_early_ends_with_code_1(folder, tmp_path):
    start = ("--start", folder / "liquid.safetensors", "-o", tmp_path / "run", "--platform", "CPU", "--seed", 5)
    more = ("--temperature", 3000, "--time", 0.3, "--report", "5 fs", "--json", tmp_path / "s.json")
    text = call("simulate", folder / "model.safetensors", *start, *more, code=1)
    assert "last_good.pdb" in text
    assert json.loads((tmp_path / "s.json").read_text())["status"] == "stopped"
    assert (tmp_path / "run" / "last_good.pdb").is_file()
    assert "exists already" in refused("simulate", folder / "model.safetensors", *start, *more)


def test_fixed_atoms_stay_where_they_are_and_a_run_with_others_is_another(folder, tmp_path):
    run = ("simulate", folder / "model.safetensors", "--start", folder / "liquid.safetensors", "-o", tmp_path / "run")
    more = ("--platform", "CPU", "--temperature", 300, "--seed", 5)
    call(*run, *more, "--time", 0.03, "--fixed", "0-2, 7")
    frames = mdtraj.load(tmp_path / "run/trajectory.dcd", top=tmp_path / "run/topology.pdb").xyz
    moved = np.ptp(frames, axis=0).max(axis=1)
    assert set(np.flatnonzero(moved == 0.0).tolist()) == {0, 1, 2, 7}
    assert json.loads((tmp_path / "run/run.json").read_text())["degrees_of_freedom"] == 3 * (len(moved) - 4)
    assert re.search("masses was .*; other_forces differs. Repeat", refused(*run, *more, "--time", 0.02, "--fixed", 3))
    for fixed, message in (
        ("0-1000", "no atom 1000"),
        ("0:2", "0-15,20"),
        ("5-2", "0-15,20"),
        ("-1", "0-15,20"),
        ("", "0-15,20"),
    ):
        assert message in refused(*run, *more, f"--fixed={fixed}")
    assert "--pressure" in refused(*run, *more, "--fixed", "0", "--pressure", "1 bar")


@pytest.mark.filterwarnings("ignore:the losses were inferred without stresses")
def test_the_mean_pressure_of_a_run_is_said_beside_the_one_that_is_set(folder, tmp_path):
    run = ("simulate", folder / "model.safetensors", "--start", folder / "liquid.safetensors", "-o", tmp_path / "run")
    more = ("--platform", "CPU", "--seed", 5, "--report", "0.5 fs", "--json", tmp_path / "s.json", "--overwrite")
    text = call(*run, *more, "--pressure", "-90 MPa", "--time", 0.03)
    found = json.loads((tmp_path / "s.json").read_text())["mean_pressure"]
    log = np.genfromtxt(tmp_path / "run" / "log.csv", delimiter=",", names=True)["pressure_MPa"]
    assert found["mean"] == pytest.approx(log[len(log) // 2 :].mean())
    assert f"the run: {found['mean']:,.4g} ± {found['error']:.2g} MPa (standard error); -90 is set" in text
    assert ("has not reached yet" in text) == (abs(found["mean"] + 90.0) > max(50.0, 5.0 * found["error"]))


def test_a_cell_wider_than_those_of_training_is_said_where_these_are_narrower_than_two_cutoffs():
    losses, cell = random_losses("pair", cutoff=0.5), 0.1 * np.eye(3)

    def note(known, here):
        known_losses = replace(losses, metadata={"data": [{"widest_cell": known}, {"widest_cell": None}]})
        return narrow_cells(known_losses, Start(np.zeros((1, 3)), SPECIES[:1], None if here is None else here * cell))

    assert "at most 8 Å wide, less than two cutoffs, and this one is 16 Å" in note(0.8, 16)
    assert not note(0.8, 9)
    assert not note(1.1, 22)
    assert not note(None, 22)
    assert not note(0.8, None)


def test_the_vacuum_of_a_slab_under_pressure_is_said():
    losses, rng = random_losses("pair", cutoff=0.5), np.random.default_rng(0)
    cell = np.array([[1.0, 0.0, 0.0], [0.5, 0.9, 0.0], [0.0, 0.0, 3.0]])
    inside = rng.uniform(size=(200, 3))

    def note(thickness, shift=0.0):
        return vacuum(losses, Start((inside * [1.0, 1.0, thickness] + [0.0, 0.0, shift]) @ cell, 200 * ("Ar",), cell))

    assert "empty over 18 Å along c, which" in note(0.4)
    assert note(0.4, shift=0.8) == note(0.4)  # across the faces of the cell
    assert not note(0.95)
    assert not vacuum(losses, Start(inside, 200 * ("Ar",), None))


def test_a_composition_that_no_frame_has_is_said():
    losses, cell = random_losses("pair"), np.eye(3)

    def note(data, cell=None):
        return new_cluster(replace(losses, metadata={"data": data}), Start(np.zeros((3, 3)), ("H", "H", "O"), cell))

    assert "no frame of the data is an isolated H2O" in note([{"clusters": ["H4O2"]}, {"clusters": []}])
    assert not note([{"clusters": ["H4O2"]}, {"clusters": ["H2O"]}])
    assert not note([{"clusters": ["H4O2"]}], cell)
    assert not note([{"clusters": ["H4O2"]}, {"clusters": None}])  # too many
    assert not note([{}])  # an older model
    assert not note([])


@pytest.fixture(scope="module")
def low_limit(folder):
    """A model whose limit of the predicted force error is always exceeded."""
    losses = water_losses("collective")
    committee = replace(losses.committee, limit=1e-3 * losses.committee.limit)
    replace(losses, committee=committee).save(folder / "low-limit.safetensors")
    return folder / "low-limit.safetensors"


def monitored(model, folder, directory, *more, code=0):
    start = ("--start", folder / "test.safetensors", "-o", directory, "--platform", "CPU", "--seed", 5)
    return call("simulate", model, *start, "--time", "20 fs", "--report", "5 fs", *more, code=code)


def test_a_monitor_warns_by_default_and_writes_what_it_is_asked_for(folder, low_limit, tmp_path):
    figures = tmp_path / "s.json"
    every = ("--monitor-interval", "10 fs", "--uncertainty", "--json", figures)
    text = monitored(low_limit, folder, tmp_path / "run", *every, code=1)  # every check alarms
    assert "3 alarms (alarms.csv)" in text
    assert json.loads(figures.read_text())["alarms"] == 3
    lines = (tmp_path / "run" / "alarms.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["step", "0", "20", "40"]
    assert len((tmp_path / "run" / "uncertainty.csv").read_text().splitlines()) == 4
    log = [line.split(",") for line in (tmp_path / "run" / "log.csv").read_text().splitlines()]
    assert log[0][-3:] == ["mean_force_uncertainty", "largest_force_uncertainty", "pressure_uncertainty_MPa"]
    assert [row[-2] == "nan" for row in log[1:]] == [True, False, True, False]
    assert {row[-1] for row in log[1:]} == {"nan"}  # a run without a pressure has no use for it


def test_a_monitor_stops_a_run_with_code_1_or_collects_its_frames_or_is_off(folder, low_limit, tmp_path):
    text = monitored(low_limit, folder, tmp_path / "stop", "--monitor", "stop", code=1)
    assert re.search(r"the monitor: [OH] \d+: predicted force error", text)
    assert (tmp_path / "stop" / "stopped.cif").is_file()
    monitored(low_limit, folder, tmp_path / "collect", "--monitor", "collect", "--monitor-interval", "5 fs")
    collected = read(tmp_path / "collect" / "collected.xyz")
    assert len(collected) == 1  # within 50 fs
    assert collected.species == read(folder / "test.safetensors").species
    assert "alarms" not in monitored(low_limit, folder, tmp_path / "off", "--monitor", "off")
    assert not (tmp_path / "off" / "alarms.csv").exists()
    every = ("simulate", low_limit, "--start", folder / "test.safetensors", "-o", tmp_path / "no")
    assert "leave out --monitor off" in refused(*every, "--monitor", "off", "--uncertainty")
    replace(water_losses("collective"), committee=None, domain=None).save(tmp_path / "bare.safetensors")
    assert "alarms" not in monitored(tmp_path / "bare.safetensors", folder, tmp_path / "bare")
    bare = ("simulate", tmp_path / "bare.safetensors", "--start", folder / "test.safetensors", "-o", tmp_path / "no")
    assert "neither a training domain nor a committee" in refused(*bare, "--monitor", "warn")
    assert not (tmp_path / "no").exists()


def test_export(folder, tmp_path):
    call("export", folder / "model.safetensors", "--start", folder / "test.safetensors", "-o", tmp_path / "files")
    frames = read(folder / "test.safetensors")
    positions, cell = frames.positions[-1], frames.cell(-1)
    expected = evaluate_agents(water_losses("collective"), positions, frames.species, cell).forces
    _, forces = torch.jit.load(str(tmp_path / "files" / "losses.pt"))(torch.tensor(positions), torch.tensor(cell))
    np.testing.assert_allclose(forces.numpy(), expected, atol=1e-6)
    system = mm.XmlSerializer.deserialize((tmp_path / "files" / "system.xml").read_text())
    assert system.getNumParticles() == 192
    pdb = app.PDBFile(str(tmp_path / "files" / "topology.pdb"))
    assert [atom.element.symbol for atom in pdb.topology.atoms()] == list(frames.species)
    message = refused(
        "export", folder / "model.safetensors", "--start", folder / "test.safetensors", "-o", tmp_path / "files"
    )
    assert "exists already" in message


def test_positions_of_cp2k_as_a_start_take_the_cell_of_their_project(folder, tmp_path):
    """Without the cell of its project a file of positions would be an open system."""
    frames = read(folder / "test.safetensors")[:1]
    edge = 10 * frames.cells[0][0, 0]
    (tmp_path / "w.inp").write_text(INPUT.replace("ABC 10.0 11.0 12.0", f"ABC {edge} {edge} {edge}"))
    rows = [
        f"{name} {x:.10f} {y:.10f} {z:.10f}"
        for name, (x, y, z) in zip(frames.species, 10 * frames.positions[0], strict=True)
    ]
    head = f"{len(rows)}\n i =        0, time =        0.000, E =       -17.0\n"
    (tmp_path / "w-pos-1.xyz").write_text(head + "\n".join(rows) + "\n")
    call("export", folder / "model.safetensors", "--start", tmp_path / "w-pos-1.xyz", "-o", tmp_path / "files")
    system = mm.XmlSerializer.deserialize((tmp_path / "files" / "system.xml").read_text())
    assert system.usesPeriodicBoundaryConditions()


def test_an_open_structure_needs_no_cell(folder, tmp_path):
    (tmp_path / "one.xyz").write_text("3\n\nO 0 0 0\nH 0.96 0 0\nH -0.24 0.93 0\n")
    call("export", folder / "model.safetensors", "--start", tmp_path / "one.xyz", "-o", tmp_path / "files")
    again = ("export", folder / "model.safetensors", "--start", tmp_path / "one.xyz", "-o", tmp_path / "more")
    assert "no cell" in refused(*again, "--supercell", 2, 1, 1)
    call(*again, "--cell", "20 angstrom", 2.0, 2.0, "--supercell", 2, 1, 1)
    system = mm.XmlSerializer.deserialize((tmp_path / "more" / "system.xml").read_text())
    assert system.getNumParticles() == 6
    edges = [np.linalg.norm(v.value_in_unit(unit.nanometer)) for v in system.getDefaultPeriodicBoxVectors()]
    assert np.allclose(edges, [4.0, 2.0, 2.0])
    own = ("--start", folder / "test.safetensors", "-o", tmp_path / "own", "--cell", 2, 2, 2)
    assert "cell of its own" in refused("export", folder / "model.safetensors", *own)


def test_a_start_is_any_frame_and_edges_of_a_cell_are_in_nm(folder, tmp_path):
    frames = read(folder / "test.safetensors").parts[0]
    for frame, t in ((-1, -1), (1, 1)):
        start = read_structure(folder / "test.safetensors", None, (1, 1, 1), frame)
        np.testing.assert_array_equal(start.positions, frames.positions[t])
    path = tmp_path / "bare.xyz"
    rows = "\n".join(
        f"{name} {x} {y} {z}" for name, (x, y, z) in zip(frames.species, 10 * frames.positions[0], strict=True)
    )
    path.write_text(f"{frames.n_atoms}\n\n{rows}\n")
    with pytest.warns(UserWarning, match="more than 5 times as wide as the structure; its edges are in nm"):
        read_structure(path, ("12.4", "12.4", "12.4"), (1, 1, 1))
    start = ("--start", path, "--cell", 1.24, 1.24, 1.24, "-o", tmp_path / "no")
    assert "frame 7" in refused("export", folder / "model.safetensors", *start, "--frame", 7)


def test_the_installed_command_ends_with_code_2_and_no_traceback(tmp_path):
    command = [sys.executable, "-m", "openmm_duality.cli", "inspect", str(tmp_path / "nothing")]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("openmm-duality: ")
    assert "Traceback" not in result.stderr


def test_inference_from_a_file_of_several_compositions(tmp_path):
    """Names are found or given, units are given, errors are listed by set, and figures have their keys."""
    losses = random_losses("pair", "collective", SPECIES[:2])
    for name, n, least in (("train.xyz", 8, 0.15), ("test.xyz", 4, 0.18)):  # no distance to extrapolate to
        images = []
        for frames in (random_frames(n, n_atoms=12, least=least), random_frames(n, n_atoms=20, seed=2, least=least)):
            for t in range(len(frames)):
                found = evaluate_agents(losses, frames.positions[t], frames.species, frames.cell(t))
                atoms = Atoms(frames.species, positions=frames.positions[t] * 10, cell=frames.cell(t) * 10, pbc=True)
                atoms.set_masses(frames.masses)
                atoms.arrays["REF_forces"] = found.forces / 41.84
                atoms.info |= {"REF_energy": found.energy / 4.184, "config_type": "made"}
                images.append(atoms)
        order = np.random.default_rng(0).permutation(len(images))
        ase.io.write(tmp_path / name, [images[k] for k in order], format="extxyz")
    text = call("inspect", tmp_path / "train.xyz", "--units", "kcal/mol", "--json", tmp_path / "s.json")
    assert "forces from 'REF_forces'" in text
    assert "not used: config_type" in text
    assert len(json.loads((tmp_path / "s.json").read_text())["compositions"]) == 2
    model = tmp_path / "m.safetensors"
    options = ("--units", "kcal/mol", "--forces-key", "REF_forces")
    text = call(
        *("infer", "--data", tmp_path / "train.xyz", "--test", tmp_path / "test.xyz", *options, "--form", "pair"),
        *("--cutoff", "0.5", "--energy-weight", "0.1", "-o", model, "--json", tmp_path / "i.json"),
    )
    content = json.loads((tmp_path / "i.json").read_text())
    assert (content["train"]["frames"], content["test"]["frames"]) == (16, 8)
    assert set(content["sets"]["test"]) == {"test.xyz"}
    assert 0 < content["memory"]["estimate"] < content["memory"]["bound"]
    assert content["peak_memory_MiB"] > 0.0
    for table in (content["train"], content["test"]):
        assert table["force_mae"].keys() == table["force_rmse"].keys() == table["force_rms"].keys()
        assert 0.0 < table["force_mae"]["all"] <= table["force_rmse"]["all"]
        assert table["energy_mae_per_atom"] <= table["energy_rmse_per_atom"]
    resolved = yaml.safe_load(model.with_suffix(".config.yaml").read_text())["data"][0]
    assert (resolved["units"], resolved["test_fraction"]) == ("kcal/mol", 0.0)
    call("evaluate", model, tmp_path / "test.xyz", *options, "--json", tmp_path / "e.json")
    assert json.loads((tmp_path / "e.json").read_text())["force_mae"] == pytest.approx(content["test"]["force_mae"])
    assert "--units is for --data" in refused(
        "infer", model.with_suffix(".config.yaml"), "--units", "eV", "-o", tmp_path / "n.safetensors"
    )
    with pytest.warns(UserWarning, match="not used"):
        read(tmp_path / "train.xyz").save(tmp_path / "saved.safetensors")
    assert "of one composition" in refused("compare", tmp_path, tmp_path / "saved.safetensors")
    small = ("infer", "--data", tmp_path / "saved.safetensors", "-o", tmp_path / "n.safetensors", "--memory")
    assert re.search(r"needs about .* but at most 1 MiB may be used; choose", refused(*small, "1 MiB"))
    assert "memory: expected a size such as '8 GiB'" in refused(*small, "much")
