"""Properties of the integrators, on systems with OpenMM's own forces."""

from __future__ import annotations

import numpy as np
import openmm as mm
import pytest
from numpy.typing import NDArray
from openmm import unit

from openmm_duality.dynamics.integrators import (
    DescentLearningIntegrator,
    LangevinLearningIntegrator,
    LearningIntegrator,
    NoseHooverLearningIntegrator,
    VerletLearningIntegrator,
)
from openmm_duality.errors import DualityError
from openmm_duality.units import BOLTZMANN
from tests.dynamics.systems import (
    argon,
    kinetic_of,
    make_context,
    masses_of,
    oscillators,
    positions_of,
    potential_of,
    thermal,
    velocities_of,
    water,
)

T = 60.0


def verlet(dt: float = 0.005) -> VerletLearningIntegrator:
    return VerletLearningIntegrator(dt)


def nose_hoover(dt: float = 0.005) -> NoseHooverLearningIntegrator:
    return NoseHooverLearningIntegrator(T, 5.0, dt)


def langevin(dt: float = 0.005) -> LangevinLearningIntegrator:
    return LangevinLearningIntegrator(T, 2.0, dt)


def descent(dt: float = 0.005) -> DescentLearningIntegrator:
    return DescentLearningIntegrator(dt, 0.05)


EVERY = [verlet, nose_hoover, langevin, descent]
DETERMINISTIC = [verlet, nose_hoover, descent]


def sampled(integrator: mm.Integrator, context: mm.Context, n: int, every: int) -> NDArray[np.float64]:
    """Kinetic energies at regular intervals of steps."""
    energies = []
    for _ in range(n):
        integrator.step(every)
        energies.append(kinetic_of(context))
    return np.array(energies)


def block_error(values: NDArray[np.float64], blocks: int = 10) -> float:
    means = [block.mean() for block in np.array_split(values, blocks)]
    return float(np.std(means, ddof=1) / np.sqrt(blocks))


@pytest.mark.parametrize("make", [verlet, nose_hoover])
def test_error_of_the_conserved_quantity_is_second_order_in_the_step(make):
    system, start = argon()

    def error(dt: float) -> float:
        integrator = make(dt)
        context = make_context(system, integrator, start, temperature=T)
        first = integrator.conservedQuantity(context)
        deviations = []
        for _ in range(20):
            integrator.step(round(0.04 / dt))
            deviations.append(integrator.conservedQuantity(context) - first)
        return float(np.sqrt(np.mean(np.square(deviations))))

    order = np.log2(error(0.01) / error(0.005))
    assert order == pytest.approx(2.0, abs=0.15)


@pytest.mark.parametrize("make", [verlet, nose_hoover])
def test_conserved_quantity_has_no_drift(make):
    system, _, start = water(1.0)
    integrator = make(0.00025)
    if make is nose_hoover:
        integrator.setTemperature(300.0)
    context = make_context(system, integrator, start, temperature=300.0)
    integrator.step(800)
    times, values = [], []
    for _ in range(100):
        integrator.step(40)
        times.append(context.getState().getTime().value_in_unit(unit.picosecond))
        values.append(integrator.conservedQuantity(context))
    slope = np.polyfit(times, values, 1)[0] / system.getNumParticles()
    assert abs(slope) < 0.003  # kJ/mol per atom and ps; the reaction field has a small step at its cutoff


def test_work_of_forces_with_a_potential_is_what_the_potential_energy_loses():
    system, start = argon()
    velocities = thermal(system, 2.0 * T)
    velocities[0] = 0.0
    system.setParticleMass(0, 0.0)
    system.addForce(mm.CMMotionRemover(1))

    def errors(dt: float) -> tuple[float, float]:
        """Typical changes of the conserved quantity and of the energy: collisions make single ones large."""
        found = []
        for seed in (1, 2, 3, 4):
            integrator = LangevinLearningIntegrator(T, 5.0, dt, recordWork=True)
            integrator.setRandomNumberSeed(seed)
            context = make_context(system, integrator, start)
            context.setVelocities(velocities)
            integrator.step(1)
            begun = integrator.conservedQuantity(context)
            for _ in range(25):
                integrator.step(round(0.04 / dt))
                energy = potential_of(context) + kinetic_of(context)
                found.append([integrator.conservedQuantity(context) - begun, energy - begun])
        conserved, total = np.median(np.abs(found), axis=0)
        return float(conserved), float(total)

    (coarse, exchanged), (fine, _) = errors(0.02), errors(0.005)
    assert coarse < 0.02 * exchanged
    assert fine < 0.2 * coarse


