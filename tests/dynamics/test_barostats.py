"""Barostats: the ensemble of analytic cases, the pressure of a context, runs at constant pressure."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace

import numpy as np
import openmm as mm
import pytest

from openmm_duality.dynamics import (
    LangevinLearningIntegrator,
    VerletLearningIntegrator,
    add_barostat,
    create_system,
    create_topology,
    simulate,
)
from openmm_duality.dynamics.barostats import MOLECULES, current_pressure, describe_barostat
from openmm_duality.errors import DualityError
from openmm_duality.losses import evaluate_stress
from openmm_duality.observables import compare
from openmm_duality.units import BOLTZMANN, MEGAPASCAL
from tests.dynamics.systems import make_context
from tests.systems import CELL, SPECIES, labelled, random_frames, random_losses, random_positions, random_species

T = 300.0
KT = BOLTZMANN * T


def gas(n_dimers: int, pressure: float, molecules: bool) -> tuple[mm.System, np.ndarray]:
    """Dimers with harmonic bonds that do not interact, in a box at a pressure in MPa, and positions."""
    system, rng = mm.System(), np.random.default_rng(0)
    edge = float(((n_dimers + 1) * KT / (pressure * MEGAPASCAL)) ** (1 / 3))
    system.setDefaultPeriodicBoxVectors(*(edge * np.eye(3)))
    bonds = mm.HarmonicBondForce()
    bonds.setUsesPeriodicBoundaryConditions(True)
    positions = np.repeat(rng.uniform(0.0, edge, size=(n_dimers, 3)), 2, axis=0)
    for _ in range(2 * n_dimers):
        system.addParticle(20.0)
    for k in range(n_dimers):
        bonds.addBond(2 * k, 2 * k + 1, 0.1, 5e3)
    positions[1::2, 0] += 0.1
    system.addForce(bonds)
    pairs = [np.array([2 * k, 2 * k + 1]) for k in range(n_dimers)]
    add_barostat(system, 10.0 * pressure, T, 5, molecules=pairs if molecules else None)
    return system, positions


@pytest.mark.parametrize("molecules", [True, False])
def test_volumes_of_an_ideal_gas_of_molecules_follow_a_gamma_distribution(molecules):
    """p(V) ~ V^N e^(−PV/kT): the mean volume is (N + 1) kT/P, its variance (N + 1) (kT/P)²."""
    n_dimers, pressure = 20, 20.0  # MPa
    system, positions = gas(n_dimers, pressure, molecules)
    integrator = LangevinLearningIntegrator(T, 20.0, 2e-3)
    integrator.setRandomNumberSeed(1)
    system.getForce(system.getNumForces() - 1).setRandomNumberSeed(2)
    context = make_context(system, integrator, positions, temperature=T)
    volumes = []
    for k in range(6000):
        integrator.step(5)
        if k > 200:
            volumes.append(context.getState().getPeriodicBoxVolume()._value)
    unit_volume = KT / (pressure * MEGAPASCAL)
    expected = (n_dimers + 1) * unit_volume
    blocks = np.array_split(np.array(volumes), 20)
    means = [block.mean() for block in blocks]
    assert abs(np.mean(means) - expected) < 4.0 * np.std(means) / np.sqrt(20)
    assert np.std(means) / np.sqrt(20) < 0.05 * expected
    assert np.var(volumes) == pytest.approx((n_dimers + 1) * unit_volume**2, rel=0.4)


@pytest.mark.parametrize("backend", ["fused", "torchscript"])
def test_the_pressure_of_a_context_is_that_of_the_virial(backend):
    losses, species = random_losses("moment"), random_species(40)
    positions = random_positions(40, CELL)
    system = create_system(losses, create_topology(species, cell=CELL), backend=backend, precision="double")
    barostat = add_barostat(system, 1.0, T, frequency=0)
    context = make_context(system, VerletLearningIntegrator(1e-4), positions, temperature=T)
    state = context.getState(energy=True, velocities=True)
    masses = losses.masses[losses.index_of(species)]
    kinetic = float(masses @ np.square(state.getVelocities(asNumpy=True)._value).sum(axis=1))
    virial = -np.trace(evaluate_stress(losses, positions, species, CELL)) / 3.0
    expected = (virial + kinetic / 3.0 / np.linalg.det(CELL)) / MEGAPASCAL
    assert current_pressure(context, barostat) == pytest.approx(expected, rel=1e-3)


def test_the_pressure_of_molecules_has_their_virial_alone():
    system, positions = gas(5, 20.0, molecules=True)
    barostat = system.getForce(system.getNumForces() - 1)
    context = make_context(system, VerletLearningIntegrator(1e-4), positions)
    context.setVelocities(np.zeros_like(positions))
    assert abs(current_pressure(context, barostat)) < 1e-6  # the bonds are not scaled
    rest = np.zeros_like(positions)
    rest[::2, 0], rest[1::2, 0] = 1.0, -1.0
    context.setVelocities(rest)  # the atoms move, the molecules do not
    assert abs(current_pressure(context, barostat)) < 1e-6


def test_asking_for_the_pressure_leaves_the_run_as_it_is():
    ends = []
    for asked in (False, True):
        losses, species = random_losses("moment"), random_species(30)
        system = create_system(losses, create_topology(species, cell=CELL))
        barostat = add_barostat(system, 1.0, T, frequency=0)
        context = make_context(system, VerletLearningIntegrator(5e-4), random_positions(30, CELL), "Reference")
        for _ in range(5):
            if asked:
                current_pressure(context, barostat)
            context.getIntegrator().step(3)
        ends.append(context.getState(positions=True).getPositions(asNumpy=True)._value)
    np.testing.assert_array_equal(*ends)


def test_molecules_are_declared_without_a_change_of_forces():
    system, _ = gas(2, 1.0, molecules=True)
    (force,) = (one for one in system.getForces() if one.getName() == MOLECULES)
    assert [force.getBondParameters(k)[3]._value for k in range(2)] == [0.0, 0.0]
    assert describe_barostat(system) == {"pressure_bar": 10.0, "barostat_interval": 5, "barostat_scales": "molecules"}
    assert describe_barostat(gas(2, 1.0, molecules=False)[0])["barostat_scales"] == "atoms"
    for wrong in ([[0, 1], [1, 2]], [[0, 9]]):
        with pytest.raises(DualityError, match="every atom must be in one of them"):
            add_barostat(system, 1.0, T, molecules=wrong)


@pytest.mark.parametrize(("weight", "warned"), [(None, False), (0.0, True), (0.003, False)])
def test_a_barostat_warns_where_the_losses_have_never_seen_stresses(weight, warned):
    metadata = {} if weight is None else {"settings": {"stress_weight": weight}}
    losses = replace(random_losses(), metadata=metadata)
    system = create_system(losses, create_topology(random_species(5), cell=CELL))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        add_barostat(system, 1.0, T)
    assert [("inferred without stresses" in str(w.message)) for w in caught] == [True] * warned


def test_a_run_at_constant_pressure_is_recorded_and_described_as_one(tmp_path):
    losses = random_losses("pair", species=SPECIES[:2])
    frames = labelled(random_frames(4, least=0.2), losses)
    frames = replace(frames, times=np.arange(4) * 0.1, timestep=1e-3)
    topology = create_topology(frames.species, cell=frames.cell(0))
    system = create_system(losses, topology)
    add_barostat(system, 500.0, T, 10)
    run = tmp_path / "run"
    simulate(
        system,
        topology,
        frames.positions[0],
        LangevinLearningIntegrator(T, 10.0, 1e-3),
        run,
        steps=600,
        report_interval=10,
        platform="CPU",
        species=frames.species,
        seed=3,
        progress=False,
    )
    record = json.loads((run / "run.json").read_text())
    assert (record["ensemble"], record["pressure_bar"], record["barostat_scales"]) == ("NPT", 500.0, "atoms")
    log = np.genfromtxt(run / "log.csv", delimiter=",", names=True)
    assert np.isfinite(log["pressure_MPa"]).all()
    assert len(np.unique(log["volume_nm3"])) > 5
    energetics = compare(run, frames, discard=0.0).energetics
    assert energetics.drift is None
    assert energetics.canonical_mean is not None
    volumes = log["volume_nm3"]
    mass = frames.masses.sum() * 1.66053907e-3
    assert energetics.density.density.mean == pytest.approx(np.mean(mass / volumes), rel=0.02)
    expected = volumes.var() / (KT * volumes.mean()) * 1e3 * MEGAPASCAL
    assert energetics.density.compressibility.mean == pytest.approx(expected, rel=0.05)
    assert energetics.density.target == 50.0


@pytest.mark.parametrize("axes", ["x", "y", "z", "xy", "xyz"])
def test_the_pressure_along_axes_of_a_hexagonal_box_is_that_of_the_virial(axes):
    """The box stays hexagonal, which is the limit of OpenMM's form, while it changes."""
    losses, species = random_losses("moment"), random_species(40)
    cell = CELL[0, 0] * np.array([[1.0, 0.0, 0.0], [0.5, 0.75**0.5, 0.0], [0.0, 0.0, 1.0]])
    positions = random_positions(40, cell)
    system = create_system(losses, create_topology(species, cell=cell), precision="double")
    barostat = add_barostat(system, 300.0, T, frequency=2, axes=axes)
    context = make_context(system, VerletLearningIntegrator(1e-5), positions)
    context.setVelocities(np.zeros_like(positions))
    stress = np.diag(evaluate_stress(losses, positions, species, cell))[["xyz".index(axis) for axis in axes]]
    assert current_pressure(context, barostat) == pytest.approx(-stress.mean() / MEGAPASCAL, rel=5e-3)
    context.getIntegrator().step(40)
    box = context.getState().getPeriodicBoxVectors(asNumpy=True)._value
    changed = {axis for axis, now, before in zip("xyz", np.diag(box), np.diag(cell), strict=True) if now != before}
    assert changed == set(axes)
    assert box[1, 0] / box[0, 0] == pytest.approx(0.5, rel=1e-12)


