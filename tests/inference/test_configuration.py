"""Strict reading of configurations and checks of settings."""

from __future__ import annotations

from dataclasses import replace

import ase.io
import numpy as np
import pytest
from ase import Atoms
from openmm import unit

from openmm_duality.errors import DualityError
from openmm_duality.inference import DataSet, Settings, evaluate, infer
from openmm_duality.inference.configuration import InferenceConfig
from openmm_duality.losses.forms import form_of
from openmm_duality.units import ELECTRONVOLT, HARTREE
from tests.reference.conftest import INPUT, block
from tests.systems import SPECIES, labelled, random_frames, random_losses


def load(tmp_path, text):
    (tmp_path / "c.yaml").write_text(text)
    return InferenceConfig.load(tmp_path / "c.yaml")


def test_a_configuration_is_read(tmp_path):
    config = load(
        tmp_path,
        "form: pair\ngradient: agent\ncutoff: 5 angstrom\nridge: 1e-7\n"
        "data:\n  - one\n  - {path: sub/two, name: 2nd, weight: 0.5, every: 3, gap: 20 fs}\n",
    )
    assert config.settings == Settings(form="pair", gradient="agent", cutoff=0.5, ridge=1e-7)
    assert [(d.name, d.weight, d.every, d.gap) for d in config.data] == [("one", 1.0, 1, 0.5), ("2nd", 0.5, 3, 0.02)]


def test_a_resolved_configuration_is_read_back_from_another_folder(tmp_path):
    config = load(
        tmp_path,
        "cutoff: 0.5\nform: coupled\nranks: [0, 1, 3]\ncoupled_ranks: 2\nenergy_weight: 0.1\nfunctions: 2\n"
        "knots: {O-H: [0.9 angstrom, 0.2, 0.5]}\ndata: [{path: sub/two, weight: 0.5}]\nunlabelled: run\n",
    )
    assert config.settings.agent_form == form_of("coupled", [0, 1, 3], [2])
    assert config.settings.knots == {"H-O": (pytest.approx(0.09), 0.2, 0.5)}
    (tmp_path / "there").mkdir()
    written = tmp_path / "there" / "r.yaml"
    written.write_text(config.to_yaml(written.parent))
    again = InferenceConfig.load(written)
    assert again.settings == config.settings
    assert (again.folder / again.data[0].path).resolve() == (tmp_path / "sub" / "two").resolve()
    assert again.data[0].weight == 0.5
    assert [(again.folder / path).resolve() for path in again.unlabelled] == [(tmp_path / "run").resolve()]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data: [x]\ncutof: 0.6\n", "unknown setting cutof"),
        ("data: [x]\n7: 0.6\n", "unknown setting 7"),
        ("data: [{path: x, wieght: 2}]\n", "unknown key wieght"),
        ("data: [{weight: 2}]\n", "path must be given"),
        ("data: []\n", "expected a key 'data'"),
        ("form: pair\n", "expected a key 'data'"),
        ("- data\n", "expected a key 'data'"),
        ("data: [x\n", "YAML"),
        ("data: [x]\nform: cubic\n", "the forms are pair, quadratic, moment"),
        ("data: [x]\nform: [pair]\n", "expected a name"),
        ("data: [x]\nform: quadratic\nranks: [0, 1]\n", "moment, coupled, channels"),
        ("data: [x]\nform: moment\nranks: [0, 5]\n", "0 to 3"),
        ("data: [x]\nform: moment\nranks: two\n", "whole number"),
        ("data: [x]\nknots: [0.1]\n", "for each pair"),
        ("data: [x]\nknots: {H-O: [0.1], O-H: [0.2]}\n", "named twice"),
        ("data: [x]\nform: pair\nknots: {H-O: [0.1]}\n", "knots are for"),
        ("data: [x]\nenergy_weight: -1\n", "not negative"),
        ("data: [x]\nenergy_weight: 1\ngradient: agent\n", "no potential"),
        ("data: [x]\ngradient: both\n", "'agent'"),
        ("data: [x]\nbasis: bessel\n", "families"),
        ("data: [x]\ncutoff: 6 parsec\n", "unknown unit"),
        ("data: [x]\ncutoff: 6 fs\n", "not a quantity"),
        ("data: [x]\ncutoff: -1\n", "expected numbers from 0.05 to 5 nm"),
        ("data: [x]\ncutoff: .inf\n", "finite number"),
        ("data: [x]\nridge: strong\n", "expected a number"),
        ("data: [x]\nridge: -1.0\n", "not negative"),
        ("data: [x]\nfunctions: 8.5\n", "whole number"),
        ("data: [x]\nfunctions: '8'\n", "whole number"),
        ("data: [x]\nblocks: 1\n", "at least 2"),
        ("data: [{path: x, every: two}]\n", "whole number"),
        ("data: [{path: x, every: 0}]\n", "at least 1"),
        ("data: [{path: x, weight: heavy}]\n", "expected a number"),
        ("data: [{path: x, weight: 0}]\n", "positive"),
        ("data: [{path: x, gap: 1 nm}]\n", "not a quantity"),
        ("data: [{path: [x]}]\n", "expected a name"),
        ("data: [{path: x, targets: velocities}]\n", "targets: expected auto"),
        ("data: [{path: x, test_fraction: 1}]\n", "test_fraction"),
        ("data: [{path: x, split: random}]\n", "split: expected time or random-blocks"),
        ("data: [{path: x, units: kcal}]\n", "units: expected eV or kcal/mol"),
        ("data: [{path: x, forces_key: 3}]\n", "forces_key: expected a name"),
        ("data: [x]\natom_energies: [1]\n", "an energy for each species"),
        ("data: [x]\natom_energies: {H: 3 nm}\n", "not a quantity"),
    ],
)
def test_errors_name_the_file(tmp_path, text, message):
    with pytest.raises(DualityError, match=message) as error:
        load(tmp_path, text)
    assert "c.yaml" in str(error.value)


