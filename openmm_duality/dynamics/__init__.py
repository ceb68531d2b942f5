"""Learning dynamics: integrators, systems, reporters, running."""

from openmm_duality.dynamics.barostats import add_barostat
from openmm_duality.dynamics.energy_conserving_descent import EnergyConservingDescentLearningIntegrator
from openmm_duality.dynamics.integrators import (
    DescentLearningIntegrator,
    LangevinLearningIntegrator,
    LearningIntegrator,
    NoseHooverLearningIntegrator,
    VerletLearningIntegrator,
)
from openmm_duality.dynamics.integrity import Integrity, Limits
from openmm_duality.dynamics.mixed_systems import add_to_system
from openmm_duality.dynamics.running import RunResult, simulate
from openmm_duality.dynamics.structures import Start, read_start
from openmm_duality.dynamics.systems import create_system, create_topology, minimize

__all__ = [
    "DescentLearningIntegrator",
    "EnergyConservingDescentLearningIntegrator",
    "Integrity",
    "LangevinLearningIntegrator",
    "LearningIntegrator",
    "Limits",
    "NoseHooverLearningIntegrator",
    "RunResult",
    "Start",
    "VerletLearningIntegrator",
    "add_barostat",
    "add_to_system",
    "create_system",
    "create_topology",
    "minimize",
    "read_start",
    "simulate",
]
