"""Runs in a folder: what they write, how they resume after being killed, and what stops them."""

from __future__ import annotations

import csv
import json
import math
import os
import random
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import mdtraj
import numpy as np
import openmm as mm
import pytest
from openmm import app, unit

from openmm_duality.dynamics.checkpoint import read_checkpoint, repair_dcd
from openmm_duality.dynamics.integrators import (
    DescentLearningIntegrator,
    LangevinLearningIntegrator,
    NoseHooverLearningIntegrator,
    VerletLearningIntegrator,
)
from openmm_duality.dynamics.integrity import IntegrityReport, Limits
from openmm_duality.dynamics.reporters import RunLog
from openmm_duality.dynamics.running import RunResult, simulate
from openmm_duality.errors import DualityError
from openmm_duality.observables.runs import read_run
from openmm_duality.units import BOLTZMANN
from tests.dynamics import killed
from tests.dynamics.systems import water

ROOT = Path(__file__).parents[2]
BONDS = Limits(bond_lengths={("H", "O"): 0.14})
DCD_DATE = slice(180, 260)


@pytest.fixture(scope="module")
def liquid():
    return water(1.0)


def run(liquid, directory, *, steps=20, integrator=None, **more):
    system, topology, positions = liquid
    arguments = {
        "report_interval": 5,
        "platform": "Reference",
        "seed": 3,
        "limits": BONDS,
        "progress": False,
        **more,
    }
    integrator = integrator or NoseHooverLearningIntegrator(300.0, 10.0, 0.0005)
    return simulate(system, topology, positions, integrator, directory, steps=steps, **arguments)


def rows(directory):
    with open(directory / "log.csv") as handle:
        return list(csv.DictReader(handle))


def dcd(path):
    data = bytearray(path.read_bytes())
    data[DCD_DATE] = b""
    return bytes(data)


def test_a_log_of_an_earlier_version_goes_on_with_its_columns(tmp_path):
    path, of = tmp_path / "log.csv", (["H"], [("H", "H")])
    log = RunLog(path, *of)
    log.close()
    path.write_text(",".join(log.columns[:-1]) + "\n")
    log = RunLog(path, *of, append=True)
    log.write(1, 0.1, (1.0, 1.0, None), 300.0, {"H": 300.0}, None, None, IntegrityReport(True, {("H", "H"): 0.1}, 0))
    log.close()
    head, row = path.read_text().splitlines()
    assert len(row.split(",")) == len(head.split(","))


@pytest.mark.parametrize("known", [True, False])
def test_a_hop_that_the_data_show_is_reported_and_any_other_is_a_break(tmp_path, known):
    """A hydrogen atom flies from one oxygen to another; coordinations are those of the data of a model."""
    topology, system = app.Topology(), mm.System()
    residue = topology.addResidue("OHO", topology.addChain())
    for name in ("O", "H", "O"):
        element = app.element.get_by_symbol(name)
        topology.addAtom(name, element, residue)
        system.addParticle(element.mass)
    seen = frozenset([("H", (("O", 1),)), ("O", (("H", 1),)), ("O", ())])
    limits = Limits({("H", "O"): 0.135}, seen if known else frozenset(), max_temperature=1e5)
    result = simulate(
        system,
        topology,
        np.array([[0.0, 0.0, 0.0], [0.1, 0.0, 0.0], [0.27, 0.0, 0.0]]),
        VerletLearningIntegrator(0.0005),
        tmp_path / "run",
        steps=140,
        velocities=np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]),
        platform="Reference",
        limits=limits,
        progress=False,
    )
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    if known:
        assert (result.status, result.exchanged_bonds, record["exchanged_bonds"]) == ("finished", 1, 1)
        assert "Bonds exchanged as in the data of the model: 1." in result.message
    else:
        assert (result.status, result.exchanged_bonds) == ("stopped", 0)
        assert "has left the molecule" in result.reason


