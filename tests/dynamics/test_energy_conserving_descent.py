"""Properties of energy conserving descent, on systems with OpenMM's own forces and on learned losses."""

from __future__ import annotations

import numpy as np
import openmm as mm
import pytest
from numpy.typing import NDArray
from openmm import unit
from scipy.integrate import solve_ivp

from openmm_duality.dynamics import EnergyConservingDescentLearningIntegrator, VerletLearningIntegrator, simulate
from openmm_duality.dynamics.systems import create_topology
from openmm_duality.errors import DualityError
from tests.dynamics.systems import argon, kinetic_of, make_context, positions_of, potential_of, thermal, velocities_of

PLATFORMS = [("Reference", None, 1e-9), ("CPU", None, 1e-9), ("OpenCL", "double", 1e-9), ("OpenCL", "single", 1e-4)]
STIFFNESS = np.array([100.0, 300.0, 40.0])  # kJ/mol/nm² along x, y, z
MASSES = np.array([4.0, 9.0])


def wells(bump: float = 0.0) -> tuple[mm.System, NDArray[np.float64]]:
    """Two unlike particles in anisotropic wells about the origin; a bump makes two minima of each, at unequal depth."""
    system = mm.System()
    terms = "+".join(f"0.5*{k}*{x}^2" for k, x in zip(STIFFNESS, "xyz", strict=True))
    force = mm.CustomExternalForce(f"{terms} + {bump}*exp(-50*x^2) + {0.2 * bump}*x")
    for i, mass in enumerate(MASSES):
        system.addParticle(mass)
        force.addParticle(i, [])
    system.addForce(force)
    return system, np.array([[0.3, -0.1, 0.2], [-0.2, 0.25, 0.1]])


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

    solution = solve_ivp(rates, (0.0, time), np.concatenate([root * start.ravel(), np.zeros(6)]), rtol=1e-10, atol=1e-12)
    return np.asarray((solution.y[:6, -1] / root).reshape(2, 3))


@pytest.mark.parametrize("eta", [1.0, 4.0])
def test_the_trajectory_is_that_of_the_equations_and_of_second_order_in_the_step(eta):
    system, start = wells()
    end, errors = exact(start, -1.0, eta, 0.4), []
    for dt in (0.004, 0.002, 0.001):
        context = make_context(system, EnergyConservingDescentLearningIntegrator(dt, -1.0, eta, 1.0), start)
        context.getIntegrator().step(round(0.4 / dt))
        errors.append(np.abs(positions_of(context) - end).max())
    assert np.abs(end - start).max() > 0.05
    assert errors[-1] < 1e-3
    assert errors[0] > 1.5 * errors[1] > 2.25 * errors[2]
