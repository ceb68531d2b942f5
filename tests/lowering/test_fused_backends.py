"""The fused kernel inside OpenMM, on every platform that computes here, against the evaluator."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata

import numpy as np
import openmm as mm
import pytest

from openmm_duality.dynamics import VerletLearningIntegrator, create_system, create_topology
from openmm_duality.errors import DualityError
from openmm_duality.losses import GRADIENTS, evaluate_agents
from openmm_duality.lowering import dependencies, lower
from openmm_duality.lowering.backends import select_backend
from openmm_duality.lowering.dependencies import torchforce_problem
from tests.lowering.platforms import DOUBLE, SINGLE, context_of, energy_and_forces, through_openmm
from tests.systems import CELL, TRICLINIC, random_losses, random_positions, random_species, rms

N = 30
SPECIES = random_species(N)
HOME = "fused-torchforce" if torchforce_problem() is None else "fused-pythonforce"


def test_fused_runs_here_and_is_the_default():
    assert select_backend("fused") == (HOME, "single")
    assert select_backend("fused", "double") == (HOME, "double")
    assert select_backend("torchscript", platform="CPU")[1] == "double"
    for platform in ("CPU", "OpenCL", "CUDA", "HIP"):
        assert select_backend(platform=platform) == (HOME, "single")


@pytest.mark.parametrize(("platform", "precision"), DOUBLE)
@pytest.mark.parametrize("gradient", GRADIENTS)
def test_double_precision_on_every_platform(gradient, platform, precision):
    losses = random_losses("coupled", gradient)
    for cell in (CELL, TRICLINIC, None):
        positions = random_positions(N, CELL if cell is None else cell)
        expected = evaluate_agents(losses, positions, SPECIES, cell)
        energy, forces = through_openmm(
            losses, positions, SPECIES, cell, backend="fused", platform=platform, precision=precision
        )
        assert np.abs(forces - expected.forces).max() < 1e-9 * rms(expected.forces)
        assert energy == pytest.approx(expected.energy, abs=1e-9 * np.abs(expected.losses).sum())


@pytest.mark.parametrize(("platform", "precision"), [*SINGLE, ("CPU", None)])
def test_single_precision(platform, precision):
    every = {gradient: random_losses("moment", gradient) for gradient in ("collective", "mutual")}
    for cell, gradient in ((CELL, "mutual"), (TRICLINIC, "collective"), (None, "mutual")):
        losses = every[gradient]
        positions = random_positions(N, CELL if cell is None else cell)
        expected = evaluate_agents(losses, positions, SPECIES, cell).forces
        _, forces = through_openmm(
            losses,
            positions,
            SPECIES,
            cell,
            backend="fused",
            platform=platform,
            precision=precision,
            arithmetic="single",
        )
        assert rms(forces - expected) < (1e-5 if platform == "CPU" else 1e-4) * rms(expected)


@pytest.mark.parametrize("platform", ["Reference", "CPU"])
def test_a_box_that_becomes_narrow_is_followed(platform):
    losses = random_losses("pair")
    force = lower(losses, SPECIES, backend="fused", precision="double")
    context = context_of(force, random_positions(N, CELL), CELL, platform)
    for factor in (1.0, 0.7, 0.4, 1.1):
        context.setPeriodicBoxVectors(*(factor * CELL))
        context.setPositions(factor * random_positions(N, CELL))
        expected = evaluate_agents(losses, factor * random_positions(N, CELL), SPECIES, factor * CELL)
        energy, forces = energy_and_forces(context)
        assert energy == pytest.approx(expected.energy, rel=1e-9)
        assert np.abs(forces - expected.forces).max() < 1e-9 * rms(expected.forces)


def test_a_force_declares_whether_it_is_periodic_and_survives_a_copy():
    losses = random_losses("pair")
    for periodic in (True, False):
        assert lower(losses, SPECIES, periodic=periodic, backend="fused").usesPeriodicBoundaryConditions() is periodic
    system = create_system(losses, create_topology(SPECIES, cell=CELL), backend="fused", precision="double")
    copy = mm.XmlSerializer.deserialize(mm.XmlSerializer.serialize(system))
    context = mm.Context(copy, mm.VerletIntegrator(0.001), mm.Platform.getPlatformByName("Reference"))
    positions = random_positions(N, CELL)
    context.setPositions(positions)
    expected = evaluate_agents(losses, positions, SPECIES, CELL).forces
    assert np.abs(energy_and_forces(context)[1] - expected).max() < 1e-9 * rms(expected)


def test_a_system_from_xml_runs_in_another_process(tmp_path):
    losses = random_losses("quadratic")
    positions = random_positions(N, CELL)
    system = create_system(losses, create_topology(SPECIES, cell=CELL), backend="fused", precision="double")
    (tmp_path / "system.xml").write_text(mm.XmlSerializer.serialize(system))
    np.save(tmp_path / "positions.npy", positions)
    script = f"""
