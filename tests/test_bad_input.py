"""The command line on bad input: an error of one paragraph, exit code 2, and no incomplete files."""

from __future__ import annotations

import gzip
import lzma
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from openmm_duality.cli import main
from openmm_duality.container import read_container, write_container
from openmm_duality.reference import read
from tests.command import call, refused
from tests.reference.conftest import INPUT, block
from tests.systems import SPECIES, labelled, random_frames, random_losses


@pytest.fixture
def argon_krypton(tmp_path):
    """Saved frames of a small mixture."""
    path = tmp_path / "mixture.safetensors"
    labelled(random_frames(4), random_losses("pair", "collective", SPECIES[:2])).save(path)
    return path


@pytest.fixture
def cp2k(tmp_path):
    """A function that writes a CP2K project, with its force file modified by a given function."""

    def write(change=lambda text: text, steps=range(0, 60, 10), force_steps=None, labels=("O", "H", "H"), cell=True):
        project = tmp_path / "cp2k"
        project.mkdir()
        text = INPUT if cell else INPUT.replace("ABC 10.0 11.0 12.0", "")
        (project / "w.inp").write_text(text)
        (project / "w-pos-1.xyz").write_text("".join(block(s, "pos") for s in steps))
        forces = "".join(block(s, "frc", labels) for s in (steps if force_steps is None else force_steps))
        (project / "w-frc-1.xyz").write_text(change(forces))
        return project

    return write


def infer(data, tmp_path):
    message = refused(
        "infer", "--data", data, "--form", "pair", "--cutoff", "0.4", "-o", tmp_path / "m" / "m.safetensors"
    )
    assert not (tmp_path / "m").exists()
    return message


def test_a_truncated_force_file(cp2k, tmp_path):
    assert "w-frc-1.xyz" in infer(cp2k(lambda text: text[: len(text) - 40]), tmp_path)


def test_another_order_of_atoms_in_positions_and_forces(cp2k, tmp_path):
    assert "w-frc-1.xyz" in infer(cp2k(labels=("H", "O", "H")), tmp_path)


def test_positions_and_forces_that_have_no_steps_in_common(cp2k, tmp_path):
    assert "no step in common" in infer(cp2k(force_steps=range(5, 55, 10)), tmp_path)


def test_positions_and_forces_of_different_lengths(cp2k, tmp_path):
    message = infer(cp2k(force_steps=range(0, 40, 10)), tmp_path)
    assert "w-frc-1.xyz ends at step 30 (4 frames)" in message
    assert "cut the longer one off after step 30" in message


def test_a_missing_cell(cp2k, tmp_path):
    assert "cell" in infer(cp2k(cell=False), tmp_path).lower()


def test_nan_in_the_forces(cp2k, tmp_path):
    def spoil(text):
        lines = text.split("\n")
        lines[3] = "  H 0.1 NaN 0.3"
        return "\n".join(lines)

    message = infer(cp2k(spoil), tmp_path)
    assert "atom 2 at step 0 is not a finite number" in message


@pytest.mark.parametrize("suffix", ["xz", "gz"])
@pytest.mark.parametrize("name", ["w-1.ener", "w.inp", "w-pos-1.xyz"])
def test_compressed_files_that_are_damaged(cp2k, tmp_path, name, suffix):
    """Truncated files, files damaged in the middle, and files of another kind with the same name."""
    project = cp2k()
    rows = "".join(f"{step} {0.5 * step} 0.1 300.0 -17.0 -16.9 0.01\n" for step in range(0, 60, 10))
    (project / "w-1.ener").write_text("# step time kin temp pot cons used\n" + rows)
    whole = (lzma if suffix == "xz" else gzip).compress((project / name).read_bytes())
    packed = project / f"{name}.{suffix}"
    (project / name).unlink()
    packed.write_bytes(whole)
    assert "missing" in call("inspect", project)
    middle = len(whole) // 2
    spoilt = bytearray(whole)
    spoilt[middle : middle + 8] = bytes(b ^ 0xFF for b in spoilt[middle : middle + 8])
    for content in (whole[:middle], bytes(spoilt), b"no archive"):
        packed.write_bytes(content)
        assert packed.name in infer(project, tmp_path)


def test_an_empty_table_of_energies(cp2k, tmp_path):
    project = cp2k()
    (project / "w-1.ener").write_text("")
    assert "w-1.ener: expected lines of at least 6 numbers, and there are none" in infer(project, tmp_path)


