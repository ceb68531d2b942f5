"""The losses inside OpenMM, by every back end of the installed set and on every platform, against the evaluator."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata

import numpy as np
import openmm as mm
import pytest

from openmm_duality.errors import DualityError
from openmm_duality.losses import FORMS, evaluate_agents
from openmm_duality.lowering import dependencies, lower
from tests.lowering.platforms import (
    BACKENDS,
    DOUBLE,
    SINGLE,
    context_of,
    energy_and_forces,
    in_every_cell,
    through_openmm,
)
from tests.systems import CELL, covering, random_losses, random_positions, random_species, rms

N = 30
SPECIES = random_species(N)


def test_this_set_can_run_torchscript():
    assert BACKENDS


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("form", "gradient", "platform", "precision"), covering(FORMS, DOUBLE))
def test_double_precision_on_every_platform(form, gradient, platform, precision, backend):
    losses = random_losses(form, gradient)
    found = in_every_cell(losses, SPECIES, backend=backend, platform=platform, precision=precision)
    for positions, cell, energy, forces in found:
        expected = evaluate_agents(losses, positions, SPECIES, cell)
        assert np.abs(forces - expected.forces).max() < 1e-9 * rms(expected.forces)
        assert energy == pytest.approx(expected.energy, abs=1e-9 * np.abs(expected.losses).sum())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("form", "gradient", "platform", "precision", "arithmetic"),
    [*covering(["moment"], SINGLE, ["double", "single"]), *covering(["quadratic"], SINGLE, ["single", "double"])],
)
def test_single_precision(form, gradient, platform, precision, arithmetic, backend):
    losses = random_losses(form, gradient)
    choices = {"platform": platform, "precision": precision, "arithmetic": arithmetic}
    for positions, cell, _, forces in in_every_cell(losses, SPECIES, backend=backend, **choices):
        expected = evaluate_agents(losses, positions, SPECIES, cell).forces
        assert rms(forces - expected) < 1e-4 * rms(expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_agent_losses_report_their_sum(backend):
    losses = random_losses("quadratic", "agent")
    positions = random_positions(N, CELL)
    energy, _ = through_openmm(losses, positions, SPECIES, CELL, backend=backend, platform="Reference")
    assert energy == pytest.approx(evaluate_agents(losses, positions, SPECIES, CELL).energy, rel=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("platform", ["Reference", "CPU"])
def test_a_box_that_becomes_narrow_is_followed(platform, backend):
    losses = random_losses("pair")
    force = lower(losses, SPECIES, backend=backend, precision="double")
    context = context_of(force, random_positions(N, CELL), CELL, platform)
    for factor in (1.0, 0.7, 0.4, 1.1):
        context.setPeriodicBoxVectors(*(factor * CELL))
        context.setPositions(factor * random_positions(N, CELL))
        expected = evaluate_agents(losses, factor * random_positions(N, CELL), SPECIES, factor * CELL)
        energy, forces = energy_and_forces(context)
        assert energy == pytest.approx(expected.energy, rel=1e-9)
        assert np.abs(forces - expected.forces).max() < 1e-9 * rms(expected.forces)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("platform", ["Reference", "CPU"])
def test_a_position_that_is_not_finite_stops_the_run_time_and_again(platform, backend):
    """The second error of a process once ended it: what its message was to name had been freed."""
    losses = random_losses("pair")
    positions = random_positions(N, CELL)
    for _ in range(3):
        context = context_of(lower(losses, SPECIES, backend=backend), positions, CELL, platform)
        energy_and_forces(context)
        broken = positions.copy()
        broken[1, 2] = np.nan
        context.setPositions(broken)
        with pytest.raises(Exception, match=r"not a finite number|NaN"):
            context.getState(forces=True)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_box_is_followed_and_atoms_outside_it_are_at_home(backend):
    losses = random_losses("quadratic")
    positions = random_positions(N, CELL)
    context = context_of(lower(losses, SPECIES, backend=backend, precision="double"), positions, CELL)
    larger = 1.1 * CELL
    context.setPeriodicBoxVectors(*larger)
    context.setPositions(positions + np.random.default_rng(0).integers(-3, 3, size=(N, 3)) @ larger)
    _, forces = energy_and_forces(context)
    expected = evaluate_agents(losses, positions, SPECIES, larger).forces
    assert np.abs(forces - expected).max() < 1e-9 * rms(expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_force_declares_whether_it_is_periodic_and_survives_a_copy(backend):
    losses = random_losses("pair")
    for periodic in (True, False):
        force = lower(losses, SPECIES, periodic=periodic, backend=backend)
        assert force.usesPeriodicBoundaryConditions() is periodic
    system = mm.System()
    for _ in SPECIES:
        system.addParticle(1.0)
    system.setDefaultPeriodicBoxVectors(*CELL)
    system.addForce(lower(losses, SPECIES, backend=backend, precision="double"))
    copy = mm.XmlSerializer.deserialize(mm.XmlSerializer.serialize(system))
    context = mm.Context(copy, mm.VerletIntegrator(0.001), mm.Platform.getPlatformByName("Reference"))
    positions = random_positions(N, CELL)
    context.setPositions(positions)
    expected = evaluate_agents(losses, positions, SPECIES, CELL).forces
    assert np.abs(energy_and_forces(context)[1] - expected).max() < 1e-9 * rms(expected)


def test_unknown_back_ends_and_species_are_named():
    losses = random_losses("pair")
    with pytest.raises(DualityError, match="torchscript, fused, torchforce, pythonforce"):
        lower(losses, SPECIES, backend="jax")
    with pytest.raises(DualityError, match="Ne"):
        lower(losses, ("Ne",))
    with pytest.raises(DualityError, match="half"):
        lower(losses, SPECIES, precision="half")


VERSIONS = {"openmm": "8.4", "openmmtorch": "1.5", "torch": "2.9.1"}


@pytest.fixture
def versions(monkeypatch):
    """Pretends that other versions are installed; None for a package that is not."""

    def pretend(**changes):
        installed = {**VERSIONS, **changes}

        def version(package):
            if installed.get(package) is None:
                raise metadata.PackageNotFoundError(package)
            return installed[package]

        monkeypatch.setattr(metadata, "version", version)

    return pretend


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"torch": "2.10.0"}, "torch is 2.10.0"),
        ({"torch": "2.13.0+cpu"}, "torch is 2.13.0"),
        ({"torch": "2.8.1"}, "torch is 2.8.1"),
        ({"torch": None}, "torch is not installed"),
        ({"openmm": "8.5.1"}, "openmm is 8.5.1"),
        ({"openmm": "8.6.1.dev-abc"}, "openmm is 8.6.1"),
        ({"openmmtorch": None}, "openmmtorch is not installed"),
        ({"openmmtorch": "1.6"}, "openmmtorch is 1.6"),
    ],
)
def test_wrong_versions_end_in_one_error_with_the_pip_command(versions, changes, named):
    versions(**changes)
    with pytest.raises(DualityError) as error:
        lower(random_losses("pair"), SPECIES, backend="torchforce")
    assert named in str(error.value)
    assert dependencies.TORCHFORCE_PIP in str(error.value)


def test_right_versions_are_no_problem(versions):
    for torch in ("2.9.0", "2.9.1+cu128"):
        versions(torch=torch)
        assert dependencies.torchforce_problem() is None
    versions(openmm="8.4.0.post1")
    assert dependencies.torchforce_problem() is None


def test_without_torch_both_pip_commands_are_named(versions, monkeypatch):
    versions(torch=None)
    with pytest.raises(DualityError) as error:
        lower(random_losses("pair"), SPECIES)
    assert dependencies.TORCHFORCE_PIP in str(error.value)
    assert dependencies.PYTHONFORCE_PIP in str(error.value)


def test_openmm_may_be_imported_before_torch():
    script = """
import openmm as mm, numpy as np
from tests.systems import CELL, random_losses, random_positions, random_species
from openmm_duality.losses import evaluate_agents
from openmm_duality.lowering import lower
species, positions = random_species(12), random_positions(12, CELL)
losses = random_losses("pair")
system = mm.System()
for _ in species:
    system.addParticle(1.0)
system.setDefaultPeriodicBoxVectors(*CELL)
system.addForce(lower(losses, species))
for name in ("Reference", "CPU", "OpenCL"):
    context = mm.Context(system, mm.VerletIntegrator(0.001), mm.Platform.getPlatformByName(name))
    context.setPositions(positions)
    forces = context.getState(forces=True).getForces(asNumpy=True)._value
    expected = evaluate_agents(losses, positions, species, CELL).forces
    assert abs(forces - expected).max() < 1e-3 * abs(expected).max(), name
assert [mm.Platform.getPlatform(k).getName() for k in range(mm.Platform.getNumPlatforms())].count("CPU") == 1
"""
    subprocess.run([sys.executable, "-c", script], check=True)
