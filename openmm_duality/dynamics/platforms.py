"""The platform of OpenMM on which a run takes place, and its precision."""

from __future__ import annotations

import openmm as mm
from openmm import app

from openmm_duality.dynamics.integrators import LearningIntegrator
from openmm_duality.errors import DualityError
from openmm_duality.lowering.dependencies import platform_error, require_platform
from openmm_duality.lowering.platform_choice import fastest_platform

_NATIVE_PRECISION = {"Reference": "double", "CPU": "single"}


def make_simulation(
    topology: app.Topology,
    system: mm.System,
    integrator: LearningIntegrator,
    platform: str | None,
    precision: str | None,
) -> tuple[app.Simulation, dict[str, str]]:
    """The simulation, and the properties of its platform that were asked for.

    Parameters
    ----------
    topology : openmm.app.Topology
    system : openmm.System
    integrator : LearningIntegrator
    platform : str or None
        The fastest by default, where OpenCL counts if its device is no CPU: the CPU platform is faster there.
    precision : str or None
        Of the platform: single, mixed or double.

    Raises
    ------
    DualityError
        If there is no such platform, or it cannot run the system in this precision.
    """
    if platform is None:
        platform = fastest_platform()
    require_platform(platform)
    chosen = mm.Platform.getPlatformByName(platform)
    properties = {}
    if precision is not None and precision != _NATIVE_PRECISION.get(platform):
        if "Precision" not in chosen.getPropertyNames() or precision not in ("single", "mixed", "double"):
            raise DualityError(
                f"precision: {platform} cannot run in {precision!r}; Reference runs in double, CPU in single, OpenCL "
                "and CUDA in single, mixed or double"
            )
        properties["Precision"] = precision
    if "DeterministicForces" in chosen.getPropertyNames():
        properties["DeterministicForces"] = "true"  # else sums depend on the order of threads, and no run repeats
    try:
        return app.Simulation(topology, system, integrator, chosen, properties), properties
    except (mm.OpenMMException, ValueError) as error:
        raise platform_error(platform, error) from error


def platform_precision(simulation: app.Simulation) -> str:
    """The precision in which the platform of a simulation computes."""
    platform = simulation.context.getPlatform()
    if "Precision" in platform.getPropertyNames():
        return str(platform.getPropertyValue(simulation.context, "Precision"))
    return _NATIVE_PRECISION.get(platform.getName(), "unknown")