@pytest.mark.parametrize("apart", [0.0, 1e-4])
def test_two_atoms_at_one_place(argon_krypton, tmp_path, apart):
    frames = read(argon_krypton)
    positions = frames.positions.copy()
    positions[1, 7] = positions[1, 3] + [apart, 0.0, 0.0]
    replace(frames, positions=positions).save(argon_krypton, overwrite=True)
    message = infer(argon_krypton, tmp_path)
    assert f"step 1 of made has the atoms 4 ({frames.species[3]}) and 8 ({frames.species[7]})" in message


def test_no_data(tmp_path):
    assert "nowhere" in infer(tmp_path / "nowhere", tmp_path)
    for name in ("nowhere.xyz", "nowhere.extxyz", "nowhere.xyz.xz"):
        assert f"{name}: there is no such file" in refused("inspect", tmp_path / name)


def test_a_configuration_that_is_no_yaml(tmp_path):
    (tmp_path / "c.yaml").write_text("form: pair\ndata: [x\ncutoff: 0.6\n")
    message = refused("infer", tmp_path / "c.yaml", "-o", tmp_path / "m.safetensors")
    assert "line 3, column 7" in message
    (tmp_path / "c.yaml").write_bytes(b"form: \xff\xfe\n")
    assert "YAML" in refused("infer", tmp_path / "c.yaml", "-o", tmp_path / "m.safetensors")


@pytest.mark.parametrize("name", ["mm.yaml", "mm", "mm.pt"])
def test_a_model_by_another_suffix(argon_krypton, tmp_path, name):
    message = refused("infer", "--data", argon_krypton, "-o", tmp_path / name, "--overwrite")
    assert "must end in .safetensors" in message
    assert [p.name for p in tmp_path.iterdir()] == [argon_krypton.name]


@pytest.mark.parametrize("array", ["masses", "pair_basis", "basis", "pair_coefficients", "weights_0", "shortest"])
def test_a_model_whose_arrays_do_not_fit_each_other(folder, tmp_path, array):
    kind = "openmm_duality losses 4"
    arrays, header = read_container(folder / "model.safetensors", kind)
    for change in (
        lambda a: a[..., :-1],
        lambda a: a[None],
        lambda a: a.astype(np.float32),
        lambda a: np.full_like(a, np.inf),
    ):
        write_container(tmp_path / "m.safetensors", kind, arrays | {array: change(arrays[array])}, header, True)
        message = refused("evaluate", tmp_path / "m.safetensors", folder / "test.safetensors")
        assert "the model file is damaged" in message


def test_targets_that_are_not_there(argon_krypton, tmp_path):
    replace(read(argon_krypton), forces=None).save(tmp_path / "bare.safetensors")
    for targets, message in (("forces", "holds none"), ("velocities", "targets: expected auto or forces")):
        (tmp_path / "c.yaml").write_text(f"data: [{{path: bare.safetensors, targets: {targets}}}]\n")
        assert message in refused("infer", tmp_path / "c.yaml", "-o", tmp_path / "m.safetensors")


def test_an_unknown_key_of_the_configuration(tmp_path):
    (tmp_path / "c.yaml").write_text("cutof: 0.6\ndata: [x]\n")
    message = refused("infer", tmp_path / "c.yaml", "-o", tmp_path / "m.safetensors")
    assert "cutof" in message
    assert [p.name for p in tmp_path.iterdir()] == ["c.yaml"]


def test_a_temperature_is_for_the_checks(tmp_path):
    message = refused("infer", "--data", "x", "-o", tmp_path / "m.safetensors", "--temperature", "300 K")
    assert "add --check" in message


def test_neither_or_both_of_configuration_and_data(tmp_path):
    assert "either" in refused("infer", "-o", tmp_path / "m.safetensors")
    assert "either" in refused("infer", "c.yaml", "--data", "x", "-o", tmp_path / "m.safetensors")


def test_outputs_that_would_be_overwritten(argon_krypton, tmp_path):
    model = tmp_path / "m.safetensors"
    for name, content in (("m.safetensors", "precious"), ("m.config.yaml", "# Resolved configuration of another")):
        (tmp_path / name).write_text(content)
        assert "exists already" in refused("infer", "--data", argon_krypton, "-o", model)
        assert (tmp_path / name).read_text() == content
        assert {p.name for p in tmp_path.iterdir()} == {name, argon_krypton.name}
        (tmp_path / name).unlink()