def test_accelerations_come_from_every_frame_with_positions(tmp_path):
    """Forces that were written less often do not reduce the number of positions."""
    (tmp_path / "w.inp").write_text(INPUT)
    (tmp_path / "w-pos-1.xyz").write_text("".join(block(s, "pos") for s in range(41)))
    (tmp_path / "w-frc-1.xyz").write_text("".join(block(s, "frc") for s in range(0, 41, 10)))
    for targets, frames in (("accelerations", 33), ("auto", 4), ("forces", 4)):
        config = load(tmp_path, f"data: [{{path: w, gap: 0, targets: {targets}}}]\n")
        (train,), held_out = config.read()
        assert (len(train.frames), train.frames.forces is None) == (frames, targets == "accelerations")
        assert (held_out["w"].forces is None) == (targets == "accelerations")
        assert InferenceConfig.load(tmp_path / "c.yaml").data[0].targets == targets


def molecules(path, count, seed=0, k=1.0):
    """An extended XYZ file of molecules of two compositions with names of their own, in kcal/mol."""
    rng = np.random.default_rng(seed)
    images = []
    for t in range(count):
        atoms = Atoms("OHH" if t % 2 else "NHHH")
        atoms.positions = np.cumsum(np.full((len(atoms), 3), 0.7), axis=0) + 0.1 * rng.normal(size=(len(atoms), 3))
        atoms.arrays["my_forces"] = k * rng.normal(size=(len(atoms), 3))
        atoms.info["my_energy"] = float(t)
        images.append(atoms)
    ase.io.write(path, images, format="extxyz")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_names_units_and_separate_tests_of_an_entry(tmp_path):
    molecules(tmp_path / "a.xyz", 40)
    molecules(tmp_path / "b.xyz", 10, 1)
    config = load(
        tmp_path,
        "data: [{path: a.xyz, name: a, test: b.xyz, forces_key: my_forces, energy_key: my_energy, units: kcal/mol}]\n",
    )
    (train,), held_out = config.read()
    assert (len(train.frames), list(held_out)) == (40, ["b.xyz"])
    assert train.frames.locate(7)[0].energies[3] == pytest.approx(7 * 4.184)
    (tmp_path / "there").mkdir()
    written = tmp_path / "there" / "r.yaml"
    written.write_text(config.to_yaml(written.parent))
    again = InferenceConfig.load(written)
    assert (again.data[0].units, again.data[0].forces_key, again.data[0].test_fraction) == (
        "kcal/mol",
        "my_forces",
        0.0,
    )
    assert list(again.read()[1]) == ["b.xyz"]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_is_held_out_is_chosen_by_entry(tmp_path):
    molecules(tmp_path / "a.xyz", 40)
    for entry, n_test in (
        ("a.xyz", 8),
        ("{path: a.xyz, test_fraction: 0}", None),
        ("{path: a.xyz, test_fraction: 0.5}", 20),
        ("{path: a.xyz, split: random-blocks}", 8),
    ):
        (train,), held_out = load(tmp_path, f"data: [{entry}]\n").read()
        assert len(train.frames) == 40 - (n_test or 0)
        assert [len(frames) for frames in held_out.values()] == ([] if n_test is None else [n_test])
    assert held_out["a.xyz"].steps.max() < 39 or np.diff(held_out["a.xyz"].steps).max() > 1