import sys
import numpy as np, openmm as mm
if {HOME!r} == "fused-torchforce":
    import openmm_duality.lowering.fused.operator
    from openmm_duality.lowering import require_torchforce
    require_torchforce()
system = mm.XmlSerializer.deserialize(open({str(tmp_path / "system.xml")!r}).read())
context = mm.Context(system, mm.VerletIntegrator(0.001), mm.Platform.getPlatformByName("CPU"))
context.setPositions(np.load({str(tmp_path / "positions.npy")!r}))
forces = context.getState(forces=True).getForces(asNumpy=True)._value
np.save({str(tmp_path / "forces.npy")!r}, np.array(forces))
"""
    subprocess.run([sys.executable, "-c", script], check=True)
    expected = evaluate_agents(losses, positions, SPECIES, CELL).forces
    assert np.abs(np.load(tmp_path / "forces.npy") - expected).max() < 1e-9 * rms(expected)


def dynamics(system, seed, steps=40):
    """Positions after some steps of an atom's own time, and the change of the total energy."""
    context = mm.Context(system, VerletLearningIntegrator(2e-4), mm.Platform.getPlatformByName("CPU"))
    context.setPositions(random_positions(N, CELL, seed=seed, least=0.2))
    context.setVelocitiesToTemperature(100, seed + 1)
    totals = []
    for part in (1, steps - 1):
        context.getIntegrator().step(part)
        state = context.getState(energy=True, positions=True)
        totals.append((state.getPotentialEnergy() + state.getKineticEnergy())._value)
    return np.array(state.getPositions(asNumpy=True)._value), totals[1] - totals[0]


def test_two_contexts_in_two_threads_go_their_own_ways():
    losses = random_losses("moment")
    system = create_system(losses, create_topology(SPECIES, cell=CELL), backend="fused", precision="double")
    alone = [dynamics(system, seed)[0] for seed in range(2)]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda seed: dynamics(system, seed)[0], range(2)))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-7)


def test_dynamics_goes_where_torchscript_goes():
    losses = random_losses("moment")
    topology = create_topology(SPECIES, cell=CELL)
    ends = [
        dynamics(create_system(losses, topology, backend=backend, precision="double"), 0)
        for backend in ("fused", "torchscript")
    ]
    np.testing.assert_allclose(ends[0][0], ends[1][0], atol=1e-7)
    assert ends[0][1] == pytest.approx(ends[1][1], abs=1e-5)


@pytest.mark.parametrize(("version", "named"), [(None, "llvmlite is not installed"), ("0.43.0", "llvmlite is 0.43.0")])
def test_without_llvmlite_it_says_why(monkeypatch, version, named):
    found = metadata.version

    def pretend(package):
        if package != "llvmlite":
            return found(package)
        if version is None:
            raise metadata.PackageNotFoundError(package)
        return version

    monkeypatch.setattr(metadata, "version", pretend)
    for backend in ("fused", HOME):
        with pytest.raises(DualityError) as error:
            lower(random_losses("pair"), SPECIES, backend=backend)
        assert named in str(error.value)
        assert dependencies.FUSED_PIP in str(error.value)
    assert select_backend(platform="CPU") == select_backend("torchscript", platform="CPU")
    lower(random_losses("pair"), SPECIES, backend="torchscript")