def test_a_run_writes_what_it_says(liquid, tmp_path):
    result = run(liquid, tmp_path / "run", save_velocities=True, metadata={"model": {"name": "m", "sha256": "0a"}})
    directory = result.directory
    assert (result.status, result.steps_done, result.resumed_from) == ("finished", 20, 0)
    assert {path.name for path in directory.iterdir()} == {
        *("run.json", "topology.pdb", "trajectory.dcd", "velocities.dcd", "log.csv", "checkpoint.chk", "final.pdb"),
        ".lock",
    }
    record = json.loads((directory / "run.json").read_text())
    n = liquid[0].getNumParticles()
    assert record["degrees_of_freedom"] == 3 * n - 3
    assert record["model"] == {"name": "m", "sha256": "0a"}
    expected = {"status": "finished", "ensemble": "NVT", "temperature": 300.0, "timestep": 0.0005, "seed": 3}
    assert expected.items() <= record.items()
    log = rows(directory)
    assert [int(row["step"]) for row in log] == [5, 10, 15, 20]
    trajectory = mdtraj.load(directory / "trajectory.dcd", top=directory / "topology.pdb")
    assert trajectory.n_frames == 4
    np.testing.assert_allclose(trajectory.unitcell_lengths, 1.0, atol=1e-6)
    pair = trajectory.topology.select("element O")
    pairs = [(i, j) for k, i in enumerate(pair) for j in pair[k + 1 :]]
    shortest = mdtraj.compute_distances(trajectory, pairs).min(axis=1)
    logged = np.array([float(row["shortest_O-O_nm"]) for row in log])
    np.testing.assert_allclose(logged, shortest, atol=1e-5)
    velocities = mdtraj.load(directory / "velocities.dcd", top=directory / "topology.pdb").xyz
    masses = np.array([liquid[0].getParticleMass(i).value_in_unit(unit.dalton) for i in range(n)])
    kinetic = 0.5 * np.einsum("i,tix->t", masses, velocities.astype(float) ** 2)
    logged_kinetic = np.array([float(row["kinetic_energy"]) for row in log])
    np.testing.assert_allclose(logged_kinetic, kinetic, rtol=1e-5)
    temperatures = 2 * kinetic / ((3 * n - 3) * BOLTZMANN)
    np.testing.assert_allclose([float(row["temperature_K"]) for row in log], temperatures, rtol=1e-5)
    of_species = np.array([[float(row[f"temperature_{name}_K"]) for name in ("H", "O")] for row in log])
    of_oxygen = masses[pair] @ (velocities[:, pair].astype(float) ** 2).sum(axis=2).T
    freedom = 3 * len(pair) - 3 * masses[pair].sum() / masses.sum()  # a heavy atom has more of the removed motion
    np.testing.assert_allclose(of_species[:, 1], of_oxygen / BOLTZMANN / freedom, rtol=1e-5)
    shares = np.array([3 * n - 3 - freedom, freedom]) / (3 * n - 3)
    np.testing.assert_allclose(of_species @ shares, temperatures, rtol=1e-5)


def test_a_run_may_begin_at_a_minimum(liquid, tmp_path):
    """Minimised once: what goes on behind it is not minimised again."""
    calm, warm = (
        run(liquid, tmp_path / str(minimize), minimize=minimize, temperature=1.0).directory
        for minimize in (True, False)
    )
    assert json.loads((calm / "run.json").read_text())["minimized"] is True
    first, other = (float(rows(directory)[0]["potential_energy"]) for directory in (calm, warm))
    assert first < other - 100.0
    with pytest.raises(DualityError, match="minimized was true"):
        run(liquid, calm, steps=30, temperature=1.0)
    run(liquid, calm, steps=30, minimize=True, temperature=1.0)
    assert [int(row["step"]) for row in rows(calm)] == [5, 10, 15, 20, 25, 30]
    run(liquid, tmp_path / "whole", steps=30, minimize=True, temperature=1.0)
    assert dcd(tmp_path / "whole" / "trajectory.dcd") == dcd(calm / "trajectory.dcd")


def test_the_checkpoint_is_one_that_openmm_reads(liquid, tmp_path):
    system, topology, _ = liquid
    result = run(liquid, tmp_path)
    integrator = NoseHooverLearningIntegrator(300.0, 10.0, 0.0005)
    platform = mm.Platform.getPlatformByName("Reference")
    simulation = app.Simulation(topology, system, integrator, platform)
    simulation.loadCheckpoint(str(tmp_path / "checkpoint.chk"))
    assert simulation.currentStep == result.steps_done
    positions = simulation.context.getState(positions=True).getPositions(asNumpy=True).value_in_unit(unit.nanometer)
    final = app.PDBFile(str(tmp_path / "final.pdb")).getPositions(asNumpy=True).value_in_unit(unit.nanometer)
    np.testing.assert_allclose(positions, final, atol=1e-4)


