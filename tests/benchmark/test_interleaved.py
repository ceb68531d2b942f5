"""Timing: interleaved, in processes of their own, within a budget, with a check of what ran."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import asdict

import numpy as np
import pytest
from openmm import unit

from openmm_duality.benchmark.cases import FLEXIBLE_PME, Case, benchmark_cases, prepare
from openmm_duality.benchmark.interleaved import Effort, time_interleaved
from openmm_duality.benchmark.water import water_box
from openmm_duality.benchmark.worker import Worker, load_start, save_start
from openmm_duality.errors import DualityError
from tests.benchmark.synthetic import weak_losses

PME = Case(FLEXIBLE_PME, "CPU")


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A file with 30 molecules."""
    path = tmp_path_factory.mktemp("start") / "start.npz"
    save_start(path, water_box(30))
    return path


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Gentle losses of water, and some that know no hydrogen."""
    folder = tmp_path_factory.mktemp("models")
    for name, species in (("fits", ("H", "O")), ("other", ("Ne", "O"))):
        weak_losses(species).save(folder / f"{name}.safetensors")
    return folder


@pytest.mark.parametrize("kind", ["duality", "tip3p-flexible-pme", "tip3p-flexible-rf", "tip3p-rigid-pme"])
def test_flexible_models_share_integrator_and_step(kind, start, models):
    model = kind == "duality"
    chosen = (
        Case("duality:pair", "CPU", "torchscript", str(models / "fits.safetensors")) if model else Case(kind, "CPU")
    )
    timed = prepare(chosen, load_start(start))
    rigid = "rigid" in kind
    assert timed.facts["timestep"] == pytest.approx(2e-3 if rigid else 0.5e-3)
    assert timed.facts["integrator"] == ("LangevinMiddleIntegrator" if rigid else "NoseHooverLearningIntegrator")
    state = timed.context.getState(energy=True)
    dof = 3 * 90 - 3 - (90 if rigid else 0)
    kinetic = state.getKineticEnergy().value_in_unit(unit.kilojoule_per_mole)
    assert 2 * kinetic / (dof * 0.0083144626) == pytest.approx(300.0, rel=0.4)


def test_every_row_is_timed_or_says_why_not(start, models):
    paths = [models / "fits.safetensors", models / "other.safetensors"]
    cases = [*benchmark_cases(paths, ["CPU"], ["torchscript"], tip3p=False), PME, Case(FLEXIBLE_PME, "Nowhere")]
    rows = time_interleaved(cases, start, 30, 90, Effort(repeats=3, warm_up=5, steps=5, seconds=0.01))
    fits, other, pme, nowhere = rows
    for row in (fits, pme):
        assert row.error == ""
        assert len(row.blocks) == 3
        assert min(row.blocks) > 0
        assert row.memory > 50
        assert row.facts["threads"] >= 1
    assert "contain H too" in other.error
    assert "Nowhere" in nowhere.error
    assert other.ms_per_step is nowhere.ms_per_step is None
    assert [row.what for row in rows] == ["duality:pair", "duality:pair", FLEXIBLE_PME, FLEXIBLE_PME]


def test_a_row_stops_when_its_budget_is_spent(start):
    effort = Effort(repeats=200, warm_up=3, steps=50, seconds=0.05, budget=0.2)
    (row,) = time_interleaved([PME], start, 30, 90, effort)
    spent = sum(row.blocks) * row.steps_per_repeat / 1e3
    assert spent >= 0.2
    assert spent - row.blocks[-1] * row.steps_per_repeat / 1e3 < 0.2


@pytest.mark.parametrize(
    ("seconds_per_step", "steps"),
    [(1e-4, 5000), (0.1, 40), (1.0, 40), (3.0, 20), (1000.0, 1)],
)
def test_a_block_is_long_enough_to_time_and_fits_the_budget(seconds_per_step, steps):
    assert Effort(budget=60.0, steps=40, seconds=0.5).block(seconds_per_step) == steps


def test_a_run_that_diverges_has_no_times(start):
    timed = prepare(Case(FLEXIBLE_PME, "Reference"), load_start(start))
    timed.check()
    timed.context.setVelocitiesToTemperature(3000.0)
    with pytest.raises(DualityError, match="diverged"):
        timed.check()
    timed.context.setVelocities(np.full((90, 3), np.nan))
    with pytest.raises(DualityError, match="diverged"):
        timed.check()


def test_a_process_that_dies_ends_no_other(start):
    with Worker() as doomed, Worker() as other:
        for worker in (doomed, other):
            worker.call("prepare", case=asdict(PME), start=str(start))
        os.kill(doomed._process.pid, signal.SIGKILL)
        with pytest.raises(DualityError, match="SIGKILL"):
            doomed.call("block", steps=5)
        assert other.call("block", steps=5)["seconds"] > 0
        with pytest.raises(DualityError, match="FileNotFoundError"):
            other.call("prepare", case=asdict(PME), start="nothing.npz")


def test_a_process_may_not_take_more_memory_than_it_was_given():
    script = """
import numpy as np
from openmm_duality.benchmark.machine import limit_memory, peak_memory
limit_memory(200)
before = peak_memory()
allocated = np.ones(100 * 2**17)
assert 80 < peak_memory() - before < 140, (before, peak_memory())
try:
    np.ones(200 * 2**17)
except MemoryError:
    print("refused")
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout == "refused\n"
