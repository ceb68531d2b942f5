"""Small systems with OpenMM's own forces, for the tests of this room."""

from __future__ import annotations

import numpy as np
import openmm as mm
from numpy.typing import NDArray
from openmm import app, unit

ARGON = {"mass": 39.948, "sigma": 0.34, "epsilon": 0.996}


def argon(n: int = 3, spacing: float = 0.4, cutoff: float | None = None) -> tuple[mm.System, NDArray[np.float64]]:
    """n³ argon atoms on a slightly disturbed lattice; the forces go smoothly to zero at the cutoff."""
    system = mm.System()
    edge = n * spacing
    cutoff = cutoff or 0.49 * edge
    system.setDefaultPeriodicBoxVectors(*(edge * np.eye(3)))
    force = mm.CustomNonbondedForce(f"4*{ARGON['epsilon']}*(s^2 - s); s=({ARGON['sigma']}/r)^6")
    force.setNonbondedMethod(mm.CustomNonbondedForce.CutoffPeriodic)
    force.setCutoffDistance(cutoff)
    force.setUseSwitchingFunction(True)
    force.setSwitchingDistance(0.8 * cutoff)
    for _ in range(n**3):
        system.addParticle(ARGON["mass"])
        force.addParticle([])
    system.addForce(force)
    grid = np.stack(np.meshgrid(*3 * [np.arange(n)], indexing="ij"), axis=-1).reshape(-1, 3) * spacing
    return system, grid + np.random.default_rng(1).normal(0.0, 0.01, grid.shape)


def oscillators(n: int = 64) -> tuple[mm.System, NDArray[np.float64]]:
    """n pairs of unlike atoms, each pair joined by a harmonic spring, no other force: no periodic cell."""
    system, force = mm.System(), mm.HarmonicBondForce()
    for i in range(n):
        system.addParticle(12.0)
        system.addParticle(3.0)
        force.addBond(2 * i, 2 * i + 1, 0.12, 2.0e4)
    system.addForce(force)
    centres = np.random.default_rng(2).uniform(0.0, 5.0, (n, 1, 3))
    return system, (centres + np.array([[0.0, 0.0, 0.0], [0.125, 0.0, 0.0]])).reshape(-1, 3)


def water(edge: float = 1.25) -> tuple[mm.System, app.Topology, NDArray[np.float64]]:
    """Flexible TIP3P water in a cubic box, its worst contacts relaxed."""
    field = app.ForceField("amber14/tip3p.xml")
    modeller = app.Modeller(app.Topology(), [] * unit.nanometer)
    modeller.addSolvent(field, boxSize=mm.Vec3(edge, edge, edge) * unit.nanometer)
    system = field.createSystem(
        modeller.topology,
        nonbondedMethod=app.CutoffPeriodic,
        nonbondedCutoff=0.48 * edge,
        rigidWater=False,
        removeCMMotion=False,
        switchDistance=0.4 * edge,
    )
    context = mm.Context(system, mm.VerletIntegrator(0.001), mm.Platform.getPlatformByName("Reference"))
    context.setPositions(modeller.positions)
    mm.LocalEnergyMinimizer.minimize(context, maxIterations=50)
    positions = context.getState(positions=True).getPositions(asNumpy=True).value_in_unit(unit.nanometer)
    return system, modeller.topology, np.array(positions)


def make_context(
    system: mm.System,
    integrator: mm.Integrator,
    positions: NDArray[np.float64],
    platform: str = "Reference",
    precision: str | None = None,
    temperature: float | None = None,
) -> mm.Context:
    """A context with positions and, if a temperature is given, velocities without net momentum."""
    properties = {"Precision": precision} if precision else {}
    context = mm.Context(system, integrator, mm.Platform.getPlatformByName(platform), properties)
    context.setPositions(positions)
    if temperature is not None:
        context.setVelocities(thermal(system, temperature))
    return context


def thermal(system: mm.System, temperature: float, seed: int = 3) -> NDArray[np.float64]:
    """Maxwell–Boltzmann velocities without net momentum, in nm/ps."""
    masses = masses_of(system)
    noise = np.random.default_rng(seed).normal(size=(len(masses), 3))
    velocities = noise * np.sqrt(0.008314462618 * temperature / masses)[:, None]
    return np.asarray(velocities - masses @ velocities / masses.sum())


def masses_of(system: mm.System) -> NDArray[np.float64]:
    """Masses in dalton."""
    return np.array([system.getParticleMass(i).value_in_unit(unit.dalton) for i in range(system.getNumParticles())])


def positions_of(context: mm.Context) -> NDArray[np.float64]:
    """Positions in nm."""
    return np.array(context.getState(positions=True).getPositions(asNumpy=True).value_in_unit(unit.nanometer))


def velocities_of(context: mm.Context) -> NDArray[np.float64]:
    """Velocities in nm/ps."""
    state = context.getState(velocities=True)
    return np.array(state.getVelocities(asNumpy=True).value_in_unit(unit.nanometer / unit.picosecond))


def kinetic_of(context: mm.Context) -> float:
    """Kinetic energy in kJ/mol."""
    return float(context.getState(energy=True).getKineticEnergy().value_in_unit(unit.kilojoule_per_mole))


def potential_of(context: mm.Context) -> float:
    """Potential energy in kJ/mol."""
    return float(context.getState(energy=True).getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole))
