"""The command line: every verb on small data, and every kind of bad input in one paragraph with exit code 2."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import openmm as mm
import pytest
import torch
import yaml
from click.testing import CliRunner
from openmm import app, unit

from openmm_duality.cli import main
from openmm_duality.losses import AgentLosses, evaluate_agents
from openmm_duality.reference import read
from tests.reference.conftest import INPUT, block
from tests.systems import SPECIES, labelled, random_frames, random_losses
from tests.water import liquid, water_losses

VERBS = ("inspect", "infer", "evaluate", "simulate", "compare", "export")


def call(*arguments, code=0):
    """Runs a command, checks its exit code, and returns what it printed."""
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    assert result.exit_code == code, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.output


def refused(*arguments):
    """The message of a command that must refuse its input: one paragraph, exit code 2."""
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    assert result.exit_code == 2, (result.exit_code, result.output, result.exception)
    assert isinstance(result.exception, SystemExit)
    message = result.stderr.strip()
    assert message.startswith("openmm-duality: ")
    assert "\n" not in message
    assert "Traceback" not in result.output
    return message


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Saved frames of water, all and few, and a model of water."""
    path = tmp_path_factory.mktemp("water")
    train, test = liquid()
    train.save(path / "liquid.safetensors")
    train[::9].save(path / "few.safetensors")
    test.save(path / "test.safetensors")
    water_losses("collective").save(path / "model.safetensors")
    return path


@pytest.fixture
def argon_krypton(tmp_path):
    """Saved frames of a little mixture."""
    path = tmp_path / "mixture.safetensors"
    labelled(random_frames(4), random_losses("pair", "collective", SPECIES[:2])).save(path)
    return path


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
    resolved = yaml.safe_load(model.with_suffix(".yaml").read_text())
    assert (resolved["gradient"], resolved["ridge"], resolved["data"][0]["every"]) == ("agent", 1e-6, 2)


def test_infer_from_data_alone_and_the_resolved_configuration_again(folder, tmp_path):
    call(
        *("infer", "--data", folder / "few.safetensors", "--form", "pair", "--gradient", "collective"),
        *("--cutoff", "0.5", "-o", tmp_path / "one.safetensors"),
    )
    call("infer", tmp_path / "one.yaml", "-o", tmp_path / "two.safetensors")
    one, two = (AgentLosses.load(tmp_path / f"{name}.safetensors") for name in ("one", "two"))
    np.testing.assert_array_equal(one.pair_coefficients, two.pair_coefficients)


def test_evaluate(folder, tmp_path):
    figures = tmp_path / "e.json"
    text = call("evaluate", folder / "model.safetensors", folder / "test.safetensors", "--every", 5, "--json", figures)
    content = json.loads(figures.read_text())
    assert {"frames", "force_rmse", "force_rms", "energy_rmse_per_atom", "units"} <= set(content)
    assert {"all", "H", "O", "molecular"} == set(content["force_rms"])
    assert content["units"] == {"force": "meV/angstrom", "energy": "meV/atom"}
    assert content["force_rmse"]["all"] < 130.0
    assert "molecules" in text


@pytest.fixture(scope="module")
def run(folder):
    """A short run of learning dynamics, and its figures."""
    directory = folder / "run"
    call(
        *("simulate", folder / "model.safetensors", "--start", folder / "liquid.safetensors", "-o", directory),
        *("--time", "0.1", "--report", "2 fs", "--platform", "CPU", "--seed", 5, "--json", folder / "s.json"),
    )
    return directory


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
    result = CliRunner().invoke(
        main,
        [
            "compare",
            str(run),
            str(folder / "liquid.safetensors"),
            "-o",
            str(tmp_path),
            "--json",
            str(tmp_path / "c.json"),
        ],
    )
    assert result.exit_code in (0, 1), result.output
    content = json.loads((tmp_path / "c.json").read_text())
    assert {"rdf", "integrity", "bond_length", "angle", "verdict"} <= set(content)
    assert set(content["rdf"]) == {"O-O", "H-O", "H-H"} or set(content["rdf"]) == {"O-O", "O-H", "H-H"}
    assert list(tmp_path.glob("*.html"))


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


