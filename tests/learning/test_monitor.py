"""The guard: quiet where the model knows its way, and what a run does where it does not."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import mdtraj
import numpy as np
import openmm as mm
import pytest
from openmm import app, unit

import openmm_duality as duality
from openmm_duality.errors import DualityError
from openmm_duality.learning import Guard
from openmm_duality.reference import read, read_extxyz
from openmm_duality.units import MEV_PER_ANGSTROM
from tests.inference.test_domain import compressed, stretched
from tests.systems import random_losses
from tests.water import liquid, small_water

TIMESTEP = 0.0005
DCD_DATE = slice(180, 260)


@pytest.fixture(scope="module")
def water():
    return small_water(), liquid()[1]


@pytest.fixture(scope="module")
def guard(water):
    losses, test = water
    return Guard(losses, test.species)


def uneasy(losses, share=1e-3):
    """The same model, to which every force is too uncertain."""
    return replace(losses, committee=replace(losses.committee, limit=share * losses.committee.limit))


def barely(losses, test):
    """The same model, which knows the first frame, but not all that comes after it."""
    start = Guard(losses, test.species).look(test.positions[0], test.cell(0)).uncertainty
    return uneasy(losses, 1.2 * (start / losses.committee.limit[losses.index_of(test.species)]).max())


class TestLook:
    def test_it_is_quiet_on_frames_held_out_by_time(self, water, guard):
        losses, test = water
        for t in range(len(test)):
            seen = guard.look(test.positions[t], test.cell(t))
            assert seen.alarms == ()
            assert seen.uncertainty.shape == (len(test.species),)
            species_index = losses.index_of(test.species)
            assert (seen.uncertainty >= 0.999 * losses.committee.residual[species_index]).all()

    def test_the_uncertainty_is_that_of_the_members(self, water, guard):
        losses, test = water
        found = [
            duality.evaluate_agents(m, test.positions[0], test.species, test.cell(0)).forces for m in losses.members()
        ]
        expected = losses.committee.uncertainty(np.array(found), losses.index_of(test.species))
        np.testing.assert_allclose(guard.look(test.positions[0], test.cell(0)).uncertainty, expected, rtol=1e-3)

    def test_a_pulled_bond_is_named_with_its_length_and_an_atom_of_it(self, water, guard):
        _, test = water
        alarms = guard.look(stretched(test, 3, 100, 0.125), test.cell(3)).alarms
        (distance,) = (words for words in alarms if "never held" in words)
        assert distance.startswith("H–O at 1.2")
        assert "(H 101)" in distance or "(O 100)" in distance

    def test_unknown_surroundings_are_named_where_all_distances_are_known(self, water, guard):
        _, test = water
        alarms = guard.look(stretched(test, 0, 1, 0.16), test.cell(0)).alarms
        assert any("outside the training distribution" in words and "× limit" in words for words in alarms)

    def test_a_compressed_box_is_told_by_its_mean_loss(self, water, guard):
        _, test = water
        words = "; ".join(guard.look(*compressed(test, 0, 0.9)).alarms)
        assert "the mean loss of" in words

    def test_a_committee_that_disagrees_is_named_with_its_largest_share(self, water):
        losses, test = water
        seen = Guard(uneasy(losses), test.species).look(test.positions[0], test.cell(0))
        (words,) = seen.alarms
        share = seen.uncertainty / (1e-3 * losses.committee.limit[losses.index_of(test.species)])
        i = int(share.argmax())
        assert f"the force on {test.species[i]} {i + 1} is uncertain by" in words
        assert f"{seen.uncertainty[i] / MEV_PER_ANGSTROM:.0f} meV/Å" in words
        assert f"{share[i]:.2f} times" in words

    @pytest.mark.parametrize("where", ["scattered", "one place", "far too near"])
    def test_configurations_like_nothing_in_the_data_are_alarming(self, water, guard, where):
        _, test = water
        rng = np.random.default_rng(0)
        cell = test.cell(0)
        positions = rng.uniform(size=test.positions[0].shape) @ cell
        if where == "one place":
            positions[1] = positions[0]
        if where == "far too near":
            positions = test.positions[0].copy()
            positions[1::3] = positions[::3] + 0.001
        seen = guard.look(positions, cell)
        assert len(seen.alarms) >= 2
        assert not any("nan" in words for words in seen.alarms)
        unknown = np.flatnonzero(~np.isfinite(seen.uncertainty))  # two atoms at one place have no direction
        assert unknown.tolist() == ([0, 1] if where == "one place" else [])
        assert any("no finite number" in words for words in seen.alarms) == (where == "one place")

    def test_molecules_far_from_each_other_are_unknown(self, water):
        losses, test = water
        far = test.positions[0].reshape(-1, 3, 3)[:2]
        far = far - far[:, :1] + np.array([[[0.0, 0.0, 0.0]], [[30.0, 0.0, 0.0]]])
        seen = Guard(losses, test.species[:6]).look(far.reshape(-1, 3), None)
        assert any("local environment" in words or "mean loss" in words for words in seen.alarms)

    def test_either_of_domain_and_committee_is_enough(self, water):
        losses, test = water
        foreign = stretched(test, 0, 1, 0.125), test.cell(0)
        alone = Guard(replace(losses, committee=None), test.species).look(*foreign)
        assert alone.uncertainty is None
        assert any("never held" in words for words in alone.alarms)
        other = Guard(replace(losses, domain=None), test.species).look(*foreign)
        assert other.uncertainty.max() > 0.0
        assert not any("never held" in words for words in other.alarms)

    def test_mistakes_are_named(self, water):
        losses, test = water
        for wrong, message in (
            ({"losses": random_losses("pair")}, "neither its domain nor its uncertainty"),
            ({"action": "shout"}, "warn, stop, collect, got 'shout'"),
            ({"interval": 0}, "at least one step"),
            ({"species": ("Ne",)}, "Ne"),
            ({"losses": replace(losses, committee=None), "per_atom": True}, "no committee"),
        ):
            with pytest.raises(DualityError, match=message):
                Guard(**{"losses": losses, "species": test.species, **wrong})


def run(losses, directory, steps=60, guard=None, **more):
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
        guard=guard,
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
    """A guard during whose n-th look the process goes."""

    def __init__(self, guard, looks):
        self._guard, self._left = guard, looks
        self.interval, self.action, self.per_atom = guard.interval, guard.action, guard.per_atom
        self.to_dict = guard.to_dict

    def look(self, positions, cell):
        self._left -= 1
        if self._left < 0:
            raise KeyboardInterrupt
        return self._guard.look(positions, cell)


def test_a_guard_changes_no_bit_of_a_run_and_fills_two_columns_of_its_log(water, tmp_path):
    losses, test = water
    result = run(losses, tmp_path / "with", guard=Guard(losses, test.species, interval=15))
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


def test_warnings_are_written_and_the_run_goes_on(water, tmp_path):
    losses, test = water
    guard = Guard(uneasy(losses), test.species, interval=25, per_atom=True)
    result = run(losses, tmp_path, steps=60, guard=guard)
    assert (result.status, result.alarms) == ("finished", 3)
    assert "3 alarms (alarms.csv)" in result.message
    alarms = rows(tmp_path / "alarms.csv")
    assert [int(row["step"]) for row in alarms] == [0, 25, 50]
    assert [float(row["time_ps"]) for row in alarms] == pytest.approx([0.0, 0.0125, 0.025])
    assert all("is uncertain by" in row["alarm"] for row in alarms)
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
    assert record["limits"]["guard"] == {"action": "warn", "interval": 25, "per_atom": True}


def test_collected_frames_are_those_of_the_run_at_most_one_every_50_fs(water, tmp_path):
    losses, test = water
    guard = Guard(uneasy(losses), test.species, action="collect", interval=10)
    result = run(losses, tmp_path, steps=240, guard=guard, report_interval=20)
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
    assert text.count("is uncertain by") == 3


def test_an_alarm_can_stop_a_run_with_the_frame_saved(water, tmp_path):
    losses, test = water
    foreign = stretched(test, 0, 100, 0.125)
    guard = Guard(losses, test.species, action="stop", interval=7)
    result = run(losses, tmp_path / "start", guard=guard, start=(foreign, test.cell(0)))
    assert (result.status, result.steps_done, result.alarms) == ("stopped", 0, 1)
    assert result.reason.startswith("the guard: H–O at 1.2")
    assert "stopped itself" in result.message
    saved = app.PDBFile(str(tmp_path / "start" / "stopped.pdb")).getPositions(asNumpy=True)
    np.testing.assert_allclose(saved.value_in_unit(unit.nanometer), foreign, atol=1e-4)
    assert not (tmp_path / "start" / "last_good.pdb").exists()
    record = json.loads((tmp_path / "start" / "run.json").read_text())
    assert (record["status"], record["reason"], record["alarms"]) == ("stopped", result.reason, 1)
    # the same call again says the same again
    again = run(losses, tmp_path / "start", guard=guard, start=(foreign, test.cell(0)))
    assert (again.status, again.reason, again.alarms) == ("stopped", result.reason, 1)


def hot_water(test):
    """Velocities at which bonds are soon longer than any in the data."""
    masses = test.masses[:, None]
    return np.random.default_rng(1).normal(size=test.positions[0].shape) * np.sqrt(8.314e-3 * 4000.0 / masses)


@pytest.mark.parametrize("interval", [3, 10])
def test_the_state_before_the_alarm_is_the_one_to_go_back_to(water, tmp_path, interval):
    losses, test = water
    guard = Guard(losses, test.species, action="stop", interval=interval)
    limits = duality.Limits(max_temperature=1e6)
    result = run(losses, tmp_path, guard=guard, velocities=hot_water(test), limits=limits, steps=200)
    assert result.status == "stopped"
    assert 0 < result.steps_done < 200
    assert result.steps_done % interval == 0
    before = (result.steps_done - 1) // 10 * 10
    assert f"(last good state: step {before}, last_good.pdb)" in result.reason
    assert rows(tmp_path / "alarms.csv")[-1]["step"] == str(result.steps_done)
    assert rows(tmp_path / "log.csv")[-1]["step"] == str(before) if before else True
    stopped, good = (
        app.PDBFile(str(tmp_path / name)).getPositions(asNumpy=True).value_in_unit(unit.nanometer)
        for name in ("stopped.pdb", "last_good.pdb")
    )
    look = Guard(losses, test.species).look
    assert look(stopped, test.cell(0)).alarms
    assert not look(good, test.cell(0)).alarms


def test_a_stopped_run_goes_on_with_another_guard_as_if_that_had_been_there(water, tmp_path):
    losses, test = water
    uneasier = barely(losses, test)
    stopped = run(losses, tmp_path / "a", steps=130, guard=Guard(uneasier, test.species, action="stop", interval=3))
    assert (stopped.status, stopped.alarms) == ("stopped", 1)
    assert 0 < stopped.steps_done < 130
    lenient = Guard(uneasier, test.species, interval=3)
    resumed = run(losses, tmp_path / "a", steps=130, guard=lenient)
    assert (resumed.status, resumed.steps_done) == ("finished", 130)
    assert not (tmp_path / "a" / "stopped.pdb").exists()
    whole = run(losses, tmp_path / "b", steps=130, guard=lenient)
    assert resumed.alarms == whole.alarms > 0
    names = ("trajectory.dcd", "log.csv", "alarms.csv")
    assert contents(tmp_path / "a", *names) == contents(tmp_path / "b", *names)


@pytest.mark.parametrize("looks", [1, 5, 17, 24])
def test_a_killed_run_goes_on_as_if_nothing_had_been(water, tmp_path, looks):
    losses, test = water

    uneasier = barely(losses, test)

    def fresh():
        return Guard(uneasier, test.species, action="collect", interval=5, per_atom=True)

    names = ("trajectory.dcd", "log.csv", "alarms.csv", "uncertainty.csv", "collected.xyz")
    whole = run(losses, tmp_path / "whole", steps=130, guard=fresh())
    assert 0 < whole.alarms < 27  # some looks, not all
    with pytest.raises(KeyboardInterrupt):
        run(losses, tmp_path / "broken", steps=130, guard=Dying(fresh(), looks))
    again = run(losses, tmp_path / "broken", steps=130, guard=fresh())
    assert (again.status, again.alarms) == ("finished", whole.alarms)
    assert contents(tmp_path / "broken", *names) == contents(tmp_path / "whole", *names)


def test_a_killed_run_remembers_when_it_last_collected(water, tmp_path):
    losses, test = water
    guard = Guard(uneasy(losses), test.species, action="collect", interval=5)
    with pytest.raises(KeyboardInterrupt):
        run(losses, tmp_path, steps=130, guard=Dying(guard, 10))
    assert run(losses, tmp_path, steps=130, guard=guard).resumed_from == 40
    assert [f"step={step} " in (tmp_path / "collected.xyz").read_text() for step in (0, 100)] == [True, True]
    assert len(read(tmp_path / "collected.xyz")) == 2


def test_alarms_outlive_a_part_of_the_run_without_a_guard(water, tmp_path):
    losses, test = water
    guard = Guard(uneasy(losses), test.species, interval=10)
    assert run(losses, tmp_path, steps=20, guard=guard).alarms == 3
    assert run(losses, tmp_path, steps=40).alarms == 3
    assert run(losses, tmp_path, steps=60, guard=guard).alarms == 5
    assert [int(row["step"]) for row in rows(tmp_path / "alarms.csv")] == [0, 10, 20, 50, 60]


def test_positions_that_are_not_finite_stop_the_run_and_not_the_program(water, tmp_path):
    """Between two reports, with a guard that only warns."""
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
        guard=Guard(losses, species, interval=1),
        progress=False,
    )
    assert result.status == "stopped"
    assert "not a finite number" in result.reason
    assert result.steps_done < 1000
