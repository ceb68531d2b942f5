"""A baseline of charges by species, which is for any atoms."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import yaml
from scipy.special import erf, erfc

from openmm_duality.dynamics.structures import read_start
from openmm_duality.dynamics.systems import create_system, create_topology
from openmm_duality.errors import DualityError
from openmm_duality.geometry.cells import supercell
from openmm_duality.inference import evaluate, infer
from openmm_duality.integrations.ase_calculator import DualityCalculator
from openmm_duality.invariants import find_neighbours
from openmm_duality.losses import AgentLosses
from openmm_duality.losses.baseline import Baseline
from openmm_duality.losses.total import evaluate_total
from openmm_duality.reference.mixed_frames import joined
from tests.command import call, refused
from tests.dynamics.mixtures import evaluated
from tests.losses.test_baseline import CHOICES, TRUE
from tests.systems import CELL, labelled, random_frames, rms

CHARGES = "Ar=0.5, Kr=-0.5"


def with_charges(frames):
    """Frames of the pair losses and of charges, computed by the System for all frames together."""
    bare, beside = labelled(frames, TRUE), Baseline.of(CHARGES)
    found = [
        beside.for_atoms(frames.species, frames.masses, frames.cell(t)).evaluate(frames.positions[t], frames.cell(t))
        for t in range(len(frames))
    ]
    return replace(
        bare,
        forces=bare.forces + np.array([forces for _, forces in found]),
        energies=bare.energies + np.array([energy for energy, _ in found]),
    )


@cache
def data():
    """Frames of two compositions and cells."""
    few, many = random_frames(10, n_atoms=24, least=0.2), random_frames(8, n_atoms=16, seed=3, least=0.2)
    return joined([with_charges(few), with_charges(replace(many, steps=many.steps + 100))])


@cache
def model():
    return infer(data(), baseline=CHARGES, members=0, **CHOICES)


def long_range(r):
    """The potential of two elementary charges without what decays within the cutoff."""
    return 138.935458 * erf(5.0 * r) / r


def test_without_a_cell_they_are_the_smooth_part_of_coulomb():
    masses, positions = np.array([39.9, 83.8, 83.8]), np.array([[0.0, 0, 0], [0.3, 0, 0], [0, 0.5, 0]])
    beside = Baseline.of("Kr = -1, Ar=2").for_atoms(("Ar", "Kr", "Kr"), masses, None)
    energy, forces = beside.evaluate(positions, None)
    expected = -2.0 * long_range(0.3) - 2.0 * long_range(0.5) + long_range(np.sqrt(0.3**2 + 0.5**2))
    assert energy == pytest.approx(expected, rel=1e-6)
    np.testing.assert_allclose(forces.sum(axis=0), 0.0, atol=1e-9)


def test_of_a_cluster_in_a_large_cell_they_are_nearly_those_without():
    masses, positions = np.full(4, 40.0), np.array([[0.0, 0, 0], [0.3, 0, 0], [0.3, 0.3, 0], [0, 0.3, 0]])
    species, beside = ("Ar", "Kr", "Ar", "Kr"), Baseline.of("Ar=1, Kr=-1")
    energies, forces = zip(
        *(beside.for_atoms(species, masses, cell).evaluate(positions, cell) for cell in (None, 6.0 * np.eye(3))),
        strict=True,
    )
    assert energies[1] == pytest.approx(energies[0], rel=1e-4)
    np.testing.assert_allclose(forces[1], forces[0], atol=1e-3 * rms(forces[0]))


CUBIC, FCC = np.eye(3), 0.5 * np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]])


@pytest.mark.parametrize("lattice", [CUBIC, FCC, FCC[[1, 0, 2]]], ids=["cubic", "fcc", "left-handed"])
@pytest.mark.parametrize("n", [1, 2, 4, 8])
def test_with_their_short_range_part_a_crystal_has_its_madelung_energy_wherever_it_lies(lattice, n):
    """As rock salt of an edge of 0.5 nm, in primitive cells and supercells, perfect and strained."""
    vectors = 0.5 * lattice
    corners = np.indices((n, n, n)).reshape(3, -1).T @ vectors
    basis = 0.25 * np.array([[0, 0, 0], [1, 1, 0], [1, 0, 1], [0, 1, 1]] if lattice is CUBIC else [[0, 0, 0]])
    first = (corners[:, None] + basis).reshape(-1, 3)
    sites = np.concatenate([first, first + np.array([0.25, 0, 0])])
    index = np.repeat([0, 1], len(first))
    species, cell = tuple(np.array(["Ar", "Kr"])[index]), n * vectors
    beside = Baseline.of("Ar=1, Kr=-1").for_atoms(species, np.full(len(sites), 40.0), cell)
    near, charges = 0.0, np.array([1.0, -1.0])
    for b, table in enumerate(find_neighbours(sites, cell, index, 2, 0.75)):
        r = table.distances
        near += 0.5 * 138.935458 * np.sum(charges[index][:, None] * charges[b] * erfc(5.0 * r) / r * (r < 0.75))
    energy, forces = beside.evaluate(sites, cell)
    assert (energy + near) / len(sites) == pytest.approx(-0.5 * 1.747565 * 138.935458 / 0.25, rel=1e-5)
    assert np.abs(forces).max() < 0.2  # of the mesh
    moved = beside.evaluate(sites + np.array([0.011, 0.37, -3.0]), cell)
    assert moved[0] == pytest.approx(energy, rel=1e-5)
    if n < 8:
        shear = beside.virial(sites, cell)
        assert np.abs(shear - np.eye(3) * np.trace(shear) / 3.0).max() < 1e-3 * np.abs(shear).max()
    strained = np.eye(3) + 0.02 * np.random.default_rng(n).normal(size=(3, 3))
    here = sites @ strained + 0.01 * np.random.default_rng(1).normal(size=sites.shape)
    there = beside.evaluate(here + 0.123, cell @ strained)[1]
    assert rms(there - beside.evaluate(here, cell @ strained)[1]) < 1e-3 * rms(there) + 0.2


def test_of_a_supercell_they_are_the_same_for_every_copy():
    (frames, _), beside = data().parts, Baseline.of(CHARGES)
    positions, cell = frames.positions[0], frames.cell(0)
    energy, forces = beside.for_atoms(frames.species, frames.masses, cell).evaluate(positions, cell)
    big, species, box = supercell(positions, frames.species, cell, (2, 1, 1))
    larger = beside.for_atoms(species, np.tile(frames.masses, 2), box).evaluate(big, box)
    assert larger[0] == pytest.approx(2.0 * energy, rel=1e-3)
    assert rms(larger[1] - np.tile(forces, (2, 1))) < 1e-3 * rms(forces)


def test_losses_of_frames_of_several_compositions_are_those_without_charges(tmp_path):
    table = evaluate(model(), data())
    assert table.force_rmse["all"] < 0.2 * evaluate(replace(model(), baseline=None), data()).force_rmse["all"]
    bare = joined([labelled(replace(part, forces=None, energies=None), TRUE) for part in data().parts])
    without = infer(bare, members=0, **CHOICES)
    np.testing.assert_allclose(model().pair_coefficients, without.pair_coefficients, rtol=1e-5, atol=1e-5)
    model().save(tmp_path / "m.safetensors")
    loaded = AgentLosses.load(tmp_path / "m.safetensors")
    assert loaded.baseline == Baseline.of(CHARGES)
    assert loaded.sha256() == model().sha256() != without.sha256()
    assert f"baseline: charges {CHARGES}" in str(loaded)


def test_any_atoms_have_a_system_and_a_calculator():
    frames = with_charges(random_frames(1, n_atoms=40, seed=8, least=0.2))
    start = read_start(frames)
    system = create_system(model(), create_topology(start.species, None, start.cell), precision="double")
    energy, forces = evaluated(system, start.positions)
    expected = evaluate_total(model(), start.positions, start.species, start.cell)
    assert energy == pytest.approx(expected[0], rel=1e-4)  # their Ewald sums have other meshes
    np.testing.assert_allclose(forces, expected[1], atol=1e-4 * rms(forces))
    assert rms(forces - frames.forces[0]) < 0.3 * rms(frames.forces[0])
    atoms = frames.to_ase()[0]
    atoms.calc = DualityCalculator(model())
    atoms.cell[:] *= 1.3  # whose direct sum has another cutoff
    atoms.get_stress()
    cell = 1.3 * CELL
    scaled = evaluate_total(model(), start.positions, start.species, cell)
    np.testing.assert_allclose(atoms.get_forces() * 964.853, scaled[1], rtol=1e-3, atol=1e-3 * rms(scaled[1]))


def test_what_are_no_charges_is_refused():
    for text in ("Na=1, Cl=x", "Na=", "=1", "Na=1, Na=2", "Na=1 Cl=-1", "Na=inf"):
        with pytest.raises(DualityError, match="baseline"):
            Baseline.of(text)
    many = Baseline.of(", ".join(f"X{k}=0.1" for k in range(60)))
    assert len(many.charges) == 60
    for read in (many.system, lambda: many.masses, lambda: many.evaluate(np.zeros((1, 3)), None)):
        with pytest.raises(DualityError, match="for_atoms"):
            read()
    with pytest.warns(UserWarning, match="add up to 1 in these 3 atoms"):
        Baseline.of("Ar=1, Kr=-1").for_atoms(("Ar", "Kr", "Ar"), np.ones(3), CELL)
    with pytest.raises(DualityError, match=r"none of Xe; name one for every species"):
        Baseline.of(CHARGES).for_atoms(("Ar", "Xe"), np.ones(2), None)


def test_commands(tmp_path):
    data().save(tmp_path / "data.safetensors")
    settings = {**CHOICES, "members": 0, "baseline": CHARGES, "data": ["data.safetensors"]}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(settings))
    for name, given in (("a", ()), ("b", ("--baseline", "Ar=0.25, Kr=-0.25"))):
        model_file = tmp_path / "models" / f"{name}.safetensors"
        model_file.parent.mkdir(exist_ok=True)
        call("infer", tmp_path / "c.yaml", *given, "-o", model_file)
        expected = given[1] if given else CHARGES
        assert yaml.safe_load(model_file.with_suffix(".config.yaml").read_text())["baseline"] == expected
        assert AgentLosses.load(model_file).baseline == Baseline.of(expected)
        call("infer", model_file.with_suffix(".config.yaml"), "-o", tmp_path / f"again-{name}.safetensors")
    (tmp_path / "mapping.yaml").write_text(yaml.safe_dump({**settings, "baseline": {"Ar": 0.5, "Kr": -0.5}}))
    call("infer", tmp_path / "mapping.yaml", "-o", tmp_path / "mapping.safetensors")
    assert AgentLosses.load(tmp_path / "mapping.safetensors").baseline == Baseline.of(CHARGES)
    call("evaluate", tmp_path / "models" / "a.safetensors", tmp_path / "data.safetensors")
    other = ("evaluate", tmp_path / "models" / "a.safetensors", tmp_path / "data.safetensors", "--baseline")
    assert "no others act" in refused(*other, "Ar=5, Kr=-5")
    infer(data(), **CHOICES, members=0).save(tmp_path / "without.safetensors")
    without = ("evaluate", tmp_path / "without.safetensors", tmp_path / "data.safetensors")
    assert "inferred without a baseline" in refused(*without, "--baseline", CHARGES)
    data().parts[0][:1].save(tmp_path / "start.safetensors")
    run = ("--start", tmp_path / "start.safetensors", "--supercell", 2, 1, 1, "--time", "2 fs", "--platform", "CPU")
    call("simulate", tmp_path / "models" / "a.safetensors", *run, "--allow-broken", "-o", tmp_path / "run")
    assert "such as 'Na=1, Cl=-1'" in refused(
        "infer", tmp_path / "c.yaml", "--baseline", "Ar=1, Kr", "-o", tmp_path / "x.safetensors"
    )
