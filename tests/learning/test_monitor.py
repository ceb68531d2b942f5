"""The monitor: no alarm inside the training distribution, and what a run does outside of it."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace

import mdtraj
import numpy as np
import openmm as mm
import pytest
from openmm import app, unit

import openmm_duality as duality
from openmm_duality.errors import DualityError
from openmm_duality.geometry.cells import volume
from openmm_duality.inference.uncertainty.calibration import Calibration, PressureCalibration
from openmm_duality.learning import Monitor
from openmm_duality.learning.monitor import FALSE_ALARMS, PER_ATOM_TESTS
from openmm_duality.losses import evaluate_agents
from openmm_duality.observables.density import measure_density
from openmm_duality.observables.runs import read_run
from openmm_duality.reference import read, read_extxyz
from openmm_duality.units import MEGAPASCAL, MEV_PER_ANGSTROM
from tests.inference.uncertainty.test_domain import compressed, stretched
from tests.systems import random_losses
from tests.water import liquid, small_water

TIMESTEP = 0.0005
DCD_DATE = slice(180, 260)


@pytest.fixture(scope="module")
def water():
    return small_water(), liquid()[1]


@pytest.fixture(scope="module")
def monitor(water):
    losses, test = water
    return Monitor(losses, test.species)


def with_low_limit(losses, share=1e-5):
    """The same model with a limit of the force error that every force exceeds."""
    return replace(losses, committee=replace(losses.committee, limit=share * losses.committee.limit))


def with_close_limit(losses, test):
    """The same model with a limit that the first frame meets, but not all that follow it."""
    start = Monitor(losses, test.species).check(test.positions[0], test.cell(0)).uncertainty
    return with_low_limit(losses, 1.1 * (start / losses.committee.limit[losses.index_of(test.species)]).max())


class TestCheck:
    def test_it_is_quiet_on_frames_held_out_by_time(self, water, monitor):
        losses, test = water
        for t in range(len(test)):
            reading = monitor.check(test.positions[t], test.cell(t))
            assert reading.alarms == ()
            assert reading.uncertainty.shape == (len(test.species),)
            species_index = losses.index_of(test.species)
            assert (reading.uncertainty >= 0.999 * losses.committee.residual[species_index]).all()

    def test_the_uncertainty_is_that_of_the_members(self, water, monitor):
        losses, test = water
        found = [
            duality.evaluate_agents(m, test.positions[0], test.species, test.cell(0)).forces for m in losses.members()
        ]
        expected = losses.committee.uncertainty(np.array(found), losses.index_of(test.species))
        np.testing.assert_allclose(monitor.check(test.positions[0], test.cell(0)).uncertainty, expected, rtol=1e-3)

    def test_a_pulled_bond_is_named_with_its_length_and_an_atom_of_it(self, water, monitor):
        _, test = water
        alarms = monitor.check(stretched(test, 3, 100, 0.125), test.cell(3)).alarms
        (distance,) = (alarm for alarm in alarms if "no such distance" in alarm)
        assert distance.startswith("H–O at 1.2")
        assert "(H 101)" in distance or "(O 100)" in distance

    def test_unknown_local_environments_are_named_where_all_distances_are_known(self, water, monitor):
        _, test = water
        alarms = monitor.check(stretched(test, 0, 1, 0.16), test.cell(0)).alarms
        assert any("outside the training distribution" in alarm and "× limit" in alarm for alarm in alarms)

    def test_a_compressed_box_is_detected_by_its_mean_loss(self, water, monitor):
        _, test = water
        alarms = "; ".join(monitor.check(*compressed(test, 0, 0.9)).alarms)
        assert re.search(r"mean loss of .* outside the training distribution \(\d+\.\d\d × limit\)", alarms)

    def test_the_atom_of_the_largest_predicted_error_is_named_where_the_committee_disagrees(self, water):
        losses, test = water
        low = with_low_limit(losses)
        reading = Monitor(low, test.species).check(test.positions[0], test.cell(0))
        (alarm,) = reading.alarms
        limits = low.committee.limit_of(FALSE_ALARMS / (PER_ATOM_TESTS * test.n_atoms))
        ratio = reading.uncertainty / limits[losses.index_of(test.species)]
        i = int(ratio.argmax())
        assert alarm.startswith(f"{test.species[i]} {i + 1}: predicted force error of ")
        assert f"{reading.uncertainty[i] / MEV_PER_ANGSTROM:.0f} meV/Å exceeds the limit" in alarm
        assert f"({ratio[i]:.2f} × limit)" in alarm

    def test_predicted_errors_as_large_as_the_forces_are_alarming_however_wide_the_limits(self, water):
        losses, test = water
        committee, frame = losses.committee, (test.positions[0], test.cell(0))
        forces = duality.evaluate_agents(losses, frame[0], test.species, frame[1]).forces
        errors = np.array([3.0 * np.sqrt(np.mean(forces[np.array(test.species) == name] ** 2)) for name in "HO"])
        ignorant = replace(losses, committee=replace(committee, residual=errors, limit=1e3 * errors))
        alarms = Monitor(ignorant, test.species).check(*frame).alarms
        assert [alarm.split(":")[0] for alarm in alarms] == [f"predicted force error of {name}" for name in "HO"]
        said = [float(number) for number in re.findall(r"(\d+) meV/Å", alarms[0])]
        assert said == pytest.approx([errors[0] / MEV_PER_ANGSTROM, errors[0] / 3.0 / MEV_PER_ANGSTROM], rel=0.01)
        known = {"force_rmse": dict(zip("HO", errors / MEV_PER_ANGSTROM, strict=True))}
        expected = replace(ignorant, metadata={**losses.metadata, "errors": {"test": {"hot": known}}})
        assert Monitor(expected, test.species).check(*frame).alarms == ()

    def test_a_few_members_that_differ_from_all_others_do_not_alarm(self, water):
        """They are those that have not seen the one block in which something rare occurs."""
        losses, test = water
        committee, frame = losses.committee, (test.positions[0], test.cell(0))
        members = len(committee.pair_coefficients)
        for number, expected in ((2, False), (members // 2 + 1, True)):
            coefficients = committee.pair_coefficients.copy()
            factors = np.linspace(-20.0, 20.0, number).reshape(-1, *[1] * (coefficients.ndim - 1))
            coefficients[:number] *= factors
            wild = replace(committee, pair_coefficients=coefficients, limit=1e9 * committee.limit)
            reading = Monitor(replace(losses, committee=wild), test.species).check(*frame)
            assert reading.uncertainty.min() > 500.0 * MEV_PER_ANGSTROM
            assert any("beside forces of" in alarm for alarm in reading.alarms) is expected

    @pytest.mark.parametrize("where", ["scattered", "one place", "far too near"])
    def test_configurations_like_nothing_in_the_data_are_alarming(self, water, monitor, where):
        _, test = water
        rng = np.random.default_rng(0)
        cell = test.cell(0)
        positions = rng.uniform(size=test.positions[0].shape) @ cell
        if where == "one place":
            positions[1] = positions[0]
        if where == "far too near":
            positions = test.positions[0].copy()
            positions[1::3] = positions[::3] + 0.001
        reading = monitor.check(positions, cell)
        assert len(reading.alarms) >= 2
        assert not any("nan" in alarm for alarm in reading.alarms)
        assert np.isfinite(reading.uncertainty).all()

    def test_molecules_far_from_each_other_are_unknown(self, water):
        losses, test = water
        far = test.positions[0].reshape(-1, 3, 3)[:2]
        far = far - far[:, :1] + np.array([[[0.0, 0.0, 0.0]], [[30.0, 0.0, 0.0]]])
        reading = Monitor(losses, test.species[:6]).check(far.reshape(-1, 3), None)
        assert any("local environment" in alarm or "mean loss" in alarm for alarm in reading.alarms)

    def test_either_of_domain_and_committee_is_enough(self, water):
        losses, test = water
        foreign = stretched(test, 0, 1, 0.125), test.cell(0)
        alone = Monitor(replace(losses, committee=None), test.species).check(*foreign)
        assert alone.uncertainty is None
        assert any("no such distance" in alarm for alarm in alone.alarms)
        other = Monitor(replace(losses, domain=None), test.species).check(*foreign)
        assert other.uncertainty.max() > 0.0
        assert not any("no such distance" in alarm for alarm in other.alarms)

    def test_mistakes_are_named(self, water):
        losses, test = water
        for wrong, message in (
            ({"losses": random_losses("pair")}, "neither a training domain nor a committee"),
            ({"action": "shout"}, "warn, stop, collect, got 'shout'"),
            ({"interval": 0}, "at least one step"),
            ({"species": ("Ne",)}, "Ne"),
            ({"false_alarms": 0.0}, "more than 0 false alarms"),
            ({"losses": replace(losses, committee=None), "per_atom": True}, "no committee"),
        ):
            with pytest.raises(DualityError, match=message):
                Monitor(**{"losses": losses, "species": test.species, **wrong})


def run(losses, directory, steps=60, monitor=None, **more):
    """64 H2O with learned losses on the CPU platform, from a held-out frame."""
    frames = liquid()[1]
    start, cell = more.pop("start", (frames.positions[0], frames.cell(0)))
    topology = duality.create_topology(frames.species, cell=cell)
    return duality.simulate(
        more.pop("system", None) or duality.create_system(losses, topology, backend="fused"),
        topology,
        start,
        duality.LangevinLearningIntegrator(300.0, 5.0, TIMESTEP),
        directory,
        steps=steps,
        monitor=monitor,
        **{"report_interval": 10, "checkpoint_interval": 20, "platform": "CPU", "seed": 4, "progress": False, **more},
    )


def rows(path):
    with open(path) as handle:
        return list(csv.DictReader(handle))


def contents(directory, *names):
    found = {name: bytearray((directory / name).read_bytes()) for name in names}
    if "trajectory.dcd" in found:
        found["trajectory.dcd"][DCD_DATE] = b""
    return found


class Dying:
    """A monitor during whose n-th check the process dies."""

    def __init__(self, monitor, checks):
        self._monitor, self._left = monitor, checks
        self.interval, self.action, self.per_atom = monitor.interval, monitor.action, monitor.per_atom
        self.to_dict = monitor.to_dict

    def check(self, positions, cell):
        self._left -= 1
        if self._left < 0:
            raise KeyboardInterrupt
        return self._monitor.check(positions, cell)


def test_a_monitor_changes_no_bit_of_a_run_and_fills_two_columns_of_its_log(water, tmp_path):
    losses, test = water
    result = run(losses, tmp_path / "with", monitor=Monitor(losses, test.species, interval=15))
    run(losses, tmp_path / "without")
    assert result.status == "finished"
    assert contents(tmp_path / "with", "trajectory.dcd") == contents(tmp_path / "without", "trajectory.dcd")
    log, plain = rows(tmp_path / "with" / "log.csv"), rows(tmp_path / "without" / "log.csv")
    columns = ("mean_force_uncertainty", "largest_force_uncertainty")
    for row, other in zip(log, plain, strict=True):
        assert {key: x for key, x in row.items() if key not in columns} == {
            key: x for key, x in other.items() if key not in columns
        }
        mean, largest = (float(row[column]) for column in columns)
        if int(row["step"]) % 15:
            assert np.isnan([mean, largest]).all()
        else:
            assert losses.committee.residual.min() < mean < largest
        assert all(other[column] == "nan" for column in columns)


def test_the_uncertainty_of_the_pressure_is_that_of_the_members_and_reaches_the_log(water, tmp_path):
    losses, test = water
    assert Monitor(losses, test.species).pressure_uncertainty(test.positions[0], test.cell(0)) is None
    known = PressureCalibration(12, 1.0, 1.0, 1.0, 1.0, residual=3.0, scale=2.0, within=(0.7, 1.0))
    calibration = Calibration(12, {}, known).to_dict()
    damaged = {**calibration, "pressure": {**calibration["pressure"], "scale": "two"}}
    with pytest.raises(DualityError, match="calibration of the pressure in the model is damaged"):
        Monitor(replace(losses, metadata={**losses.metadata, "calibration": damaged}), test.species)
    losses = replace(losses, metadata={**losses.metadata, "calibration": calibration})
    monitor = Monitor(losses, test.species, interval=1)

    def expected(positions, cell):
        found = [evaluate_agents(member, positions, test.species, cell).virial for member in losses.members()]
        pressures = [np.trace(virial) / (3.0 * volume(cell) * MEGAPASCAL) for virial in found]
        return np.hypot(3.0, 2.0 * np.std(pressures, ddof=1))

    frame = test.positions[0], test.cell(0)
    assert monitor.pressure_uncertainty(*frame) == pytest.approx(expected(*frame), rel=1e-3)
    topology = duality.create_topology(test.species, cell=test.cell(0))
    system = duality.create_system(losses, topology, backend="fused")
    with pytest.warns(UserWarning, match="without stresses"):
        duality.add_barostat(system, "1 bar", 300.0)
    run(losses, tmp_path, steps=45, report_interval=15, checkpoint_interval=45, monitor=monitor, system=system)
    found = read_run(tmp_path)
    logged = found.log["pressure_uncertainty_MPa"]
    assert np.isnan(logged).tolist() == [True, False, False]  # at the first report after steps 20 and 40
    last = next(iter(found.trajectory))
    assert logged[-1] == pytest.approx(expected(last.positions[-1].astype(float), last.cell(-1)), rel=1e-3)
    record = measure_density(found, found.log, 2)
    assert record.uncertainty == pytest.approx(np.sqrt(np.nanmean(logged**2)))


def test_warnings_are_written_and_the_run_goes_on(water, tmp_path):
    losses, test = water
    monitor = Monitor(with_low_limit(losses), test.species, interval=25, per_atom=True)
    result = run(losses, tmp_path, steps=60, monitor=monitor)
    assert (result.status, result.alarms) == ("finished", 3)
    assert "3 alarms (alarms.csv)" in result.message
    alarms = rows(tmp_path / "alarms.csv")
    assert [int(row["step"]) for row in alarms] == [0, 25, 50]
    assert [float(row["time_ps"]) for row in alarms] == pytest.approx([0.0, 0.0125, 0.025])
    assert all("predicted force error" in row["alarm"] for row in alarms)
    each = rows(tmp_path / "uncertainty.csv")
    assert [int(row["step"]) for row in each] == [0, 25, 50]
    assert list(each[0])[:5] == ["step", "time_ps", "O1", "H2", "H3"]
    sigmas = np.array([float(x) for x in list(each[2].values())[2:]])
    assert len(sigmas) == len(test.species)
    (row,) = (row for row in rows(tmp_path / "log.csv") if row["step"] == "50")
    assert float(row["mean_force_uncertainty"]) == pytest.approx(sigmas.mean(), rel=1e-3)
    assert float(row["largest_force_uncertainty"]) == pytest.approx(sigmas.max(), rel=1e-3)
    assert not (tmp_path / "collected.xyz").exists()
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["alarms"] == 3
    assert record["limits"]["monitor"] == {"action": "warn", "interval": 25, "per_atom": True, "false_alarms": 5e-6}


def test_collected_frames_are_those_of_the_run_at_most_one_every_50_fs(water, tmp_path):
    losses, test = water
    monitor = Monitor(with_low_limit(losses), test.species, action="collect", interval=10)
    result = run(losses, tmp_path, steps=240, monitor=monitor, report_interval=20)
    assert (result.status, result.alarms) == ("finished", 25)
    for frames in (read_extxyz(tmp_path / "collected.xyz"), read(tmp_path / "collected.xyz")):
        assert frames.species == test.species
        assert len(frames) == 3
        np.testing.assert_allclose(frames.cell(2), test.cell(0), atol=1e-6)
        np.testing.assert_allclose(frames.positions[0], test.positions[0], atol=1e-6)
    trajectory = mdtraj.load(tmp_path / "trajectory.dcd", top=tmp_path / "topology.pdb").xyz
    np.testing.assert_allclose(frames.positions[1:], trajectory[[100 // 20 - 1, 200 // 20 - 1]], atol=1e-5)
    text = (tmp_path / "collected.xyz").read_text()
    assert [f"step={step} time={0.5 * step:.6f}" in text for step in (0, 100, 200)] == [True] * 3
    assert text.count("predicted force error") == 3


def test_an_alarm_can_stop_a_run_with_the_frame_saved(water, tmp_path):
    losses, test = water
    foreign = stretched(test, 0, 100, 0.125)
    monitor = Monitor(losses, test.species, action="stop", interval=7)
    result = run(losses, tmp_path / "start", monitor=monitor, start=(foreign, test.cell(0)))
    assert (result.status, result.steps_done, result.alarms) == ("stopped", 0, 1)
    assert result.reason.startswith("the monitor: H–O at 1.2")
    assert "stopped itself" in result.message
    saved = app.PDBxFile(str(tmp_path / "start" / "stopped.cif")).getPositions(asNumpy=True)
    np.testing.assert_allclose(saved.value_in_unit(unit.nanometer), foreign, atol=1e-4)
    assert not (tmp_path / "start" / "last_good.pdb").exists()
    record = json.loads((tmp_path / "start" / "run.json").read_text())
    assert (record["status"], record["reason"], record["alarms"]) == ("stopped", result.reason, 1)
    # the same call again says the same again
    again = run(losses, tmp_path / "start", monitor=monitor, start=(foreign, test.cell(0)))
    assert (again.status, again.reason, again.alarms) == ("stopped", result.reason, 1)


def hot_water(test):
    """Velocities at which bonds are soon longer than any in the data."""
    masses = test.masses[:, None]
    return np.random.default_rng(1).normal(size=test.positions[0].shape) * np.sqrt(8.314e-3 * 4000.0 / masses)


@pytest.mark.parametrize("interval", [3, 10])
def test_the_state_before_the_alarm_is_the_one_to_go_back_to(water, tmp_path, interval):
    losses, test = water
    monitor = Monitor(losses, test.species, action="stop", interval=interval)
    limits = duality.Limits(max_temperature=1e6)
    result = run(losses, tmp_path, monitor=monitor, velocities=hot_water(test), limits=limits, steps=200)
    assert result.status == "stopped"
    assert 0 < result.steps_done < 200
    assert result.steps_done % interval == 0
    before = (result.steps_done - 1) // 10 * 10
    assert f"(last good state: step {before}, last_good.pdb)" in result.reason
    assert rows(tmp_path / "alarms.csv")[-1]["step"] == str(result.steps_done)
    assert rows(tmp_path / "log.csv")[-1]["step"] == str(before) if before else True
    stopped, good = (
        file_type(str(tmp_path / name)).getPositions(asNumpy=True).value_in_unit(unit.nanometer)
        for name, file_type in (("stopped.cif", app.PDBxFile), ("last_good.pdb", app.PDBFile))
    )
    check = Monitor(losses, test.species).check
    assert check(stopped, test.cell(0)).alarms
    assert not check(good, test.cell(0)).alarms


def test_a_stopped_run_goes_on_with_another_monitor_as_if_that_had_been_there(water, tmp_path):
    losses, test = water
    tight = with_close_limit(losses, test)
    stopped = run(losses, tmp_path / "a", steps=130, monitor=Monitor(tight, test.species, action="stop", interval=3))
    assert (stopped.status, stopped.alarms) == ("stopped", 1)
    assert 0 < stopped.steps_done < 130
    lenient = Monitor(tight, test.species, interval=3)
    resumed = run(losses, tmp_path / "a", steps=130, monitor=lenient)
    assert (resumed.status, resumed.steps_done) == ("finished", 130)
    assert not (tmp_path / "a" / "stopped.cif").exists()
    whole = run(losses, tmp_path / "b", steps=130, monitor=lenient)
    assert resumed.alarms == whole.alarms > 0
    names = ("trajectory.dcd", "log.csv", "alarms.csv")
    assert contents(tmp_path / "a", *names) == contents(tmp_path / "b", *names)


@pytest.mark.parametrize("checks", [1, 5, 17, 24])
def test_a_killed_run_goes_on_as_if_nothing_had_been(water, tmp_path, checks):
    losses, test = water

    tight = with_close_limit(losses, test)

    def fresh():
        return Monitor(tight, test.species, action="collect", interval=5, per_atom=True)

    names = ("trajectory.dcd", "log.csv", "alarms.csv", "uncertainty.csv", "collected.xyz")
    whole = run(losses, tmp_path / "whole", steps=130, monitor=fresh())
    assert 0 < whole.alarms < 27  # some checks, not all
    with pytest.raises(KeyboardInterrupt):
        run(losses, tmp_path / "broken", steps=130, monitor=Dying(fresh(), checks))
    again = run(losses, tmp_path / "broken", steps=130, monitor=fresh())
    assert (again.status, again.alarms) == ("finished", whole.alarms)
    assert contents(tmp_path / "broken", *names) == contents(tmp_path / "whole", *names)


def test_a_killed_run_remembers_when_it_last_collected(water, tmp_path):
    losses, test = water
    monitor = Monitor(with_low_limit(losses), test.species, action="collect", interval=5)
    with pytest.raises(KeyboardInterrupt):
        run(losses, tmp_path, steps=130, monitor=Dying(monitor, 10))
    assert run(losses, tmp_path, steps=130, monitor=monitor).resumed_from == 40
    assert [f"step={step} " in (tmp_path / "collected.xyz").read_text() for step in (0, 100)] == [True, True]
    assert len(read(tmp_path / "collected.xyz")) == 2


def test_alarms_outlive_a_part_of_the_run_without_a_monitor(water, tmp_path):
    losses, test = water
    monitor = Monitor(with_low_limit(losses), test.species, interval=10)
    assert run(losses, tmp_path, steps=20, monitor=monitor).alarms == 3
    assert run(losses, tmp_path, steps=40).alarms == 3
    assert run(losses, tmp_path, steps=60, monitor=monitor).alarms == 5
    assert [int(row["step"]) for row in rows(tmp_path / "alarms.csv")] == [0, 10, 20, 50, 60]


def test_positions_that_are_not_finite_stop_the_run_and_not_the_program(water, tmp_path):
    """Between two reports, with a monitor that only warns."""
    losses, _ = water
    species = ("O", "H", "H")
    system, force = mm.System(), mm.CustomExternalForce("100*sqrt(1 - x)")  # pulls to the edge, and is no number there
    for i, mass in enumerate((16.0, 1.0, 1.0)):
        system.addParticle(mass)
        force.addParticle(i, [])
    system.addForce(force)
    result = duality.simulate(
        system,
        duality.create_topology(species, cell=None),
        np.array([[0.9, 0.0, 0.0], [0.9, 0.1, 0.0], [0.9, -0.1, 0.0]]),
        duality.VerletLearningIntegrator(0.002),
        tmp_path,
        steps=5000,
        report_interval=1000,
        platform="Reference",
        temperature=300.0,
        seed=2,
        limits=duality.Limits(max_temperature=1e12),
        monitor=Monitor(losses, species, interval=1),
        progress=False,
    )
    assert result.status == "stopped"
    assert "not a finite number" in result.reason
    assert result.steps_done < 1000