def test_a_force_without_a_potential_does_the_work_that_is_recorded():
    """A particle that is driven through a viscous medium takes power F²/(mγ) from the force."""
    system, force = mm.System(), mm.CustomExternalForce("-f*x")
    force.addGlobalParameter("f", 5.0)
    for i in range(200):
        system.addParticle(10.0)
        force.addParticle(i, [])
    system.addForce(force)
    integrator = LangevinLearningIntegrator(T, 5.0, 0.01, recordWork=True)
    context = make_context(system, integrator, np.zeros((200, 3)), temperature=T)
    integrator.step(200)
    before = integrator.conservedQuantity(context) - potential_of(context)
    integrator.step(2000)
    power = (integrator.conservedQuantity(context) - potential_of(context) - before) / 20.0 / 200
    assert power == pytest.approx(25.0 / 50.0, rel=0.1)


def test_verlet_agrees_with_openmm_to_the_order_of_the_scheme():
    system, start = argon()
    dt = 0.002
    ours, theirs = verlet(dt), mm.VerletIntegrator(dt)
    context, other = make_context(system, ours, start), make_context(system, theirs, start)
    velocities = thermal(system, T)
    context.setVelocities(velocities)
    # OpenMM's leapfrog stores the velocities of half a step earlier
    forces = (
        context.getState(forces=True).getForces(asNumpy=True).value_in_unit(unit.kilojoule_per_mole / unit.nanometer)
    )
    other.setVelocities(velocities - 0.5 * dt * forces / 39.948)
    ours.step(500)
    theirs.step(500)
    np.testing.assert_allclose(positions_of(context), positions_of(other), atol=1e-9)


def test_langevin_without_noise_is_the_scheme_of_openmm():
    system, start = argon()
    ours, theirs = LangevinLearningIntegrator(1e-12, 3.0, 0.005), mm.LangevinMiddleIntegrator(0.0, 3.0, 0.005)
    ends = []
    for integrator in (ours, theirs):
        context = make_context(system, integrator, start, temperature=T)
        integrator.step(200)
        ends.append((positions_of(context), velocities_of(context)))
    np.testing.assert_allclose(ends[0][0], ends[1][0], atol=1e-6)
    np.testing.assert_allclose(ends[0][1], ends[1][1], atol=1e-5)  # of about 0.1 nm/ps


@pytest.mark.parametrize(
    ("make", "theirs"),
    [
        (lambda dt: NoseHooverLearningIntegrator(T, 5.0, dt), lambda dt: mm.NoseHooverIntegrator(T, 5.0, dt)),
        (lambda dt: LangevinLearningIntegrator(T, 2.0, dt), lambda dt: mm.LangevinMiddleIntegrator(T, 2.0, dt)),
    ],
)
def test_kinetic_energy_is_canonical_and_agrees_with_openmm(make, theirs):
    system, start = argon()
    potential = []
    for integrator in (make(0.01), theirs(0.01)):
        integrator.setRandomNumberSeed(7) if hasattr(integrator, "setRandomNumberSeed") else None
        context = make_context(system, integrator, start, temperature=T)
        integrator.step(1000)
        kinetic, energies = [], []
        for _ in range(600):
            integrator.step(20)
            state = context.getState(energy=True)
            kinetic.append(state.getKineticEnergy().value_in_unit(unit.kilojoule_per_mole))
            energies.append(state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole))
        potential.append(np.array(energies))
        if isinstance(integrator, LearningIntegrator):
            values, dof = np.array(kinetic), integrator.degreesOfFreedom(system)
    assert dof == (78 if "NoseHoover" in type(make(0.01)).__name__ else 81)
    mean, variance = 0.5 * dof * BOLTZMANN * T, 0.5 * dof * (BOLTZMANN * T) ** 2
    assert abs(values.mean() - mean) < 3.5 * block_error(values)
    squares = (values - mean) ** 2
    assert abs(squares.mean() - variance) < 3.5 * block_error(squares)
    assert block_error(squares) < 0.2 * variance
    difference = potential[0].mean() - potential[1].mean()
    assert abs(difference) < 3.5 * np.hypot(*(block_error(energies) for energies in potential))


