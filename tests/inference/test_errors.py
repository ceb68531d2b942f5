"""Error tables compared with direct NumPy, and errors for data that cannot be evaluated."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest

from openmm_duality.errors import DualityError
from openmm_duality.inference import DataSet, ErrorTable, Settings, evaluate, infer
from openmm_duality.inference.equations.inference import Inference
from openmm_duality.inference.errors import UNITS, format_tables
from openmm_duality.inference.judgement import error_of_fit, outlying_frames
from openmm_duality.inference.uncertainty.measurements import measure
from openmm_duality.reference import MixedFrames
from openmm_duality.reference.frames import formula
from openmm_duality.units import MEV, MEV_PER_ANGSTROM
from tests.systems import SPECIES, labelled, random_frames, random_losses, rms, verlet


@pytest.fixture(scope="module")
def losses():
    return random_losses("quadratic", "collective", SPECIES[:2])


@pytest.fixture(scope="module")
def spoilt(losses):
    """Frames whose forces and energies have known errors, and the force errors."""
    frames = labelled(random_frames(5), losses)
    noise = np.random.default_rng(0).normal(size=frames.forces.shape)
    energies = frames.energies + 1000.0 + np.array([1.0, -1.0, 0.0, 2.0, -2.0])
    return replace(frames, forces=frames.forces + noise, energies=energies), noise


def test_table_against_direct_numpy(losses, spoilt):
    frames, noise = spoilt
    table = evaluate(losses, frames)
    of_argon = np.array(frames.species) == "Ar"
    assert table.frames == 5
    assert table.force_rmse["all"] == pytest.approx(rms(noise) / MEV_PER_ANGSTROM)
    assert table.force_mae["all"] == pytest.approx(np.abs(noise).mean() / MEV_PER_ANGSTROM)
    assert table.force_mae["Ar"] == pytest.approx(np.abs(noise[:, of_argon]).mean() / MEV_PER_ANGSTROM)
    assert table.force_rmse["Ar"] == pytest.approx(rms(noise[:, of_argon]) / MEV_PER_ANGSTROM)
    assert table.force_rms["Kr"] == pytest.approx(rms(frames.forces[:, ~of_argon]) / MEV_PER_ANGSTROM)
    # the mean difference is the gauge
    assert table.energy_rmse_per_atom == pytest.approx(np.sqrt(2.0) / frames.n_atoms / MEV, rel=1e-6)
    assert table.energy_mae_per_atom == pytest.approx(1.2 / frames.n_atoms / MEV, rel=1e-6)
    assert ErrorTable.from_dict(table.to_dict()) == table
    assert table.to_dict()["units"] == UNITS


def test_errors_by_composition(losses, spoilt):
    frames, noise = spoilt
    of_argon = np.array(frames.species) == "Ar"
    fewer = labelled(random_frames(3, n_atoms=frames.n_atoms - 5), losses)
    mixed = MixedFrames((replace(frames, steps=np.arange(0, 10, 2)), replace(fewer, steps=np.arange(1, 7, 2))))
    table = evaluate(losses, mixed)
    names = [formula(part.species) for part in mixed.parts]
    assert [table.groups[name].frames for name in names] == [5, 3]
    assert table.groups[names[0]].force_rmse["Ar"] == pytest.approx(rms(noise[:, of_argon]) / MEV_PER_ANGSTROM)
    assert table.groups[names[1]].force_rmse["all"] < 1e-6
    assert ErrorTable.from_dict(table.to_dict()) == table
    header, first, second = str(table).splitlines()[-3:]
    assert header.split() == ["frames", "number", "force", "MAE", "energy", "MAE"]
    assert first.split()[:2] == [names[0], "5"]
    assert second.split()[:3] == [names[1], "3", "0.0"]
    assert evaluate(losses, frames).groups == {}
    by_label = evaluate(losses, mixed, labels={0: "first", 1: "second", 2: "second", 3: "second"}).groups
    assert {name: one.frames for name, one in by_label.items()} == {"first": 1, "second": 3, "without": 4}
    assert by_label["first"].force_rmse["all"] == pytest.approx(rms(noise[0]) / MEV_PER_ANGSTROM)


def test_without_forces_the_reference_is_the_accelerations():
    """On a trajectory of the same losses they agree with the forces; `at_most` limits the number of targets."""
    losses = random_losses("pair", "collective", SPECIES[:2])
    frames = verlet(losses, random_frames(1, n_atoms=20, least=0.2), 100)
    bare = replace(frames, forces=None)
    table = evaluate(losses, bare)
    assert (table.targets, table.frames, table.energy_rmse_per_atom) == ("accelerations", 5, None)
    assert table.force_rmse["all"] < 1e-6 * table.force_rms["all"]
    assert table.force_rms["all"] == pytest.approx(rms(frames.forces[1:-1:20]) / MEV_PER_ANGSTROM, rel=1e-6)
    assert evaluate(losses, bare, at_most=2).force_rms["all"] == pytest.approx(
        rms(frames.forces[[1, 81]]) / MEV_PER_ANGSTROM, rel=1e-6
    )
    assert ErrorTable.from_dict(table.to_dict()) == table


def test_agent_losses_have_no_energy_error(losses, spoilt):
    assert evaluate(replace(losses, gradient="agent"), spoilt[0]).energy_rmse_per_atom is None


def test_evenly_spaced_frames_are_evaluated(losses, spoilt):
    frames, noise = spoilt
    assert evaluate(losses, frames, at_most=3).force_rmse["all"] == pytest.approx(
        rms(noise[[0, 2, 4]]) / MEV_PER_ANGSTROM
    )
    assert evaluate(losses, frames, at_most=99).frames == 5


def test_tables_side_by_side_show_every_species(losses):
    tables = {
        "one": ErrorTable(1, {"all": 1.0, "Ar": 1.0}, {"all": 0.7, "Ar": 0.7}, {"all": 2.0, "Ar": 2.0}),
        "other": ErrorTable(2, {"all": 3.0, "Kr": 3.0}, {"all": 2.1, "Kr": 2.1}, {"all": 0.0, "Kr": 4.0}, 0.5, 0.4),
    }
    text = format_tables(tables)
    rows = {line.split()[0]: line for line in text.splitlines()}
    assert {"all", "Ar", "Kr", "energy", "frames"} <= set(rows)
    assert "50.0 %" in rows["all"]
    assert "75.0 %" in rows["Kr"]


def test_unsuitable_frames_are_refused(losses, spoilt):
    frames, _ = spoilt
    for wrong, message in (
        (replace(frames, forces=None, energies=None), "no forces and are not dynamics"),
        (frames[:0], "no frames with forces"),
        (labelled(random_frames(1, species=SPECIES), random_losses()), "Xe"),
    ):
        with pytest.raises(DualityError, match=message):
            evaluate(losses, wrong)


def test_frames_whose_errors_are_far_above_those_of_others_are_named(losses):
    frames = labelled(random_frames(12), losses)
    noise = np.random.default_rng(0).normal(size=frames.forces.shape) * rms(frames.forces) * 0.01
    noise[7] *= 20.0
    spoilt = replace(frames, forces=frames.forces + noise, steps=np.arange(100, 112))
    table = evaluate(losses, spoilt)
    assert table.outlying == {"107": pytest.approx(rms(noise[7]) / MEV_PER_ANGSTROM)}
    assert ErrorTable.from_dict(table.to_dict()) == table
    (sentence,) = outlying_frames({"data.xyz": table})
    assert sentence.startswith("data.xyz: errors are far above those of all other frames in 107 (")
    # an error that is as large beside the forces of its frame is none of its own
    noise[7] /= 20.0
    even = replace(spoilt, forces=frames.forces + noise)
    strong = replace(even, forces=even.forces * np.where(np.arange(12) == 7, 30.0, 1.0)[:, None, None])
    assert evaluate(losses, even).outlying == {}
    assert list(evaluate(losses, strong).outlying) == ["107"]  # of which the losses know nothing
    assert evaluate(losses, spoilt[4:9]).outlying == {}  # too few to say what is usual


def test_energies_of_another_potential_than_the_forces_are_said(losses):
    frames = labelled(random_frames(24, n_atoms=12), losses)
    choices = {"cutoff": 0.5, "channels": 3, "invariants": (10, 10, 0), "mixing_steps": 1, "members": 0}
    choices |= {"stress_weight": 0.0, "curvature": 1e-6, "ridge": 1e-7, "energy_weight": 0.1}
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="forces are fitted")
        infer(frames, **choices)
        shuffled = replace(frames, energies=100.0 * np.ptp(frames.energies) * np.random.default_rng(0).normal(size=24))
        infer(shuffled, **{**choices, "energy_weight": 0.0})
    with pytest.warns(UserWarning, match=r"beside energies, and of [\d.]+ without, so that they are not of one"):
        infer(shuffled, **choices)


def test_the_error_of_a_fit_is_weighted_as_the_fit(losses):
    frames = [labelled(random_frames(6, n_atoms=12, seed=seed), losses) for seed in (0, 1)]
    data = [DataSet(frames[0]), DataSet(frames[1], weight=0.2)]
    inference = Inference.of(data, Settings(form="pair", cutoff=0.5, curvature=1e-6, ridge=1e-7, members=0))
    fitted = inference.losses([{"curvature": 1e-6, "ridge": 1e-7}])
    (total,) = inference.totals
    (solution,) = inference.design.layout.pack(fitted)
    expected = np.sqrt(total.squared_error(solution) / total.weight) / MEV_PER_ANGSTROM
    measured = [(s.weight, 6, measure(s.frames, dict.fromkeys(range(6), (fitted,)))) for s in data]
    assert error_of_fit(measured, inference.settings.large_force) == pytest.approx(expected, rel=1e-6)
    every_second = [(s.weight, 6, measure(s.frames, dict.fromkeys(range(0, 6, 2), (fitted,)))) for s in data]
    assert error_of_fit(every_second, inference.settings.large_force) == pytest.approx(expected, rel=0.3)