def test_figures_that_would_be_overwritten(folder, argon_krypton, tmp_path):
    """Outputs are checked before the work: the data and models named here need not exist."""
    figures = tmp_path / "f.json"
    figures.write_text("precious")
    nothing = tmp_path / "nothing"
    for command in (
        ("inspect", nothing),
        ("infer", "--data", nothing, "-o", tmp_path / "m.safetensors"),
        ("evaluate", nothing, nothing),
        ("simulate", nothing, "--start", nothing, "-o", tmp_path / "run"),
        ("compare", nothing, nothing),
    ):
        assert "f.json exists already" in refused(*command, "--json", figures)
        assert "is a folder" in refused(*command, "--json", tmp_path, "--overwrite")
        assert "f.json" not in refused(*command, "--json", figures, "--overwrite")
    assert figures.read_text() == "precious"
    assert {p.name for p in tmp_path.iterdir()} == {figures.name, argon_krypton.name}
    call("inspect", argon_krypton, "--json", figures, "--overwrite")
    assert figures.read_text() != "precious"


def test_a_report_that_would_be_overwritten(tmp_path):
    """Outputs are checked before the work, which would fail because there is no run."""
    for name in ("compare.json", "report.html"):
        (tmp_path / name).write_text("precious")
        assert f"{name} exists already" in refused("compare", tmp_path / "no", tmp_path / "no", "-o", tmp_path)
        assert (tmp_path / name).read_text() == "precious"
        (tmp_path / name).unlink()


def test_two_outputs_in_one_file(argon_krypton, tmp_path):
    model = tmp_path / "m.safetensors"
    assert "written twice" in refused(
        "infer", "--data", argon_krypton, "-o", model, "--json", tmp_path / "m.config.yaml"
    )


def test_outputs_where_no_file_can_be(argon_krypton, tmp_path):
    for path in (argon_krypton / "under-a-file.json", tmp_path / ("x" * 300)):
        assert str(path.name) in refused("inspect", argon_krypton, "--json", path)
    assert [p.name for p in tmp_path.iterdir()] == [argon_krypton.name]


def test_what_readers_notice_is_a_note(cp2k):
    """Warnings are printed in one line, without the location in the code, and the command continues."""
    project = cp2k(steps=[0, 10, 20, 10, 20, 30], force_steps=[0, 10, 20, 30])
    result = CliRunner().invoke(main, ["inspect", str(project)])
    assert result.exit_code == 0
    notes = result.stderr.strip().splitlines()
    assert all(line.startswith("openmm-duality: note: ") for line in notes)
    for note, said in zip(notes, ("a restart repeated steps", "add up to"), strict=True):
        assert said in note


def test_a_configuration_of_the_user_is_never_replaced(tmp_path):
    """Not even with --overwrite; the resolved configuration of an earlier inference is."""
    for content in ("data: [x]\n", "# Resolved configuration of c.safetensors\ndata: [x]\n"):
        config = tmp_path / "c.config.yaml"
        config.write_text(content)
        message = refused("infer", config, "-o", tmp_path / "c.safetensors", "--overwrite")
        assert "choose another name for the model" in message
        assert config.read_text() == content
    assert "no such CP2K project" in refused(
        "infer", "--data", tmp_path / "no", "-o", tmp_path / "c.safetensors", "--overwrite"
    )


def test_species_that_the_model_does_not_know(folder, argon_krypton, tmp_path):
    figures = tmp_path / "e.json"
    assert "Ar, Kr" in refused("evaluate", folder / "model.safetensors", argon_krypton, "--json", figures)
    start = ("--start", argon_krypton, "-o", tmp_path / "run")
    assert "Ar, Kr" in refused("simulate", folder / "model.safetensors", *start)
    assert "Ar, Kr" in refused("export", folder / "model.safetensors", *start)
    assert [p.name for p in tmp_path.iterdir()] == [argon_krypton.name]


@pytest.mark.parametrize("verb", ["simulate", "export"])
def test_a_model_file_that_is_none_or_is_cut_short(folder, tmp_path, verb):
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
        ("--timestep", "2", "2 ps is longer than any vibration"),
        ("--time", "0.1 fs", "shorter than a time step"),
        ("--time", "-1", "above zero"),
        ("--time", "soon", "expected a number"),
        ("--report", "0", "above zero"),
        ("--friction", "0", "above zero"),
        ("--friction=1/ps", "--integrator=verlet", "--friction has no effect with --integrator verlet"),
        ("--temperature", "-3 K", "above zero"),
        ("--backend", "jax", "not known"),
        ("--platform", "Abacus", "Abacus"),
    ],
)
def test_options_out_of_range(folder, tmp_path, option, value, message):
    start = ("--start", folder / "test.safetensors", "-o", tmp_path / "run")
    assert message in refused("simulate", folder / "model.safetensors", *start, option, value)
    assert not (tmp_path / "run").exists()


def test_a_run_that_is_none(folder, tmp_path):
    assert refused("compare", tmp_path / "nothing", folder / "test.safetensors")
    assert not list(tmp_path.iterdir())