def test_kinetic_energy_of_springs_is_canonical_under_langevin_at_the_half_step_only():
    """At ωΔt = 1.1 the velocities of whole steps, v + ½ Δt f/m, are cold by (ωΔt)²/4 along every spring."""
    system, start = oscillators()
    dt, stiffness, reduced = 0.012, 2.0e4, 2.4
    integrator = LangevinLearningIntegrator(300.0, 10.0, dt)
    integrator.setRandomNumberSeed(11)
    context = make_context(system, integrator, start, temperature=300.0)
    integrator.step(200)
    half, whole = [], []
    for _ in range(1500):
        integrator.step(10)
        v = velocities_of(context)
        forces = context.getState(forces=True).getForces(asNumpy=True)
        f = forces.value_in_unit(unit.kilojoule_per_mole / unit.nanometer)
        m = masses_of(system)[:, None]
        half.append(0.5 * (m * v**2).sum())
        whole.append(0.5 * (m * (v + 0.5 * dt * f / m) ** 2).sum())
    values, on_step = np.array(half), np.array(whole)
    dof = integrator.degreesOfFreedom(system)
    mean, variance = 0.5 * dof * BOLTZMANN * 300, 0.5 * dof * (BOLTZMANN * 300) ** 2
    assert block_error(values) < 0.005 * mean
    assert abs(values.mean() - mean) < 3.5 * block_error(values)
    squares = (values - mean) ** 2
    assert abs(squares.mean() - variance) < 3.5 * block_error(squares)
    cold = (stiffness / reduced * dt**2 / 4) * 0.5 * 64 * BOLTZMANN * 300
    assert abs(on_step.mean() - mean) > 5 * block_error(on_step)
    assert on_step.mean() - mean == pytest.approx(-cold, rel=0.2)


def test_the_centre_of_mass_remover_leaves_langevin_three_degrees_less():
    system, start = oscillators(4)
    system.addForce(mm.CMMotionRemover(1))
    friction, dt = 5.0, 0.001
    integrator = LangevinLearningIntegrator(300.0, friction, dt)
    integrator.setRandomNumberSeed(5)
    context = make_context(system, integrator, start, temperature=300.0)
    masses = masses_of(system)
    values, centre = [], []
    for _ in range(3000):
        integrator.step(50)
        v = velocities_of(context)
        values.append(0.5 * (masses[:, None] * v**2).sum())
        centre.append(0.5 * ((masses @ v) ** 2).sum() / masses.sum())
    values, kT = np.array(values), BOLTZMANN * 300.0
    dof = integrator.degreesOfFreedom(system)
    assert dof == 3 * 8 - 3
    assert abs(values.mean() - 0.5 * dof * kT) < 3.5 * block_error(values)
    assert abs(values.mean() - 0.5 * 3 * 8 * kT) > 5 * block_error(values)
    squares = (values - 0.5 * dof * kT) ** 2
    assert abs(squares.mean() - 0.5 * dof * kT**2) < 3.5 * block_error(squares)
    assert np.mean(centre) == pytest.approx(1.5 * kT * (1 - np.exp(-2 * friction * dt)), rel=0.1)


@pytest.mark.parametrize("make", [verlet, nose_hoover])
def test_reversing_every_velocity_retraces_the_path(make):
    system, start = argon()
    integrator = make()
    context = make_context(system, integrator, start, temperature=T)
    integrator.step(200)
    assert np.abs(positions_of(context) - start).max() > 0.01
    context.setVelocities(-velocities_of(context))
    for i in range(integrator.getNumGlobalVariables()):
        if integrator.getGlobalVariableName(i).startswith("veta"):
            integrator.setGlobalVariable(i, -integrator.getGlobalVariable(i))
    integrator.step(200)
    np.testing.assert_allclose(positions_of(context), start, atol=1e-9)