def test_axes_change_each_on_its_own():
    """The stress along every axis is that of the losses; only the axes that are named change."""
    losses, species = random_losses("moment"), random_species(40)
    positions = random_positions(40, CELL)
    system = create_system(losses, create_topology(species, cell=CELL), precision="double")
    barostat = add_barostat(system, 300.0, T, frequency=2, axes="xz")
    recorded = {"pressure_bar": 300.0, "barostat_interval": 2, "barostat_scales": "atoms", "barostat_axes": "xz"}
    assert describe_barostat(system) == recorded
    context = make_context(system, VerletLearningIntegrator(1e-5), positions)
    context.setVelocities(np.zeros_like(positions))
    stress = evaluate_stress(losses, positions, species, CELL)
    expected = -(stress[0, 0] + stress[2, 2]) / 2.0 / MEGAPASCAL
    assert current_pressure(context, barostat) == pytest.approx(expected, rel=5e-3)  # a finite difference
    context.getIntegrator().step(80)
    edges = np.diag(context.getState().getPeriodicBoxVectors(asNumpy=True)._value)
    before = np.diag(CELL)
    assert edges[1] == before[1]
    assert edges[0] != before[0]
    assert edges[2] != before[2]
    assert edges[0] / before[0] != pytest.approx(edges[2] / before[2], rel=1e-6)
    for wrong in ("", "xw", "abc"):
        with pytest.raises(DualityError, match="some of the letters"):
            add_barostat(system, 1.0, T, axes=wrong)