@pytest.mark.parametrize(("platform", "thermostat"), [("Reference", "nose-hoover"), ("CPU", "langevin")])
def test_a_killed_run_goes_on_as_if_nothing_had_been(tmp_path, platform, thermostat):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    killed.run(whole, platform, thermostat)
    command = [sys.executable, "-m", "tests.dynamics.killed", str(broken), platform, thermostat]
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    chance = random.Random()
    for attempt in range(2):
        process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": paths})
        log, limit = broken / "log.csv", chance.randrange(200, 6_000) + 7_500 * attempt
        while process.poll() is None and not (log.exists() and log.stat().st_size > limit):
            time.sleep(0.002)
        time.sleep(chance.uniform(0.0, 0.02))
        process.kill()
        process.wait()
        assert process.returncode == -9, "the run ended before it was killed"
    result = killed.run(broken, platform, thermostat)
    assert result.status == "finished"
    assert 0 < result.resumed_from < killed.STEPS
    for name in ("trajectory.dcd", "velocities.dcd"):
        assert dcd(broken / name) == dcd(whole / name)
    assert (broken / "log.csv").read_bytes() == (whole / "log.csv").read_bytes()
    assert len(rows(broken)) == killed.STEPS // 4


@pytest.mark.parametrize("heat_bath", [NoseHooverLearningIntegrator, LangevinLearningIntegrator])
def test_more_steps_extend_and_no_more_do_nothing(liquid, tmp_path, heat_bath):
    def short(liquid, directory, steps):
        return run(liquid, directory, steps=steps, integrator=heat_bath(300.0, 10.0, 0.0005))

    short(liquid, tmp_path / "parts", steps=12)
    before = (tmp_path / "parts" / "trajectory.dcd").read_bytes()
    again = short(liquid, tmp_path / "parts", steps=12)
    assert "complete already" in again.message
    assert (tmp_path / "parts" / "trajectory.dcd").read_bytes() == before
    extended = short(liquid, tmp_path / "parts", steps=20)
    assert (extended.resumed_from, extended.steps_done) == (12, 20)
    short(liquid, tmp_path / "whole", steps=20)
    assert dcd(tmp_path / "parts" / "trajectory.dcd") == dcd(tmp_path / "whole" / "trajectory.dcd")
    assert rows(tmp_path / "parts") == rows(tmp_path / "whole")