@pytest.mark.parametrize("make", DETERMINISTIC)
@pytest.mark.parametrize(("precision", "tolerance"), [("double", 1e-6), ("single", 1e-4)])
def test_platforms_agree_after_fifty_steps(make, precision, tolerance):
    system, start = argon()
    runs = [("Reference", None), ("OpenCL", precision)] + ([("CPU", None)] if precision == "single" else [])
    ends = []
    for platform, chosen in runs:
        integrator = make()
        context = make_context(system, integrator, start, platform, chosen, temperature=T)
        integrator.step(50)
        ends.append(positions_of(context))
    assert np.abs(ends[0] - start).max() > 0.01
    for end in ends[1:]:
        np.testing.assert_allclose(end, ends[0], atol=tolerance)


def test_cpu_agrees_in_double_where_its_forces_are_in_double():
    system, start = oscillators()  # bonded forces are computed in double precision there
    for make in DETERMINISTIC:
        ends = []
        for platform in ("Reference", "CPU"):
            integrator = make(0.0005)
            context = make_context(system, integrator, start, platform, temperature=300.0)
            integrator.step(50)
            ends.append(positions_of(context))
        np.testing.assert_allclose(ends[1], ends[0], atol=1e-6)


@pytest.mark.parametrize("make", EVERY)
def test_integrator_survives_xml(make):
    system, start = argon()
    original = make()
    original.setRandomNumberSeed(5)
    context = make_context(system, original, start, temperature=T)
    original.step(10)
    copy = mm.XmlSerializer.clone(original)
    other = make_context(system, copy, positions_of(context))
    other.setVelocities(velocities_of(context))
    if make is langevin:
        assert copy.getRandomNumberSeed() == 5
        assert [copy.getComputationStep(i) for i in range(copy.getNumComputations())] == [
            original.getComputationStep(i) for i in range(original.getNumComputations())
        ]
        return
    original.step(20)
    copy.step(20)
    np.testing.assert_allclose(positions_of(other), positions_of(context), atol=1e-12)


@pytest.mark.parametrize("make", EVERY)
def test_centre_of_mass_remover_is_obeyed(make):
    system, start = argon()
    system.addForce(mm.CMMotionRemover(1))
    context = make_context(system, integrator := make(), start)
    context.setVelocities(thermal(system, T) + 1.0)
    integrator.step(2)
    assert np.abs(velocities_of(context).mean(axis=0)).max() < 0.05


@pytest.mark.parametrize("make", EVERY)
def test_barostat_is_obeyed(make):
    system, start = argon(cutoff=0.45)
    system.addForce(mm.MonteCarloBarostat(1.0, T, 1))
    context = make_context(system, integrator := make(), start, temperature=T)
    before = context.getState().getPeriodicBoxVolume()
    integrator.step(20)
    assert context.getState().getPeriodicBoxVolume() != before


@pytest.mark.parametrize("make", EVERY)
def test_massless_particles_stay(make):
    system, start = argon()
    system.setParticleMass(4, 0.0)
    velocities = thermal(argon()[0], T)
    velocities[4] = 0.0
    context = make_context(system, integrator := make(), start)
    context.setVelocities(velocities)
    integrator.step(20)
    end = positions_of(context)
    assert np.array_equal(end[4], start[4])
    assert np.isfinite(end).all()
    assert integrator.degreesOfFreedom(system) == 78 - integrator.removedDegreesOfFreedom(system)
    if make is nose_hoover:
        assert integrator.getGlobalVariableByName("dof") == 75


@pytest.mark.parametrize("make", [nose_hoover, langevin])
def test_temperature_can_be_set_later(make):
    system, start = argon()
    integrator = make(0.01)
    integrator.setRandomNumberSeed(2)
    context = make_context(system, integrator, start, temperature=T)
    integrator.step(200)
    integrator.setTemperature(90 * unit.kelvin)
    assert integrator.getTemperature() == pytest.approx(90.0)
    integrator.step(1500)
    values = sampled(integrator, context, 400, 20)
    mean = 0.5 * integrator.degreesOfFreedom(system) * BOLTZMANN * 90.0
    assert values.mean() == pytest.approx(mean, rel=0.06)


def test_same_seed_same_noise():
    system, start = argon()

    def end(seed: int) -> NDArray[np.float64]:
        integrator = langevin()
        integrator.setRandomNumberSeed(seed)
        context = make_context(system, integrator, start)
        integrator.step(20)
        return positions_of(context)

    assert np.array_equal(end(3), end(3))
    assert not np.array_equal(end(3), end(4))


