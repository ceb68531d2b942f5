"""Properties of energy conserving descent, on systems with OpenMM's own forces and on learned losses."""

from __future__ import annotations

import numpy as np
import openmm as mm
import pytest
from numpy.typing import NDArray
from openmm import unit
from scipy.integrate import solve_ivp

from openmm_duality.dynamics import EnergyConservingDescentLearningIntegrator, simulate
from openmm_duality.dynamics.systems import create_topology
from openmm_duality.errors import DualityError
from tests.dynamics.systems import argon, kinetic_of, make_context, positions_of, potential_of, velocities_of
from tests.dynamics.test_systems import SPECIES, system_of, water_system
from tests.systems import CELL, random_positions

PLATFORMS = [("Reference", None, 1e-9), ("CPU", None, 1e-9), ("OpenCL", "double", 1e-9), ("OpenCL", "single", 1e-4)]
STIFFNESS = np.array([100.0, 300.0, 40.0])  # kJ/mol/nm² along x, y, z
MASSES = np.array([4.0, 9.0])


def wells(bump: float = 0.0) -> tuple[mm.System, NDArray[np.float64]]:
    """Two unlike particles in anisotropic wells about the origin; a bump makes two minima of each, at unequal depth."""
    system = mm.System()
    terms = "+".join(f"0.5*{k}*{x}^2" for k, x in zip(STIFFNESS, "xyz", strict=True))
    force = mm.CustomExternalForce(f"{terms} + {bump}*exp(-50*x^2) + {0.5 * bump}*x")
    for i, mass in enumerate(MASSES):
        system.addParticle(mass)
        force.addParticle(i, [])
    system.addForce(force)
    return system, np.array([[0.3, -0.1, 0.2], [-0.2, 0.25, 0.1]])


def descent(
    dt: float, target: float, eta: float = 4.0, limit: float = 0.05
) -> EnergyConservingDescentLearningIntegrator:
    return EnergyConservingDescentLearningIntegrator(dt, target, eta, limit)


def exact(start: NDArray[np.float64], target: float, eta: float, time: float) -> NDArray[np.float64]:
    """Positions in the wells without a bump by an accurate solution of the equations in the docstring, from rest."""
    root = np.sqrt(np.repeat(MASSES, 3))
    stiffness = np.tile(STIFFNESS, 2) / root**2
    bound = 0.5 * stiffness @ (root * start.ravel()) ** 2 - target

    def rates(_: float, state: NDArray[np.float64]) -> NDArray[np.float64]:
        q, v = np.split(state, 2)  # mass-weighted
        excess = 0.5 * stiffness @ q**2 - target
        w2 = (excess / bound) ** (2 * eta)
        turn, g, speed2 = eta / (2 * excess) * (1 + w2), stiffness * q, excess * (1 - w2)
        # du/ds times speed², which stays finite at rest, and what the speed gains along the path, ½ d(speed²)/ds
        gain = 0.5 * (1 - (2 * eta + 1) * w2)
        along = v * (v @ g) / max(v @ v, 1e-300) if v.any() else g
        return np.concatenate([v, -turn * excess * (g - along) * speed2 / max(speed2, 1e-300) + gain * along])

    solution = solve_ivp(
        rates, (0.0, time), np.concatenate([root * start.ravel(), np.zeros(6)]), rtol=1e-10, atol=1e-12
    )
    return np.asarray((solution.y[:6, -1] / root).reshape(2, 3))


@pytest.mark.parametrize("eta", [1.0, 4.0])
def test_the_trajectory_is_that_of_the_equations_and_of_second_order_in_the_step(eta):
    system, start = wells()
    end, errors = exact(start, -1.0, eta, 0.4), []
    for dt in (0.004, 0.002):
        context = make_context(system, integrator := descent(dt, -1.0, eta), start)
        integrator.step(round(0.4 / dt))
        errors.append(np.abs(positions_of(context) - end).max())
    assert np.abs(end - start).max() > 0.05
    assert errors[1] < 2e-5
    assert np.log2(errors[0] / errors[1]) == pytest.approx(2.0, abs=0.2)


@pytest.mark.parametrize(("platform", "precision", "tolerance"), PLATFORMS)
def test_the_energy_is_conserved_and_platforms_agree(platform, precision, tolerance):
    """Argon, 1 ps; on the CPU platform nonbonded forces are single precision."""
    system, start = argon()
    reference, drift = None, 1e-2 if precision == "single" else 1e-6
    for name, chosen in (("Reference", None), (platform, precision)):
        integrator = descent(0.005, potential_of(make_context(system, mm.VerletIntegrator(0.001), start)) - 60.0)
        context = make_context(system, integrator, start, name, chosen)
        first = None
        for _ in range(10):
            integrator.step(20)
            first = first or integrator.conservedQuantity(context)
            assert integrator.conservedQuantity(context) == pytest.approx(first, abs=drift)
        reference = positions_of(context) if reference is None else reference
    assert first > potential_of(context) + 1.0
    assert np.abs(positions_of(context) - start).max() > 0.01
    np.testing.assert_allclose(positions_of(context), reference, atol=1e-4 if platform == "CPU" else tolerance)