def test_energies_of_isolated_atoms_may_have_units():
    settings = Settings.of({"atom_energies": {"H": "-13.6 eV", "O": "-0.5 hartree", "N": -2.0, "C": "1 kcal/mol"}})
    assert settings.atom_energies == pytest.approx(
        {"H": -13.6 * ELECTRONVOLT, "O": -0.5 * HARTREE, "N": -2.0, "C": 4.184}
    )


def test_settings_take_quantities():
    settings = Settings(cutoff=5 * unit.angstrom, large_force="3")
    assert settings.cutoff == pytest.approx(0.5)
    assert settings.large_force == 3.0
    assert Settings().large_force == pytest.approx(30 * ELECTRONVOLT)


def test_inference_reads_data_from_their_paths(tmp_path):
    frames = labelled(random_frames(6), random_losses("pair", "collective", SPECIES[:2]))
    frames.save(tmp_path / "frames.safetensors")
    choices = {"form": "pair", "ridge": 1e-6, "curvature": 1e-3, "members": 0}
    path = tmp_path / "frames.safetensors"
    losses, again = infer(frames, **choices), infer(str(path), test=path, **choices)
    np.testing.assert_array_equal(again.pair_coefficients, losses.pair_coefficients)
    assert evaluate(losses, path).force_rmse == evaluate(losses, frames).force_rmse
    (tmp_path / "water.yaml").write_text("form: pair\n")
    with pytest.raises(DualityError, match=r"water\.yaml: a configuration, not data"):
        infer(tmp_path / "water.yaml")
    with pytest.raises(DualityError, match="expected frames, as `read` gives them, or their path, got int"):
        infer(3)


def test_inconsistent_data_are_refused():
    losses = random_losses("pair", "collective", SPECIES[:2])
    frames = labelled(random_frames(4), losses)
    with pytest.raises(DualityError, match="span a volume"):
        infer(replace(frames, cells=0.0 * frames.cells), cutoff=0.5)
    with pytest.raises(DualityError, match="no frames"):
        infer(frames[:0], cutoff=0.5)
    with pytest.raises(DualityError, match="two blocks"):
        infer(frames[:1], cutoff=0.5, form="pair")
    heavy = [DataSet(frames, name="a"), DataSet(replace(frames, masses=2 * frames.masses), name="b")]
    with pytest.raises(DualityError, match="isotopes"):
        infer(heavy, cutoff=0.5)


@pytest.mark.parametrize("several", [False, True])
def test_frames_with_large_forces_are_left_out(tmp_path, several):
    rng = np.random.default_rng(8)
    frames = []
    for n in range(20):
        atoms = Atoms("ArNe" if several and n % 2 else "Ar2", rng.random((2, 3)) * 4)
        atoms.arrays["forces"] = np.array([[3.0 if n in (4, 7, 19) else 1.0, 0.2, 0.0], [0.0, 0.0, 0.1]])
        frames.append(atoms)
    ase.io.write(tmp_path / "data.xyz", frames)
    config = load(tmp_path, "form: pair\ndata: [{path: data.xyz, max_force: 2.0 eV/angstrom}]\n")
    with pytest.warns(UserWarning, match="data.xyz: 3 of 20 frames are left out for forces above 1929"):
        sets, held_out = config.read()
    assert len(sets[0].frames) + len(held_out["data.xyz"]) == 17
    limit = 2.0 * ELECTRONVOLT / 0.1
    for part in (*sets[0].frames.parts, *held_out["data.xyz"].parts):
        assert np.linalg.norm(part.forces, axis=-1).max() < limit
    again = load(tmp_path, config.to_yaml())
    assert again.data[0].max_force == pytest.approx(limit)
    with pytest.raises(DualityError, match="larger max_force"):
        load(tmp_path, "data: [{path: data.xyz, max_force: 0.5 eV/angstrom}]\n").read()
