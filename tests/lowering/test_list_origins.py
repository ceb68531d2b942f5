"""Neighbour lists made anew: the forces of a resumed run are bitwise those of the run that went on."""

from __future__ import annotations

import numpy as np
import pytest

from openmm_duality.dynamics import LangevinLearningIntegrator, create_system, create_topology
from openmm_duality.dynamics.checkpoint import read_checkpoint
from openmm_duality.dynamics.running import simulate
from openmm_duality.errors import DualityError
from openmm_duality.lowering.list_origins import restore_lists, save_lists
from tests.benchmark.synthetic import weak_losses
from tests.systems import random_losses, random_positions

pytest.importorskip("llvmlite")
fused = pytest.importorskip("openmm_duality.lowering.fused.losses")

EDGES = {"narrow": (0.75, True), "one cell": (1.15, True), "two cells": (1.26, True), "open": (1.3, False)}


@pytest.mark.parametrize("name", EDGES)
def test_rounding_depends_on_where_the_list_was_made_and_on_nothing_else(name):
    edge, periodic = EDGES[name]
    box, rng = edge * np.eye(3), np.random.default_rng(1)
    positions = random_positions(int(60 * edge**3), box, least=0.12)
    later = positions + rng.uniform(-0.025, 0.025, positions.shape)  # within half the skin
    losses = random_losses("moment")
    species = [losses.species[k % 3] for k in range(len(positions))]
    aged, anew, remade = (fused.FusedLosses(losses, species) for _ in range(3))
    cell = box if periodic else None
    aged(positions, cell)
    energy, forces = aged(later, cell)
    other_energy, other_forces = anew(later, cell)
    assert np.array_equal(forces, other_forces) == (name == "one cell")
    np.testing.assert_allclose(forces, other_forces, atol=1e-4 * abs(forces).max())
    assert other_energy == pytest.approx(energy, rel=1e-4)
    remade(later, cell)
    remade.remake_list(aged.origin())
    assert remade(later, cell)[0] == energy
    assert np.array_equal(remade(later, cell)[1], forces)


def in_a_new_process():
    """Forget what evaluators keep from call to call, as a new process has it."""
    fused.unpacked.cache_clear()
    try:
        from openmm_duality.lowering.fused.operator import _unpacked
    except ImportError:  # no torch
        pass
    else:
        _unpacked.clear()


def run(directory, steps, backend="fused"):
    """Argon in two list cells along every edge."""
    cell = 1.3 * np.eye(3)
    positions = random_positions(120, cell, least=0.15)
    topology = create_topology(["Ar"] * 120, cell=cell)
    system = create_system(weak_losses(("Ar",), shortest=0.2), topology, backend=backend)
    in_a_new_process()
    integrator = LangevinLearningIntegrator(300.0, 5.0, 0.004)
    choices = {"report_interval": 4, "checkpoint_interval": 4, "platform": "Reference", "seed": 8, "progress": False}
    assert simulate(system, topology, positions, integrator, directory, steps=steps, **choices).status == "finished"
    return system


def trajectory(directory):
    data = bytearray((directory / "trajectory.dcd").read_bytes())
    data[180:260] = b""  # the date
    return bytes(data)


def test_a_resumed_run_has_the_lists_of_the_run_that_went_on(tmp_path):
    run(tmp_path / "whole", 40)
    for steps in (12, 28, 40):
        system = run(tmp_path / "resumed", steps)
    assert trajectory(tmp_path / "resumed") == trajectory(tmp_path / "whole")
    path = tmp_path / "whole" / "checkpoint.chk"
    saved = read_checkpoint(path, ["trajectory.dcd", "log.csv", "alarms.csv", "collected.xyz", "uncertainty.csv"]).lists
    assert saved == save_lists(system)
    assert len(saved) == 24 * (3 + 120)
    wrong = np.frombuffer(saved).copy()
    wrong[20] = np.nan
    for damaged, message in ((saved[:-24], "holds neighbour lists of other atoms"), (wrong.tobytes(), "not a finite")):
        with pytest.raises(DualityError, match=message):
            restore_lists(system, damaged, "checkpoint.chk")


def test_torchscript_keeps_no_lists(tmp_path):
    pytest.importorskip("torch")
    assert save_lists(run(tmp_path, 4, "torchscript")) == b""