def test_it_goes_on_where_a_minimiser_has_stopped():
    system, start = wells(bump=6.0)
    context = make_context(system, mm.VerletIntegrator(0.001), start)
    mm.LocalEnergyMinimizer.minimize(context, 1e-6)
    stopped = potential_of(context)
    context = make_context(system, integrator := descent(0.002, stopped - 2.0, eta=1.0), start)
    found = []
    for _ in range(300):
        integrator.step(10)
        assert kinetic_of(context) > 0.1
        found.append(potential_of(context))
    assert max(found[150:]) > stopped + 1.0


def test_it_rests_at_the_target_only():
    system, start = wells()
    context, target = make_context(system, integrator := descent(0.002, 0.5), start), 0.5
    integrator.step(3)
    while potential_of(context) > target:
        assert kinetic_of(context) > 0.0
        integrator.step(10)
        assert context.getTime() < 20.0 * unit.picosecond
    at = positions_of(context)
    integrator.step(10)
    assert np.array_equal(positions_of(context), at)
    assert not velocities_of(context).any()
    assert integrator.conservedQuantity(context) is None


def test_it_reaches_the_minimum_of_a_well():
    system, start = wells()
    context = make_context(system, integrator := descent(0.002, 1e-6), start)
    integrator.step(8000)
    assert potential_of(context) < 1e-5 * potential_of(make_context(system, mm.VerletIntegrator(0.001), start))
    np.testing.assert_allclose(positions_of(context), 0.0, atol=1e-3)


def test_no_atom_moves_beyond_the_limit_from_a_bad_start():
    system, start = argon()
    bad = start.copy()
    bad[1] = bad[0] + np.array([0.1, 0.0, 0.0])
    limit = 0.004
    context = make_context(system, integrator := descent(0.005, -1000.0, limit=limit), bad)
    before = positions_of(context)
    for _ in range(50):
        integrator.step(1)
        after = positions_of(context)
        assert np.linalg.norm(after - before, axis=1).max() < 1.001 * limit
        before = after
    assert potential_of(context) < 1e-3 * potential_of(make_context(system, mm.VerletIntegrator(0.001), bad))


def test_massless_particles_stay():
    system, start = argon()
    system.setParticleMass(4, 0.0)
    context = make_context(system, integrator := descent(0.005, -1000.0), start)
    integrator.step(20)
    end = positions_of(context)
    assert np.array_equal(end[4], start[4])
    assert np.abs(end - start).max() > 1e-3


@pytest.mark.parametrize(("platform", "precision"), [("Reference", None), ("CPU", None), ("OpenCL", "single")])
def test_learned_losses_descend_on_every_platform(platform, precision):
    system, positions = water_system("collective")
    before = potential_of(make_context(system, mm.VerletIntegrator(0.001), positions))
    context = make_context(system, integrator := descent(0.001, before - 2000.0), positions, platform, precision)
    integrator.step(60)
    first = integrator.conservedQuantity(context)
    assert first == pytest.approx(before, abs=0.5)
    assert potential_of(context) < before - 50.0


def test_what_has_no_potential_or_would_stay_is_refused(tmp_path):
    topology, positions = create_topology(SPECIES, cell=CELL), random_positions(20, CELL, least=0.2)
    for gradient, choices, words in (
        ("agent", {}, r"EnergyConserving.*gradient='collective'$"),
        ("mutual", {}, r"EnergyConserving.*gradient='collective'$"),
        ("collective", {"minimize": True}, r"stays there"),
        ("collective", {}, r"of the start is .* nothing would move"),
        ("collective", {"minimize": True, "temperature": 300.0}, r"of the minimised start is .* nothing would move"),
    ):
        with pytest.raises(DualityError, match=words):
            simulate(
                *(system_of(gradient), topology, positions, descent(0.001, 1e6), tmp_path / "run"),
                steps=1,
                platform="Reference",
                **choices,
            )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "bad", [{"target": float("nan")}, {"target": 1e13}, {"eta": 0.5}, {"eta": float("nan")}, {"limit": 0.0}]
)
def test_bad_numbers_are_refused(bad):
    with pytest.raises(DualityError):
        descent(0.001, **{"target": 0.0, **bad})
