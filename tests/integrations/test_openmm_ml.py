"""The potential `duality` of openmm-ml, through its released interface."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import openmm as mm
import pytest
from openmm import app
from openmmml import MLPotential

from openmm_duality import add_to_system
from openmm_duality.dynamics.systems import species_of
from openmm_duality.errors import DualityError
from openmm_duality.losses import evaluate_agents
from tests.dynamics.mixtures import LOSSES, atoms_of, context, evaluated, water
from tests.lowering.platforms import energy_and_forces
from tests.pages import code_of
from tests.systems import random_losses, rms


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "water.safetensors"
    LOSSES.save(path)
    return path


def cell_of(topology):
    box = topology.getPeriodicBoxVectors()
    return None if box is None else np.array(box._value)


@pytest.mark.parametrize("backend", [None, "pythonforce"])
@pytest.mark.parametrize("periodic", [True, False])
def test_a_whole_system(model, periodic, backend):
    _, topology, positions = water(periodic=periodic, molecules=None if periodic else range(8))
    options = {} if backend is None else {"backend": backend}
    system = MLPotential("duality", model=model).createSystem(topology, precision="double", **options)
    assert system.usesPeriodicBoundaryConditions() is periodic
    energy, forces = evaluated(system, positions)
    expected = evaluate_agents(LOSSES, positions, species_of(topology), cell_of(topology))
    np.testing.assert_allclose(forces, expected.forces, atol=1e-9 * rms(expected.forces))
    assert energy == pytest.approx(expected.energy, abs=1e-9 * np.abs(expected.losses).sum())


def test_the_code_of_the_page_runs(model, monkeypatch):
    monkeypatch.chdir(model.parent)
    names = {}
    for page, code in (("mixing.md", code_of("mixing.md")[0]), ("other-programs.md", code_of("other-programs.md")[1])):
        exec(compile(code, page, "exec"), names)
    assert names["learned"].getNumParticles() == names["mixed"].getNumParticles() == names["system"].getNumParticles()
    assert names["mixed"].getNumConstraints() == names["system"].getNumConstraints() - 3


@pytest.mark.parametrize("interpolate", [False, True])
def test_a_mixed_system_is_the_one_of_add_to_system(model, interpolate):
    classical, topology, positions = water()
    atoms = atoms_of(topology, {0, 7, 20})
    mixed = MLPotential("duality", model=str(model)).createMixedSystem(
        topology, classical, atoms, interpolate=interpolate, precision="double"
    )
    expected = evaluated(add_to_system(classical, LOSSES, topology, atoms, precision="double"), positions)[1]
    where = context(mixed, positions)
    np.testing.assert_allclose(energy_and_forces(where)[1], expected, atol=1e-6 * rms(expected))
    if interpolate:
        where.setParameter("lambda_interpolate", 0.0)
        expected = evaluated(classical, positions)[1]
        np.testing.assert_allclose(energy_and_forces(where)[1], expected, atol=1e-3 * rms(expected))


def test_a_simulation(model):
    """With a thermostat of OpenMM; the losses are random, so the steps are short."""
    _, topology, positions = water()
    system = MLPotential("duality", model=model).createSystem(topology)
    integrator = mm.LangevinMiddleIntegrator(300, 1.0, 1e-5)
    simulation = app.Simulation(topology, system, integrator, mm.Platform.getPlatformByName("CPU"))
    simulation.context.setPositions(positions)
    simulation.step(5)
    moved = simulation.context.getState(positions=True).getPositions(asNumpy=True)._value
    assert 0.0 < np.abs(moved - positions).max() < 0.01


def test_what_it_cannot_be_is_refused(model, tmp_path):
    with pytest.raises(DualityError, match=r"model='FILE.safetensors'"):
        MLPotential("duality")
    with pytest.raises(DualityError, match="got cutoff"):
        MLPotential("duality", model=model, cutoff=1.0)
    with pytest.raises(DualityError, match="no\\.safetensors"):
        MLPotential("duality", model=tmp_path / "no.safetensors")
    with pytest.raises(DualityError, match="potential energy"):
        MLPotential("duality", model=random_losses("pair", "agent"))
    _, topology, _ = water(periodic=False, molecules=range(1))
    with pytest.raises(DualityError, match="unknown option device"):
        MLPotential("duality", model=model).createSystem(topology, device="cuda")
    with pytest.raises(DualityError, match="species"):
        MLPotential("duality", model=random_losses("pair")).createSystem(topology)


def test_openmm_ml_is_imported_without_torch():
    """It loads every plug-in when it is imported."""
    script = "import sys, openmmml; print('duality' in openmmml.MLPotential._implFactories, 'torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert result.stdout.split() == ["True", "False"]