def test_descent_reaches_a_minimum_and_never_climbs():
    system, start = argon()
    integrator = DescentLearningIntegrator(0.01, 1.0)
    context = make_context(system, integrator, start)
    totals = []
    for _ in range(100):
        integrator.step(80)
        totals.append(potential_of(context) + kinetic_of(context))
    assert np.diff(totals).max() < 1e-3 * (totals[0] - totals[-1])
    forces = (
        context.getState(forces=True).getForces(asNumpy=True).value_in_unit(unit.kilojoule_per_mole / unit.nanometer)
    )
    assert np.abs(forces).max() < 0.01
    relaxed = potential_of(context)
    mm.LocalEnergyMinimizer.minimize(context, 1e-3)
    assert relaxed == pytest.approx(potential_of(context), abs=1e-3)


def test_descent_is_newton_at_a_long_momentum_time_and_plain_descent_at_a_short_one():
    system, start = oscillators(4)
    ends = []
    for integrator in (DescentLearningIntegrator(2e-5, 1e6, 1.0), VerletLearningIntegrator(2e-5)):
        context = make_context(system, integrator, start)
        integrator.step(1000)
        ends.append(positions_of(context))
    np.testing.assert_allclose(ends[0], ends[1], atol=2e-5)

    tau, steps, dt = 1e-4, 400, 1e-3
    integrator = DescentLearningIntegrator(dt, tau, 1.0)
    context = make_context(system, integrator, start)
    integrator.step(steps)
    lengths = np.linalg.norm(np.diff(positions_of(context).reshape(-1, 2, 3), axis=1)[:, 0], axis=1)
    rate = 2.0e4 * tau * (1 / 12.0 + 1 / 3.0)  # d(r − r0)/dt = −k γ/m… of both ends, γ = τ/M
    np.testing.assert_allclose((lengths - 0.12) / 0.005, (1 - rate * dt) ** steps, atol=1e-6)


@pytest.mark.parametrize(("platform", "precision", "distance"), [("Reference", None, 0.05), ("OpenCL", "single", 0.1)])
def test_descent_survives_a_bad_start(platform, precision, distance):
    system, start = argon()
    bad = start.copy()
    bad[1] = bad[0] + np.array([distance, 0.0, 0.0])  # far inside the core: forces of 1e13 and 1e9 kJ/mol/nm
    limit = 0.003
    integrator = DescentLearningIntegrator(0.005, 0.1, limit)
    context = make_context(system, integrator, bad, platform, precision)
    before = positions_of(context)
    for _ in range(5):
        integrator.step(1)
        after = positions_of(context)
        assert np.linalg.norm(after - before, axis=1).max() < 1.001 * limit
        before = after
    integrator.step(2000)
    assert potential_of(context) < 0


def test_no_conserved_quantity_where_there_is_none():
    system, start = argon()
    for make in (langevin, descent):
        integrator = make()
        assert integrator.conservedQuantity(make_context(system, integrator, start)) is None


@pytest.mark.parametrize(
    "bad",
    [
        lambda: VerletLearningIntegrator(-0.001),
        lambda: VerletLearningIntegrator(1.0 * unit.kelvin),
        lambda: NoseHooverLearningIntegrator(300, 0.0, 0.0005),
        lambda: NoseHooverLearningIntegrator(300, 10.0, 0.0005, numYoshidaSuzuki=4),
        lambda: NoseHooverLearningIntegrator(300, 10.0, 0.0005, chainLength=0),
        lambda: LangevinLearningIntegrator(float("nan"), 1.0, 0.0005),
        lambda: DescentLearningIntegrator(0.0005, 0.0),
    ],
)
def test_bad_numbers_are_refused(bad):
    with pytest.raises(DualityError):
        bad()


def test_units_at_the_border():
    integrator = NoseHooverLearningIntegrator(27 * unit.kelvin, 10 / unit.picosecond, 0.5 * unit.femtosecond)
    assert integrator.getTemperature() == pytest.approx(27)
    assert integrator.parameters()["timestep"] == pytest.approx(0.0005)
    assert integrator.parameters()["collision_frequency"] == pytest.approx(10)
