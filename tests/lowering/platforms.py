"""The back ends and platforms that the installed set can run, and forces through them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import openmm as mm
from openmm import unit

from openmm_duality.losses import AgentLosses
from openmm_duality.lowering import lower
from openmm_duality.lowering.dependencies import pythonforce_problem, torchforce_problem
from tests.systems import CELL, TRICLINIC, random_positions

FloatArray = npt.NDArray[np.float64]

BACKENDS = [
    name
    for name, problem in (("torchforce", torchforce_problem()), ("pythonforce", pythonforce_problem()))
    if problem is None
]
# (platform, precision of the platform)
DOUBLE = [("Reference", None), ("CPU", None), ("OpenCL", "double")]
SINGLE = [("OpenCL", "single"), ("OpenCL", "mixed")]


def properties(precision: str | None) -> dict[str, str]:
    """Of a platform that can be told its precision."""
    return {"Precision": precision} if precision else {}


def context_of(
    force: mm.Force,
    positions: FloatArray,
    cell: FloatArray | None,
    platform: str = "Reference",
    precision: str | None = None,
) -> mm.Context:
    """A context with this one force."""
    system = mm.System()
    for _ in positions:
        system.addParticle(10.0)
    if cell is not None:
        system.setDefaultPeriodicBoxVectors(*(mm.Vec3(*row) for row in cell))
    system.addForce(force)
    integrator = mm.VerletIntegrator(0.001)
    context = mm.Context(system, integrator, mm.Platform.getPlatformByName(platform), properties(precision))
    context.setPositions(positions)
    return context


def energy_and_forces(context: mm.Context) -> tuple[float, FloatArray]:
    """In kJ/mol and kJ/mol/nm."""
    state = context.getState(energy=True, forces=True)
    forces = state.getForces(asNumpy=True).value_in_unit(unit.kilojoule_per_mole / unit.nanometer)
    return state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole), np.array(forces)


def through_openmm(
    losses: AgentLosses,
    positions: FloatArray,
    species: tuple[str, ...],
    cell: FloatArray | None,
    *,
    backend: str,
    platform: str,
    precision: str | None = None,
    arithmetic: str = "double",
) -> tuple[float, FloatArray]:
    """Sum of losses and forces as OpenMM has them."""
    force = lower(losses, species, periodic=cell is not None, backend=backend, precision=arithmetic)
    return energy_and_forces(context_of(force, positions, cell, platform, precision))


def in_every_cell(
    losses: AgentLosses,
    species: tuple[str, ...],
    *,
    backend: str,
    platform: str,
    precision: str | None = None,
    arithmetic: str = "double",
    particles: npt.NDArray[np.int64] | None = None,
    n_atoms: int | None = None,
    least: float = 0.15,
) -> Iterator[tuple[FloatArray, FloatArray | None, float, FloatArray]]:
    """Positions, cell, sum of losses and forces: triclinic and orthorhombic in one context, and open in another."""
    for cells in ([TRICLINIC, CELL], [None]):
        context = None
        for cell in cells:
            positions = random_positions(n_atoms or len(species), CELL if cell is None else cell, least=least)
            if context is None:
                periodic = cell is not None
                force = lower(
                    losses, species, particles=particles, periodic=periodic, backend=backend, precision=arithmetic
                )
                context = context_of(force, positions, cell, platform, precision)
            else:
                context.setPeriodicBoxVectors(*cell)
                context.setPositions(positions)
            yield positions, cell, *energy_and_forces(context)