def test_a_drawn_seed_is_recorded_and_used_again(liquid, tmp_path):
    run(liquid, tmp_path, seed=None)
    seed = json.loads((tmp_path / "run.json").read_text())["seed"]
    assert run(liquid, tmp_path, seed=None, steps=25).steps_done == 25
    assert json.loads((tmp_path / "run.json").read_text())["seed"] == seed
    with pytest.raises(DualityError, match="seed was"):
        run(liquid, tmp_path, seed=seed % 1000 + 1, steps=30)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"integrator": NoseHooverLearningIntegrator(300.0, 10.0, 0.00025)}, "timestep was 0.0005 and is now 0.00025"),
        ({"integrator": NoseHooverLearningIntegrator(310.0, 10.0, 0.0005)}, "temperature"),
        ({"integrator": LangevinLearningIntegrator(300.0, 10.0, 0.0005)}, "integrator"),
        ({"report_interval": 10}, "report_interval"),
        ({"metadata": {"model": {"name": "m", "sha256": "0b"}}}, 'model was "0a" and is now "0b"'),
        (
            {"metadata": {"model": {"name": "elsewhere", "sha256": "0a"}}, "save_velocities": True},
            "save_velocities was",
        ),
    ],
)
def test_other_settings_are_refused_and_named(liquid, tmp_path, change, word):
    same = {"metadata": {"model": {"name": "m", "sha256": "0a"}}}
    run(liquid, tmp_path, **same)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(DualityError, match=word) as error:
        run(liquid, tmp_path, steps=40, **{**same, **change})
    assert "elsewhere" not in str(error.value)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_folder_with_other_files_is_left_alone(liquid, tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(DualityError, match=r"thesis\.tex"):
        run(liquid, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_files_that_cannot_be_continued_are_refused(liquid, tmp_path):
    run(liquid, tmp_path)
    whole = (tmp_path / "trajectory.dcd").read_bytes()
    (tmp_path / "trajectory.dcd").write_bytes(whole[:-100])
    with pytest.raises(DualityError, match="frames are lost"):
        run(liquid, tmp_path, steps=40)
    (tmp_path / "trajectory.dcd").write_bytes(whole)
    data = (tmp_path / "checkpoint.chk").read_bytes()
    (tmp_path / "checkpoint.chk").write_bytes(data[:-5])
    with pytest.raises(DualityError, match="is not a checkpoint"):
        run(liquid, tmp_path, steps=40)
    (tmp_path / "checkpoint.chk").write_bytes(data)
    assert run(liquid, tmp_path, steps=40).status == "finished"


def test_frames_behind_the_checkpoint_are_cut_off_and_the_header_mended(liquid, tmp_path):
    run(liquid, tmp_path)
    path = tmp_path / "trajectory.dcd"
    whole = path.read_bytes()
    path.write_bytes(whole + whole[-500:])
    with pytest.raises(DualityError, match="within a frame"):
        repair_dcd(path)
    files = read_checkpoint(tmp_path / "checkpoint.chk").files
    assert files["trajectory.dcd"].size == len(whole)
    run(liquid, tmp_path, steps=25)
    assert mdtraj.load(path, top=tmp_path / "topology.pdb").n_frames == 5


def test_only_one_process_runs_in_a_folder(liquid, tmp_path):
    fcntl = pytest.importorskip("fcntl")
    run(liquid, tmp_path)
    with open(tmp_path / ".lock") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(DualityError, match="another process"):
            run(liquid, tmp_path, steps=40)


def with_force(liquid, expression):
    """The liquid with a force of the test's own on every particle."""
    system, topology, positions = liquid
    system = mm.XmlSerializer.clone(system)
    force = mm.CustomExternalForce(expression)
    for i in range(system.getNumParticles()):
        force.addParticle(i, [])
    system.addForce(force)
    return system, topology, positions


def without_bonds(liquid):
    system, topology, positions = liquid
    system = mm.XmlSerializer.clone(system)
    for force in system.getForces():
        if isinstance(force, mm.HarmonicBondForce):
            force.setBondParameters(0, *force.getBondParameters(0)[:3], 0.0)
    return system, topology, positions


def test_broken_molecules_stop_a_run_unless_allowed(liquid, tmp_path):
    result = run(
        without_bonds(liquid), tmp_path / "a", steps=4000, integrator=VerletLearningIntegrator(0.0005), temperature=300
    )
    assert result.status == "stopped"
    assert "left the molecule" in result.reason
    assert "--allow-broken" in result.reason
    assert result.steps_done < 4000
    record = json.loads((tmp_path / "a" / "run.json").read_text())
    assert (record["status"], record["reason"]) == ("stopped", result.reason)
    good = app.PDBFile(str(tmp_path / "a" / "last_good.pdb"))
    assert good.topology.getNumAtoms() == liquid[0].getNumParticles()
    assert read_checkpoint(tmp_path / "a" / "last_good.chk").step == result.steps_done - 5
    assert all(row["atoms_left_molecule"] == "0" for row in rows(tmp_path / "a"))
    again = run(
        without_bonds(liquid), tmp_path / "a", steps=4000, integrator=VerletLearningIntegrator(0.0005), temperature=300
    )
    assert (again.status, again.reason) == ("stopped", result.reason)

    allowed = Limits(bond_lengths=BONDS.bond_lengths, allow_broken=True, max_temperature=1e6)
    steps = result.steps_done + 5
    integrator = VerletLearningIntegrator(0.0005)
    result = run(
        without_bonds(liquid), tmp_path / "b", steps=steps, integrator=integrator, temperature=300, limits=allowed
    )
    assert result.status == "finished"
    assert int(rows(tmp_path / "b")[-1]["atoms_left_molecule"]) > 0


def test_a_stopped_run_goes_on_when_other_limits_let_it(liquid, tmp_path):
    def go(directory, limits, steps):
        return run(
            without_bonds(liquid),
            directory,
            steps=steps,
            integrator=VerletLearningIntegrator(0.0005),
            temperature=300,
            limits=limits,
            checkpoint_interval=10,
        )

    strict = Limits(bond_lengths=BONDS.bond_lengths, max_temperature=1e6)
    lenient = Limits(bond_lengths=BONDS.bond_lengths, max_temperature=1e6, allow_broken=True)
    stopped = go(tmp_path / "a", strict, 4000)
    assert (stopped.status, (tmp_path / "a" / "last_good.pdb").exists()) == ("stopped", True)
    steps = stopped.steps_done + 15
    cold = Limits(bond_lengths=BONDS.bond_lengths, max_temperature=1.0)
    assert "ran away" in go(tmp_path / "a", cold, steps).reason
    resumed = go(tmp_path / "a", lenient, steps)
    assert (resumed.status, resumed.steps_done) == ("finished", steps)
    assert 0 < resumed.resumed_from <= stopped.steps_done
    assert not list((tmp_path / "a").glob("last_good*"))
    assert json.loads((tmp_path / "a" / "run.json").read_text())["limits"]["allow_broken"] is True
    go(tmp_path / "b", lenient, steps)
    assert rows(tmp_path / "a") == rows(tmp_path / "b")
    assert dcd(tmp_path / "a" / "trajectory.dcd") == dcd(tmp_path / "b" / "trajectory.dcd")


def test_collapsed_atoms_stop_a_run(liquid, tmp_path):
    limits = Limits(collapse_distances={("O", "O"): 0.4})
    result = run(liquid, tmp_path, limits=limits)
    assert (result.status, result.steps_done) == ("stopped", 0)
    assert "O–O distance of" in result.reason


def test_a_runaway_temperature_stops_a_run(liquid, tmp_path):
    hot = with_force(liquid, "-3000*x")
    result = run(hot, tmp_path, steps=1000, limits=Limits())
    assert result.status == "stopped"
    assert "ran away" in result.reason
    assert "900 K" in result.reason
    assert re.search(r"most kinetic energy is [HO] \d+\)", result.reason)


def test_a_run_that_explodes_is_recorded_with_its_last_frame(liquid, tmp_path):
    """Coordinates beyond what a PDB file holds: 1e6 nm."""
    away = with_force(liquid, "-1e15*x")
    result = run(away, tmp_path, report_interval=1, limits=Limits())
    record = json.loads((tmp_path / "run.json").read_text())
    assert (record["status"], record["steps_done"]) == ("stopped", result.steps_done)
    assert record["reason"] == result.reason
    last = app.PDBxFile(str(tmp_path / "stopped.cif"))
    positions = last.getPositions(asNumpy=True).value_in_unit(unit.nanometer)
    assert positions[:, 0].min() > 1e6
    assert len(positions) == last.topology.getNumAtoms() == liquid[0].getNumParticles()


def test_numbers_that_are_not_finite_stop_a_run(liquid, tmp_path):
    edge = liquid[2][:, 0].max() + 0.02
    sick = with_force(liquid, f"100*sqrt({edge} - x)")  # pulls towards the edge, and is no number beyond it
    result = run(sick, tmp_path, steps=1000, limits=Limits(max_temperature=math.inf))
    assert result.status == "stopped"
    assert "finite" in result.reason or "NaN" in result.reason


@pytest.mark.parametrize("temperature", [None, 300.0])
def test_damped_descent_starts_at_rest_unless_it_is_given_a_temperature(liquid, tmp_path, temperature):
    descent = DescentLearningIntegrator(0.0005, 0.02)
    result = run(liquid, tmp_path, integrator=descent, temperature=temperature, steps=100)
    assert result.status == "finished"
    energies = [float(row["potential_energy"]) for row in rows(tmp_path)]
    assert energies[-1] < energies[0]
    assert rows(tmp_path)[0]["conserved_quantity"] == "nan"
    assert (float(rows(tmp_path)[0]["temperature_K"]) > 50.0) == (temperature is not None)
    with pytest.raises(DualityError, match=r"is a descent \(DescentLearningIntegrator\)"):
        read_run(tmp_path)


def test_arguments_that_do_not_fit_are_refused_before_anything_is_written(liquid, tmp_path):
    system, topology, positions = liquid
    constrained = mm.XmlSerializer.clone(system)
    constrained.addConstraint(0, 1, 0.1)
    other_cell = mm.XmlSerializer.clone(system)
    other_cell.setDefaultPeriodicBoxVectors(*(2.0 * np.eye(3)))
    for wrong, word in (
        ((constrained, topology, positions), "constraints"),
        ((other_cell, topology, positions), "cell"),
        ((system, topology, positions[:-1]), "positions"),
        ((system, topology, positions * np.nan), "not finite"),
    ):
        with pytest.raises(DualityError, match=word):
            run(wrong, tmp_path / "run")
    for wrong, word in (
        ({"platform": "Abacus"}, "Abacus"),
        ({"platform": "CPU", "precision": "double"}, "double"),
        ({"steps": 0}, "steps"),
        ({"checkpoint_interval": 7}, "multiple"),
        ({"seed": 0}, "seed"),
        ({"integrator": VerletLearningIntegrator(0.0005)}, "no heat bath"),
        ({"metadata": {"status": "fine"}}, "status"),
    ):
        with pytest.raises(DualityError, match=word):
            run(liquid, tmp_path / "run", **wrong)
    assert not [path for path in tmp_path.glob("run/*") if path.name != ".lock"]


def test_a_run_says_how_often_the_monitor_alarmed():
    few, most = (RunResult(Path("run"), "finished", "", 100, 0, 1.0, alarms=n, checks=11) for n in (5, 6))
    assert "The monitor raised 5 alarms (alarms.csv)." in few.message
    assert "6 alarms (alarms.csv), in most of its checks: the model does not know what the run shows." in most.message
    stopped = replace(most, status="stopped", reason="it broke")
    assert "stopped itself after 100 steps: it broke. The monitor raised 6 alarms" in stopped.message
