"""Learning dynamics: integrators, systems, reporters, running."""

from openmm_duality.dynamics.integrators import (
    DescentLearningIntegrator,
    LangevinLearningIntegrator,
    LearningIntegrator,
    VerletLearningIntegrator,
)
from openmm_duality.dynamics.integrity import Integrity, Limits
from openmm_duality.dynamics.nose_hoover import NoseHooverLearningIntegrator
from openmm_duality.dynamics.running import RunResult, simulate
from openmm_duality.dynamics.structures import Start, read_start, supercell
from openmm_duality.dynamics.systems import add_barostat, create_system, create_topology, minimize

__all__ = [
    "DescentLearningIntegrator",
    "Integrity",
    "LangevinLearningIntegrator",
    "LearningIntegrator",
    "Limits",
    "NoseHooverLearningIntegrator",
    "RunResult",
    "Start",
    "VerletLearningIntegrator",
    "add_barostat",
    "create_system",
    "create_topology",
    "minimize",
    "read_start",
    "simulate",
    "supercell",
]