class TestBadInput:
    """What is wrong is said; nothing is left half-written."""

    @pytest.fixture
    def cp2k(self, tmp_path):
        """Writes a CP2K project, its force file changed by a function."""

        def write(
            change=lambda text: text, steps=range(0, 60, 10), force_steps=None, labels=("O", "H", "H"), cell=True
        ):
            project = tmp_path / "cp2k"
            project.mkdir()
            text = INPUT if cell else INPUT.replace("ABC 10.0 11.0 12.0", "")
            (project / "w.inp").write_text(text)
            (project / "w-pos-1.xyz").write_text("".join(block(s, "pos") for s in steps))
            forces = "".join(block(s, "frc", labels) for s in (steps if force_steps is None else force_steps))
            (project / "w-frc-1.xyz").write_text(change(forces))
            return project

        return write

    def infer(self, data, tmp_path):
        message = refused(
            "infer", "--data", data, "--form", "pair", "--cutoff", "0.4", "-o", tmp_path / "m" / "m.safetensors"
        )
        assert not (tmp_path / "m").exists()
        return message

    def test_a_truncated_force_file(self, cp2k, tmp_path):
        assert "w-frc-1.xyz" in self.infer(cp2k(lambda text: text[: len(text) - 40]), tmp_path)

    def test_another_order_of_atoms_in_positions_and_forces(self, cp2k, tmp_path):
        assert "w-frc-1.xyz" in self.infer(cp2k(labels=("H", "O", "H")), tmp_path)

    def test_positions_and_forces_that_have_no_steps_in_common(self, cp2k, tmp_path):
        assert self.infer(cp2k(force_steps=range(5, 65, 10)), tmp_path)

    def test_a_missing_cell(self, cp2k, tmp_path):
        assert "cell" in self.infer(cp2k(cell=False), tmp_path).lower()

    def test_nan_in_the_forces(self, cp2k, tmp_path):
        def spoil(text):
            lines = text.split("\n")
            lines[3] = "  H 0.1 NaN 0.3"
            return "\n".join(lines)

        assert self.infer(cp2k(spoil), tmp_path)

    def test_no_data(self, tmp_path):
        assert "nowhere" in self.infer(tmp_path / "nowhere", tmp_path)

    def test_a_cutoff_too_long_for_the_cell(self, folder, tmp_path):
        message = refused(
            "infer", "--data", folder / "few.safetensors", "--cutoff", "7 angstrom", "-o", tmp_path / "m.safetensors"
        )
        assert "half the shortest width" in message
        assert not list(tmp_path.iterdir())

    def test_an_unknown_key_of_the_configuration(self, tmp_path):
        (tmp_path / "c.yaml").write_text("cutof: 0.6\ndata: [x]\n")
        message = refused("infer", tmp_path / "c.yaml", "-o", tmp_path / "m.safetensors")
        assert "cutof" in message
        assert [p.name for p in tmp_path.iterdir()] == ["c.yaml"]

    def test_neither_or_both_of_configuration_and_data(self, tmp_path):
        assert "either" in refused("infer", "-o", tmp_path / "m.safetensors")
        assert "either" in refused("infer", "c.yaml", "--data", "x", "-o", tmp_path / "m.safetensors")

    def test_outputs_that_would_be_overwritten(self, argon_krypton, tmp_path):
        model = tmp_path / "m.safetensors"
        for name in ("m.safetensors", "m.yaml"):
            (tmp_path / name).write_text("precious")
            assert "exists already" in refused("infer", "--data", argon_krypton, "-o", model)
            assert (tmp_path / name).read_text() == "precious"
            assert {p.name for p in tmp_path.iterdir()} == {name, argon_krypton.name}
            (tmp_path / name).unlink()

    def test_a_configuration_is_never_replaced_by_its_resolved_self(self, tmp_path):
        config = tmp_path / "c.yaml"
        config.write_text("data: [x]\n")
        assert "the configuration itself" in refused("infer", config, "-o", tmp_path / "c.safetensors", "--overwrite")
        assert config.read_text() == "data: [x]\n"

    def test_species_that_the_model_does_not_know(self, folder, argon_krypton, tmp_path):
        figures = tmp_path / "e.json"
        assert "Ar, Kr" in refused("evaluate", folder / "model.safetensors", argon_krypton, "--json", figures)
        start = ("--start", argon_krypton, "-o", tmp_path / "run")
        assert "Ar, Kr" in refused("simulate", folder / "model.safetensors", *start)
        assert "Ar, Kr" in refused("export", folder / "model.safetensors", *start)
        assert [p.name for p in tmp_path.iterdir()] == [argon_krypton.name]

    @pytest.mark.parametrize("verb", ["evaluate", "simulate", "export"])
    def test_a_model_file_that_is_none_or_is_cut_short(self, folder, tmp_path, verb):
        short = tmp_path / "short.safetensors"
        content = (folder / "model.safetensors").read_bytes()
        short.write_bytes(content[: len(content) // 2])
        for model in (short, folder / "few.safetensors", tmp_path / "none"):
            data = folder / "test.safetensors"
            rest = (data,) if verb == "evaluate" else ("--start", data, "-o", tmp_path / "run")
            assert "expected a file of the format" in refused(verb, model, *rest)
        assert [p.name for p in tmp_path.iterdir()] == ["short.safetensors"]

    @pytest.mark.parametrize(
        ("option", "value", "message"),
        [
            ("--timestep", "0", "above zero"),
            ("--timestep", "1 nm", "not a quantity"),
            ("--time", "-1", "above zero"),
            ("--time", "soon", "expected a number"),
            ("--report", "0", "above zero"),
            ("--friction", "0", "above zero"),
            ("--temperature", "-3 K", "above zero"),
            ("--backend", "jax", "not known"),
            ("--platform", "Abacus", "Abacus"),
        ],
    )
    def test_options_out_of_range(self, folder, tmp_path, option, value, message):
        start = ("--start", folder / "test.safetensors", "-o", tmp_path / "run")
        assert message in refused("simulate", folder / "model.safetensors", *start, option, value)
        assert not (tmp_path / "run").exists()

    def test_a_run_that_is_none(self, folder, tmp_path):
        assert refused("compare", tmp_path / "nothing", folder / "test.safetensors")
        assert not list(tmp_path.iterdir())


def test_positions_of_cp2k_as_a_start_take_the_cell_of_their_project(folder, tmp_path):
    """A file of positions alone would be an open system."""
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


def test_the_installed_command_ends_with_code_2_and_no_traceback(tmp_path):
    command = [sys.executable, "-m", "openmm_duality.cli", "inspect", str(tmp_path / "nothing")]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("openmm-duality: ")
    assert "Traceback" not in result.stderr
