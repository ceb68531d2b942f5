"""Forces of OpenMM beside losses: taken out of the data, kept in the model, put into every System made of it."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache

import numpy as np
import openmm as mm
import pytest
import yaml

from openmm_duality import DualityCalculator, add_to_system, create_system, create_topology, read_start
from openmm_duality.dynamics.structures import Start
from openmm_duality.errors import DualityError
from openmm_duality.geometry.cells import supercell, volume, widths
from openmm_duality.inference import add_frames, evaluate, infer
from openmm_duality.losses import AgentLosses, evaluate_agents
from openmm_duality.losses.baseline import Baseline
from openmm_duality.losses.total import evaluate_total
from openmm_duality.reference import Frames
from openmm_duality.units import ANGSTROM, ELECTRONVOLT, stress_from_virial
from tests.command import call, refused
from tests.dynamics.mixtures import evaluated
from tests.systems import CELL, TRICLINIC, labelled, random_frames, random_losses, rms

CHOICES = {
    "stress_weight": 0.0,
    "form": "pair",
    "cutoff": 0.5,
    "pair_functions": 7,
    "intervals": 100,
    "ridge": 1e-12,
    "curvature": 0.0,
}
TRUE = random_losses("pair", species=("Ar", "Kr"))


def charges(frames: Frames, copies: int = 1, springs_of: tuple[int, ...] = (0, 2, 5)) -> mm.System:
    """Charged atoms under Ewald summation, and a few springs; for copies of a frame with as many atoms."""
    system, force, springs = mm.System(), mm.NonbondedForce(), mm.HarmonicBondForce()
    force.setNonbondedMethod(mm.NonbondedForce.PME)
    force.setCutoffDistance(0.5)
    force.setEwaldErrorTolerance(1e-4)
    n = frames.n_atoms
    charge = {"Ar": 0.5, "Kr": -0.5 * frames.species.count("Ar") / frames.species.count("Kr")}
    for k in range(copies * n):
        system.addParticle(frames.masses[k % n])
        force.addParticle(charge[frames.species[k % n]], 0.2, 0.0)
    for k in range(copies):
        for i in springs_of:
            springs.addBond(n * k + i, n * k + i + 1, 0.3, 500.0)
            force.addException(n * k + i, n * k + i + 1, 0.0, 0.2, 0.0)
    system.addForce(force)
    system.addForce(springs)
    system.addForce(mm.CMMotionRemover())
    cell = frames.cells[0]
    system.setDefaultPeriodicBoxVectors(*(mm.Vec3(*row) for row in cell))
    return system


@cache
def data() -> tuple[Frames, mm.System]:
    """Frames labelled by pair losses and by charges together."""
    frames = labelled(random_frames(12, n_atoms=24, least=0.2), TRUE)
    system = charges(frames)
    found = [evaluated_in(system, frames, t) for t in range(len(frames))]
    return replace(
        frames,
        forces=frames.forces + np.array([forces for _, forces in found]),
        energies=frames.energies + np.array([energy for energy, _ in found]),
    ), system


def evaluated_in(system, frames, t):
    box = mm.XmlSerializer.clone(system)
    box.setDefaultPeriodicBoxVectors(*(mm.Vec3(*row) for row in frames.cells[t]))
    for force in box.getForces():
        if isinstance(force, mm.HarmonicBondForce):
            force.setUsesPeriodicBoundaryConditions(True)
        if isinstance(force, mm.NonbondedForce):
            force.setExceptionsUsePeriodicBoundaryConditions(True)
    return evaluated(box, frames.positions[t])


@cache
def model() -> AgentLosses:
    frames, system = data()
    return infer(frames[:10], test=frames[10:], baseline=system, members=2, **CHOICES)


def test_losses_learn_what_the_baseline_leaves():
    """They are those that are inferred from the data without the forces of the baseline."""
    frames, _ = data()
    pure = labelled(replace(frames, forces=None, energies=None), TRUE)
    without = infer(pure[:10], test=pure[10:], members=2, **CHOICES)
    np.testing.assert_allclose(model().pair_coefficients, without.pair_coefficients, rtol=1e-6, atol=1e-6)
    table = evaluate(model(), frames[10:])
    assert table.force_rmse == pytest.approx(evaluate(without, pure[10:]).force_rmse, rel=1e-6)
    assert table.force_rmse["all"] < 0.2 * evaluate(replace(without, baseline=None), frames[10:]).force_rmse["all"]
    stored = model().metadata["errors"]["test"]["data"]["force_rmse"]
    assert table.force_rmse == pytest.approx(stored, rel=1e-9)


def test_what_is_printed_is_a_few_lines():
    frames = random_frames(1)
    start, baseline = read_start(frames), Baseline.of(charges(frames))
    assert repr(baseline) == f"System of {frames.n_atoms} particles: NonbondedForce, HarmonicBondForce"
    text = str(replace(TRUE, baseline=baseline))
    for line in ("agent losses of Ar, Kr", "form: pair", f"cutoff: {TRUE.cutoff:g} nm", f"baseline: {baseline}"):
        assert line in text.splitlines()
    assert str(start).startswith(f"start of {frames.n_atoms} atoms: Ar")
    assert max(len(text), len(str(start))) < 300


def test_a_system_has_both(tmp_path):
    frames, _ = data()
    model().save(tmp_path / "m.safetensors")
    losses = AgentLosses.load(tmp_path / "m.safetensors")
    assert losses.sha256() == model().sha256()
    assert losses.sha256() != replace(losses, baseline=None).sha256()
    start = read_start(frames[11:])
    system = create_system(losses, create_topology(start.species, None, start.cell), precision="double")
    energy, forces = evaluated(system, start.positions)
    assert rms(forces - frames.forces[11]) < 0.2 * rms(frames.forces[11])
    expected = evaluate_total(losses, start.positions, start.species, start.cell)
    assert energy == pytest.approx(expected[0], rel=1e-8)
    np.testing.assert_allclose(forces, expected[1], atol=1e-8 * rms(forces))
    assert sum(isinstance(force, mm.CMMotionRemover) for force in system.getForces()) == 1
    atoms = frames[11:].to_ase()[0]
    atoms.calc = DualityCalculator(losses)
    atoms.get_potential_energy()
    mine = Frames.from_ase(atoms)
    np.testing.assert_allclose(mine.forces[0], forces, atol=1e-8 * rms(forces))
    assert mine.energies[0] == pytest.approx(energy, rel=1e-8)
    assert "energies" not in atoms.calc.implemented_properties


def test_forces_turn_with_the_cell():
    """Cells that OpenMM does not take as they are; bonds and exclusions are those of nearest images."""
    frames, _ = data()
    system = charges(replace(frames, cells=np.tile(TRICLINIC, (12, 1, 1))))
    baseline = Baseline.of(system)
    energy, forces = baseline.evaluate(frames.positions[0], TRICLINIC)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    images = np.random.default_rng(1).integers(-1, 2, size=(24, 3)) @ TRICLINIC
    turned = baseline.evaluate((frames.positions[0] + images) @ turn, TRICLINIC @ turn)
    assert turned[0] == pytest.approx(energy, rel=1e-4)
    np.testing.assert_allclose(turned[1], forces @ turn, atol=1e-3 * rms(forces))


@pytest.mark.parametrize("cell", [CELL, TRICLINIC], ids=["orthorhombic", "triclinic"])
def test_the_trace_of_the_virial_of_charges_is_their_energy(cell):
    """An energy that is proportional to 1/r: Σ r·F = E."""
    frames, _ = data()
    system = charges(replace(frames, cells=np.tile(cell, (12, 1, 1))), springs_of=())
    for force in system.getForces():
        if isinstance(force, mm.NonbondedForce):
            force.setEwaldErrorTolerance(1e-5)
    baseline, positions = Baseline.of(system), frames.positions[0]
    virial = baseline.virial(positions, cell)
    assert np.trace(virial) == pytest.approx(baseline.evaluate(positions, cell)[0], rel=1e-4)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    turned = baseline.virial(positions @ turn, cell @ turn)
    np.testing.assert_allclose(turned, turn.T @ virial @ turn, atol=1e-5 * np.abs(virial).max())


def test_stresses_are_those_of_both():
    """In the data that a fit sees, in what the losses and the baseline have together, and in the calculator of ASE."""
    frames, _ = data()
    cell, both = frames.cells[0], replace(model(), baseline=Baseline.of(data()[1]))
    virials = np.array(
        [evaluate_total(both, x, frames.species, cell, with_virial=True)[2] for x in frames.positions[:2]]
    )
    stressed = replace(frames[:2], stresses=stress_from_virial(virials, np.full(2, volume(cell))))
    rest = both.baseline.subtracted_from(stressed)
    own = [evaluate_agents(both, x, frames.species, cell).virial for x in frames.positions[:2]]
    np.testing.assert_allclose(-rest.stresses * volume(cell), own, atol=1e-8 * np.abs(own).max())
    atoms = frames[:2].to_ase()[1]
    atoms.calc = DualityCalculator(both)
    np.testing.assert_allclose(
        atoms.get_stress(voigt=False) / ANGSTROM**3 * ELECTRONVOLT, stressed.stresses[1], rtol=1e-6, atol=1e-6
    )


def test_a_supercell_takes_the_system_of_its_atoms():
    frames, _ = data()
    start = read_start(frames[11:])
    large = start.repeated((2, 1, 1))
    topology = create_topology(large.species, None, large.cell)
    with pytest.raises(DualityError, match=r"of 24 atoms, and these are 48; give the System .* --baseline"):
        create_system(model(), topology)
    unbound = [charges(frames, copies, springs_of=()) for copies in (1, 2)]  # a spring may reach into another copy
    system = create_system(model(), topology, baseline=unbound[1], precision="double")
    energy, forces = evaluated(system, large.positions)
    one = create_topology(start.species, None, start.cell)
    small = evaluated(create_system(model(), one, baseline=unbound[0], precision="double"), start.positions)
    assert energy == pytest.approx(2 * small[0], rel=1e-2)
    np.testing.assert_allclose(forces, np.tile(small[1], (2, 1)), atol=2e-3 * rms(forces))
    beside = add_to_system(system, replace(model(), baseline=None), topology, replace=False, precision="double")
    assert beside.getNumForces() == system.getNumForces() + 1


def test_a_supercell_is_evaluated_with_a_baseline_of_its_own(tmp_path):
    frames, _ = data()
    big = [supercell(frames.positions[t], frames.species, frames.cells[t], (2, 1, 1)) for t in (10, 11)]
    doubled = replace(
        frames[10:],
        species=big[0][1],
        masses=np.tile(frames.masses, 2),
        positions=np.array([positions for positions, _, _ in big]),
        cells=np.array([cell for _, _, cell in big]),
        forces=np.tile(frames.forces[10:], (1, 2, 1)),
        energies=2.0 * frames.energies[10:],
    )
    model().save(tmp_path / "m.safetensors")
    doubled.save(tmp_path / "doubled.safetensors")
    (tmp_path / "system.xml").write_text(mm.XmlSerializer.serialize(charges(frames, 2)))
    arguments = ("evaluate", tmp_path / "m.safetensors", tmp_path / "doubled.safetensors")
    assert f"of {frames.n_atoms} atoms, and these are {doubled.n_atoms}" in refused(*arguments)
    call(*arguments, "--baseline", tmp_path / "system.xml", "--json", tmp_path / "e.json")
    found = json.loads((tmp_path / "e.json").read_text())["force_rmse"]
    other = replace(model(), baseline=Baseline.of(tmp_path / "system.xml"))
    assert found == pytest.approx(evaluate(other, doubled).force_rmse)


def test_new_frames_are_fitted_beside_the_same_baseline():
    frames, system = data()
    first = infer(frames[:10], baseline=system, keep_equations=True, members=0, **CHOICES)
    grown = add_frames(first, frames[2:4])  # which count twice then
    assert grown.baseline == first.baseline
    known = evaluate(model(), frames[10:]).force_rmse["all"]
    assert evaluate(grown, frames[10:]).force_rmse["all"] == pytest.approx(known, rel=0.2)


def test_what_cannot_be_a_baseline_is_refused(tmp_path):
    _, system = data()

    def with_force(force):
        copy = mm.XmlSerializer.clone(system)
        copy.addForce(force)
        return copy

    held = mm.XmlSerializer.clone(system)
    held.addConstraint(0, 1, 0.1)
    code = mm.XmlSerializer.serialize(system).replace('type="HarmonicBondForce"', 'type="PythonForce" function="80"')
    plugin = mm.XmlSerializer.serialize(system).replace('type="HarmonicBondForce"', 'type="TorchForce"')
    for source, word in (
        (with_force(mm.MonteCarloBarostat(1.0, 300.0)), "MonteCarloBarostat is no force"),
        (held, "constraints or virtual sites"),
    ):
        with pytest.raises(DualityError, match=word):
            Baseline.of(source)
    for text, word in (
        (code, "PythonForce cannot be kept in a model file, because it holds code"),
        (plugin, "TorchForce cannot be kept"),
        ("<State/>", "found that of 'State'"),
        ("no XML", "expected the XML"),
    ):
        (tmp_path / "s.xml").write_text(text)
        with pytest.raises(DualityError, match=word):
            Baseline.of(tmp_path / "s.xml")
    with pytest.raises(DualityError, match="cannot be read"):
        Baseline.of(tmp_path / "no.xml")


def test_frames_and_systems_that_do_not_fit_are_refused():
    frames, system = data()
    few = replace(frames, forces=None, energies=None, timestep=1e-3, times=1e-3 * np.arange(12))
    for other, word in (
        (few, "the frames have none"),
        (replace(frames, masses=frames.masses[::-1], species=frames.species[::-1]), "in another order"),
        (replace(frames, cells=None), "these atoms have no cell"),
        (replace(frames, cells=0.7 * frames.cells), "OpenMM cannot compute its forces"),
        (random_frames(2, n_atoms=20), "data: "),
    ):
        with pytest.raises(DualityError, match=word):
            infer(other, baseline=system, **CHOICES)
    start = Start(frames.positions[0], frames.species, frames.cell(0))
    topology = create_topology(start.species, None, start.cell)
    with pytest.raises(DualityError, match="without a baseline"):
        create_system(replace(model(), baseline=None), topology, baseline=system)
    with pytest.raises(DualityError, match="replace=False"):
        create_system(model(), topology, particles=[0, 1])
    with pytest.raises(DualityError, match="replace=False"):
        add_to_system(system, model(), topology)


def test_by_the_command_line(tmp_path):
    frames, system = data()
    frames.save(tmp_path / "frames.safetensors")
    (tmp_path / "system.xml").write_text(mm.XmlSerializer.serialize(system))
    (tmp_path / "large.xml").write_text(mm.XmlSerializer.serialize(charges(frames, copies=2)))
    settings = {**CHOICES, "members": 0, "baseline": "system.xml", "data": ["frames.safetensors"]}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(settings))
    model = tmp_path / "deep" / "m.safetensors"
    text = call("infer", tmp_path / "c.yaml", "-o", model, "--json", tmp_path / "i.json")
    assert "baseline" in text
    errors = json.loads((tmp_path / "i.json").read_text())["test"]["force_rmse"]
    assert yaml.safe_load(model.with_suffix(".config.yaml").read_text())["baseline"] == "../system.xml"
    options = ("--data", tmp_path / "frames.safetensors", "--baseline", tmp_path / "system.xml", "--form", "pair")
    call("infer", *options, "--cutoff", 0.5, "-o", tmp_path / "n.safetensors")
    assert AgentLosses.load(tmp_path / "n.safetensors").baseline == AgentLosses.load(model).baseline
    assert "leave baseline out" in refused("infer", *options[:4], "--prior", model, "-o", tmp_path / "d.safetensors")
    call("evaluate", model, tmp_path / "frames.safetensors", "--held-out", "--json", tmp_path / "e.json")
    assert json.loads((tmp_path / "e.json").read_text())["force_rmse"] == pytest.approx(errors)
    run = ("simulate", model, "--start", tmp_path / "frames.safetensors", "--time", "1 fs", "--report", "0.5 fs")
    more = ("--platform", "Reference", "--temperature", 10, "--monitor", "off", "--allow-broken")
    call(*run, "-o", tmp_path / "run", *more)
    large = ("--supercell", 2, 1, 1)
    assert "--baseline" in refused(*run, "-o", tmp_path / "large", *more, *large)
    call(*run, "-o", tmp_path / "large", *more, *large, "--baseline", tmp_path / "large.xml")
    forces = json.loads((tmp_path / "large" / "run.json").read_text())["forces"]
    assert {"NonbondedForce", "HarmonicBondForce"} < set(forces)


@pytest.mark.parametrize("seed", range(6))
def test_in_triclinic_boxes_pairs_near_half_of_the_width_are_not_lost(seed):
    """As OpenMM 8.4 loses them on its Reference platform: the forces do not depend on the cutoff of the direct sum."""
    rng, n = np.random.default_rng(seed), 3
    vectors = 0.21 * np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]) @ (np.eye(3) + 0.02 * rng.normal(size=(3, 3)))
    corners, cell = np.indices((n, n, n)).reshape(3, -1).T @ vectors, n * vectors
    sites = np.concatenate([corners, corners + vectors.sum(axis=0) / 2.0])
    if seed:
        sites += 0.01 * rng.normal(size=sites.shape)
    found = []
    for share in (0.45, 0.2):
        system, force = mm.System(), mm.NonbondedForce()
        force.setNonbondedMethod(mm.NonbondedForce.PME)
        force.setCutoffDistance(share * widths(cell).min())
        force.setEwaldErrorTolerance(1e-5)
        for k in range(len(sites)):
            system.addParticle(40.0)
            force.addParticle(2.0 if k < len(corners) else -2.0, 0.1, 0.0)
        system.addForce(force)
        found.append(Baseline.of(system).evaluate(sites, cell)[1])
    assert rms(found[0] - found[1]) < 1e-3 * max(rms(found[1]), 1000.0)
