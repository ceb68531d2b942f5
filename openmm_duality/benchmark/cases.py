"""The cases of a benchmark as plain data, and their contexts: prepared, timed and checked.

Flexible models all run with one learning integrator, Nosé–Hoover at 300 K, 10/ps and 0.5 fs, so that a difference of
times is one of forces. Rigid TIP3P runs as is usual, with OpenMM's LangevinMiddleIntegrator at 2 fs.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openmm as mm
from openmm import unit

from openmm_duality.benchmark.water import as_water, tip3p_system, tip3p_topology
from openmm_duality.dynamics import NoseHooverLearningIntegrator, Start, create_system, create_topology
from openmm_duality.dynamics.structures import thermal_velocities
from openmm_duality.errors import DualityError
from openmm_duality.losses import AgentLosses
from openmm_duality.lowering.force_identity import identify_forces
from openmm_duality.units import BOLTZMANN, masses_of

TEMPERATURE, FRICTION = 300.0, 10.0  # K, 1/ps
TIMESTEP, RIGID_TIMESTEP = 0.5e-3, 2e-3  # ps
FLEXIBLE_PME = "tip3p-flexible-pme"
TIP3P = {FLEXIBLE_PME: ("pme", False), "tip3p-flexible-rf": ("rf", False), "tip3p-rigid-pme": ("pme", True)}
OPENMM = "openmm"  # the back end of TIP3P: OpenMM's own forces
_RUNAWAY = 3.0  # times the temperature


@dataclass(frozen=True)
class Case:
    """One model, or variant of TIP3P, on one platform and back end.

    Parameters
    ----------
    what : str
        ``duality:<form>`` or one of `TIP3P`.
    platform : str
        Of OpenMM.
    backend : str
        Of the losses; ``openmm`` for TIP3P.
    model : str
        Path of the model file; empty for TIP3P.
    precision : str or None
        Of the arithmetic of the losses; None for the default of the back end.
    """

    what: str
    platform: str
    backend: str = OPENMM
    model: str = ""
    precision: str | None = None


@dataclass(frozen=True)
class TimedContext:
    """A context ready to run, and its description.

    Parameters
    ----------
    context : openmm.Context
    integrator : openmm.Integrator
    facts : dict
        Entries of its row: ``timestep`` (ps), ``cutoff`` (nm), ``threads`` and the like.
    """

    context: mm.Context
    integrator: mm.Integrator
    facts: dict[str, Any]

    def warm_up(self, steps: int, seconds: float) -> float:
        """Run that many steps or seconds, whichever ends first; at least two steps.

        Returns
        -------
        float
            Seconds per step of the second half: the first steps compile, and allocate memory.
        """
        times: list[float] = []
        begin = time.perf_counter()
        while len(times) < 2 or (len(times) < steps and time.perf_counter() - begin < seconds):
            times.append(self.time_steps(1))
        return float(np.mean(times[len(times) // 2 :]))

    def time_steps(self, steps: int) -> float:
        """Wall time of a number of steps in seconds."""
        begin = time.perf_counter()
        self.integrator.step(steps)
        self.context.getState(positions=True)  # GPU platforms only queue the steps; this waits for them
        return time.perf_counter() - begin

    def check(self) -> None:
        """Check positions, energy and temperature.

        Raises
        ------
        DualityError
            If a number is not finite, or the temperature three times that of the heat bath.
        """
        system = self.context.getSystem()
        dof = 3 * system.getNumParticles() - system.getNumConstraints() - 3
        state = self.context.getState(positions=True, energy=True)
        positions = state.getPositions(asNumpy=True).value_in_unit(unit.nanometer)
        potential, kinetic = (
            energy.value_in_unit(unit.kilojoule_per_mole)
            for energy in (state.getPotentialEnergy(), state.getKineticEnergy())
        )
        temperature = 2.0 * kinetic / (dof * BOLTZMANN)
        if not (np.isfinite(positions).all() and np.isfinite(potential) and temperature < _RUNAWAY * TEMPERATURE):
            raise DualityError(
                f"the run diverged while it was timed (energy {potential:.6g} kJ/mol, {temperature:.6g} K), so its "
                "times are meaningless; check that the model is stable (infer --check) and inferred for this system"
            )


def benchmark_cases(
    models: Sequence[str | Path],
    platforms: Sequence[str],
    backends: Sequence[str],
    precision: str | None = None,
    tip3p: bool = True,
) -> list[Case]:
    """Every model with every back end, then the three variants of TIP3P, on every platform.

    Raises
    ------
    DualityError
        If a model cannot be read.
    """
    forms = [(str(path), AgentLosses.load(path).form.name) for path in models]
    found = []
    for platform in platforms:
        found += [Case(f"duality:{form}", platform, b, path, precision) for path, form in forms for b in backends]
        found += [Case(what, platform) for what in TIP3P if tip3p]
    return found


def prepare(case: Case, start: Start) -> TimedContext:
    """A context of a case with the atoms and the cell of a start, and thermal velocities.

    Raises
    ------
    DualityError
        If the model does not fit the start, or the back end cannot run.
    openmm.OpenMMException
        If the platform is missing or cannot run it.
    """
    if case.model:
        system, facts = _learned(case, start)
    else:
        start = as_water(start)
        system, facts = _tip3p(case, start)
    rigid = system.getNumConstraints() > 0
    integrator = _langevin() if rigid else NoseHooverLearningIntegrator(TEMPERATURE, FRICTION, TIMESTEP)
    platform = mm.Platform.getPlatformByName(case.platform)
    context = mm.Context(system, integrator, platform)
    context.setPositions(start.positions)
    context.setVelocities(thermal_velocities(masses_of(system), TEMPERATURE, seed=1))
    if rigid:
        context.applyConstraints(1e-6)
        context.applyVelocityConstraints(1e-6)
    properties = {name: platform.getPropertyValue(context, name) for name in platform.getPropertyNames()}
    facts["integrator"] = type(integrator).__name__
    facts["timestep"] = integrator.getStepSize().value_in_unit(unit.picosecond)
    facts["threads"] = int(properties["Threads"]) if "Threads" in properties else None
    facts["platform_precision"] = properties.get("Precision", {"CPU": "single"}.get(case.platform, "double"))
    facts["device"] = properties.get("DeviceName")
    return TimedContext(context, integrator, facts)


def _learned(case: Case, start: Start) -> tuple[mm.System, dict[str, Any]]:
    losses = AgentLosses.load(case.model)
    topology = create_topology(start.species, None, start.cell)
    system = create_system(losses, topology, backend=case.backend, precision=case.precision, platform=case.platform)
    used = identify_forces(system)
    facts = {
        "gradient": losses.gradient,
        "cutoff": losses.cutoff,
        "precision": used["loss_precision"],
        "resolved_backend": used["loss_backend"],
    }
    return system, facts


def _tip3p(case: Case, water: Start) -> tuple[mm.System, dict[str, Any]]:
    electrostatics, rigid = TIP3P[case.what]
    assert water.cell is not None
    system, cutoff = tip3p_system(tip3p_topology(water), water.cell, electrostatics, rigid=rigid)
    return system, {"cutoff": cutoff}


def _langevin() -> mm.Integrator:
    friction = 1.0 / unit.picosecond
    integrator = mm.LangevinMiddleIntegrator(TEMPERATURE * unit.kelvin, friction, RIGID_TIMESTEP * unit.picosecond)
    integrator.setRandomNumberSeed(1)
    return integrator
