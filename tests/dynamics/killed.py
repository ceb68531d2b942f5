"""The run that the tests kill: flexible water in a folder, on a platform, as a program of its own."""

from __future__ import annotations

import sys
from pathlib import Path

import openmm as mm

from openmm_duality.dynamics.integrators import (
    LangevinLearningIntegrator,
    LearningIntegrator,
    NoseHooverLearningIntegrator,
)
from openmm_duality.dynamics.integrity import Limits
from openmm_duality.dynamics.running import RunResult, simulate
from tests.dynamics.systems import water

STEPS = 1000


def run(directory: Path, platform: str, thermostat: str, steps: int = STEPS) -> RunResult:
    """The run, from the start or from where it was killed."""
    system, topology, positions = water(1.0)
    if platform == "CPU":  # its nonbonded forces differ from run to run in the last bit, even if asked not to
        distinct = [isinstance(force, mm.NonbondedForce) for force in system.getForces()]
        system.removeForce(distinct.index(True))
        system.getForce(0).setUsesPeriodicBoundaryConditions(True)
    integrator: LearningIntegrator = (
        LangevinLearningIntegrator(300.0, 5.0, 0.0005)
        if thermostat == "langevin"
        else NoseHooverLearningIntegrator(300.0, 10.0, 0.0005)
    )
    return simulate(
        system,
        topology,
        positions,
        integrator,
        directory,
        steps=steps,
        report_interval=4,
        checkpoint_interval=60,
        platform=platform,
        seed=8,
        limits=Limits(bond_lengths={("H", "O"): 0.14}),
        save_velocities=True,
        progress=False,
    )


if __name__ == "__main__":
    print(run(Path(sys.argv[1]), sys.argv[2], sys.argv[3]).message)
