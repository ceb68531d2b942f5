"""Soft symmetries: their rows compared with forces, and what penalties on them do to an inference."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from openmm_duality.errors import DualityError
from openmm_duality.inference import DataSet, Settings, infer
from openmm_duality.inference.equations import symmetries
from openmm_duality.inference.equations.design import Design
from openmm_duality.inference.equations.unlabelled import Configuration, Step, isolated_cluster, steps
from openmm_duality.inference.errors import mean_pump
from openmm_duality.losses.evaluator import evaluate_agents
from tests.systems import CELL, labelled, random_frames, random_losses, random_positions, random_species, rms

SMALL = {"cutoff": 0.5, "pair_functions": 5, "functions": 2, "coarse_functions": 2, "intervals": 60, "members": 0}
N = 16


def made(form, gradient):
    """Losses, the design of their coefficients in one group, these, and a configuration."""
    losses = replace(random_losses(form, gradient), core_strength=np.zeros((3, 3)))
    design = Design.of(replace(losses, metadata={"regularisation": [{}]}))
    frame = Configuration(random_species(N), random_positions(N, CELL), CELL)
    return losses, design, design.layout.pack(losses)[0], frame


def forces(losses, frame):
    return evaluate_agents(losses, frame.positions, frame.species, frame.cell).forces


@pytest.mark.parametrize("gradient", ["agent", "mutual"])
def test_rows_of_forces_are_sums_of_forces_and_of_torques(gradient):
    losses, design, c, frame = made("moment", gradient)
    rng = np.random.default_rng(3)
    rows, targets = symmetries._net_force(design, losses, frame, rng)
    expected = forces(losses, frame).sum(axis=0) / np.sqrt(N)
    np.testing.assert_allclose(rows @ c[-rows.shape[1] :], expected, atol=1e-9 * np.abs(expected).max())
    assert not targets.any()
    assert np.abs(expected).max() > 1.0

    rows, targets = symmetries._net_torque(design, losses, {}, frame, np.random.default_rng(4))
    rng, expected = np.random.default_rng(4), []
    for _ in range(4):
        cluster = isolated_cluster(frame, {}, 24, rng)
        arms = cluster.positions - cluster.positions.mean(axis=0)
        torque = np.cross(arms, forces(losses, cluster)).sum(axis=0)
        expected.append(torque / np.sqrt(4.0 * 2.0 / 3.0 * np.sum(arms**2)))
    expected = np.concatenate(expected)
    np.testing.assert_allclose(rows @ c[-rows.shape[1] :], expected, atol=1e-9 * np.abs(expected).max())
    assert np.abs(expected).max() > 1.0


def test_work_along_a_path_is_the_loss_of_energy_of_a_shared_part():
    losses, design, c, frame = made("coupled", "mutual")
    *_, (_, first) = design.layout.first_columns(design.layout.groups[0])
    shared = np.where(np.arange(len(c)) < first, c, 0.0)
    conservative = replace(losses, gradient="collective", own=None)
    step = 0.003 * np.random.default_rng(5).normal(size=(N, 3))
    ends = [evaluate_agents(conservative, frame.positions + shift, frame.species, CELL).energy for shift in (0.0, step)]
    rows, targets = symmetries._work(design, losses, Step(frame, step, ends[1] - ends[0]), np.random.default_rng(0))
    assert rows @ shared == pytest.approx(targets, rel=1e-6)
    assert abs((rows @ c - targets)[0]) > 1e-3 * abs(targets[0])


def test_clusters_are_whole_molecules_nearest_to_each_other():
    """Two atoms bonded across the boundary stay together, and no pair is closer than in the periodic frame."""
    positions = np.array([[0.01, 0.5, 0.5], [0.93, 0.5, 0.5], [0.3, 0.5, 0.5], [0.6, 0.9, 0.5]])
    frame = Configuration(("A", "B", "A", "A"), positions, np.eye(3))
    seen = set()
    for seed in range(12):
        found = isolated_cluster(frame, {("A", "B"): 0.1}, 3, np.random.default_rng(seed))
        seen.add(found.species)
        assert found.cell is None
        if len(found.species) > 2:
            gaps = np.linalg.norm(found.positions[:, None] - found.positions, axis=-1)[np.triu_indices(3, 1)]
            assert gaps.min() == pytest.approx(0.08)
    assert ("A", "B", "A") in seen


def test_steps_are_short_and_between_frames_that_follow_each_other():
    frames = random_frames(4, n_atoms=8)
    still = np.repeat(frames.positions[:1], 4, axis=0)
    still[2] += 0.05 * np.eye(3)[0]  # across a boundary or not, all atoms move by this
    still[3] += 0.5 * np.eye(3)[1] + 0.05 * np.eye(3)[0]
    moving = replace(frames, positions=still, times=np.array([0.0, 0.0, 1.0, 2.0]), energies=np.array([5.0, 1, 4, 9]))
    (found,) = steps([DataSet(moving)], 8)
    assert found.energy_change == pytest.approx(3.0)
    np.testing.assert_allclose(found.displacement, 0.05 * np.eye(3)[:1].repeat(8, axis=0), atol=1e-12)
    with pytest.raises(DualityError, match="'work' needs consecutive frames"):
        steps([DataSet(frames)], 8)


@pytest.fixture(scope="module")
def frames():
    every = random_frames(16, n_atoms=N, least=0.17)
    return labelled(every, random_losses("moment", "collective", every.distinct_species))


@pytest.mark.parametrize("name", ["net-force", "net-torque"])
def test_a_penalty_brings_the_forces_nearer_to_the_symmetry(frames, name):
    choices = {"form": "quadratic", "gradient": "agent", "ridge": 1e-8, "curvature": 1e-8, **SMALL}
    broken = []
    for strength in (0.0, 1e2):
        losses = infer(frames[:12], symmetries={name: strength}, **choices)
        cut = {"net-force": lambda frame: frame, "net-torque": lambda frame: replace(frame, cell=None)}[name]
        found = []
        for t in range(12, 16):
            frame = cut(Configuration.of(frames, t))
            f = forces(losses, frame)
            found.append(f.sum(axis=0) if name == "net-force" else np.cross(frame.positions, f).sum(axis=0))
        broken.append(rms(np.array(found)))
    assert broken[1] < 0.5 * broken[0]


def test_a_penalty_on_work_lowers_the_power_along_the_trajectory():
    """Of pairs of frames 1 ps apart: what the forces do between them beside the loss of energy."""
    every = random_frames(16, n_atoms=N, least=0.17)
    move = 0.004 * np.random.default_rng(6).normal(size=(8, N, 3))
    every.positions[1::2] = every.positions[::2] + move
    frames = labelled(
        replace(every, times=np.arange(16.0)), random_losses("moment", "collective", every.distinct_species)
    )
    choices = {"form": "quadratic", "gradient": "agent", "ridge": 1e-8, "curvature": 1e-8, **SMALL}
    powers = []
    for strength in (0.0, 1e2):
        losses, found = infer(frames, symmetries={"work": strength}, **choices), []
        for t, along in enumerate(move):
            start, change = Configuration.of(frames, 2 * t), np.diff(frames.energies)[2 * t]
            ends = [forces(losses, replace(start, positions=start.positions + x * along)) for x in (0.0, 0.5, 1.0)]
            found.append(np.sum(along * (ends[0] + 4.0 * ends[1] + ends[2])) / 6.0 + change)
        powers.append(rms(np.array(found)))
    assert powers[1] < 0.2 * powers[0]


def test_unlabelled_frames_are_where_the_pump_is_held(frames):
    """Denser frames than those that are fitted: a penalty with their rows pumps less there."""
    choices = {"form": "quadratic", "gradient": "agent", "ridge": 1e-8, "curvature": 1e-8, "pump": 1e-2, **SMALL}
    dense = replace(random_frames(8, n_atoms=N, least=0.17, seed=3), forces=None)
    dense = replace(dense, positions=0.85 * dense.positions, cells=None if dense.cells is None else 0.85 * dense.cells)
    without = infer(frames, **choices)
    found = infer(frames, unlabelled=dense, **choices)
    assert without.metadata["pump"]["unlabelled"] is None
    before = mean_pump(without, dense)
    assert found.metadata["pump"]["unlabelled"] == pytest.approx(mean_pump(found, dense))
    assert found.metadata["pump"]["unlabelled"] < 0.8 * before


def test_what_has_the_symmetries_or_no_such_name_is_refused(frames):
    with pytest.raises(DualityError, match="have a potential, with all its symmetries"):
        Settings(gradient="collective", symmetries={"net-force": 1.0})
    with pytest.raises(DualityError, match="momentum is not one of net-force, net-torque, work"):
        Settings(gradient="agent", symmetries={"momentum": 1.0})
    with pytest.raises(DualityError, match="unlabelled frames contain Xe"):
        infer(frames, unlabelled=replace(frames, species=("Xe",) * N), gradient="agent", pump=1.0, **SMALL)
    with pytest.raises(DualityError, match="unlabelled frames are for penalties"):
        infer(frames, unlabelled=frames, gradient="agent", **SMALL)
