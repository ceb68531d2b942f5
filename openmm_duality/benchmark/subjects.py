"""What is timed, as plain data, and the making of it: a context ready to run.

Flexible models all run with one learning integrator, Nosé–Hoover at 300 K, 10/ps and 0.5 fs, so that a difference of
times is one of forces. Rigid TIP3P runs as people run it, with OpenMM's LangevinMiddleIntegrator at 2 fs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openmm as mm
from openmm import unit

from openmm_duality.benchmark.tip3p import as_water, tip3p_system, tip3p_topology
from openmm_duality.dynamics import NoseHooverLearningIntegrator, Start, create_system, create_topology
from openmm_duality.dynamics.structures import thermal_velocities
from openmm_duality.losses import AgentLosses
from openmm_duality.lowering.backends import resolve

TEMPERATURE, FRICTION = 300.0, 10.0  # K, 1/ps
TIMESTEP, RIGID_TIMESTEP = 0.5e-3, 2e-3  # ps
FLEXIBLE_PME = "tip3p-flexible-pme"
TIP3P = {FLEXIBLE_PME: ("pme", False), "tip3p-flexible-rf": ("rf", False), "tip3p-rigid-pme": ("pme", True)}
OPENMM = "openmm"  # the back end of TIP3P: OpenMM's own forces


@dataclass(frozen=True)
class Subject:
    """One thing to time.

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
        Of the arithmetic of the losses; None for what the back end takes by itself.
    """

    what: str
    platform: str
    backend: str = OPENMM
    model: str = ""
    precision: str | None = None


@dataclass(frozen=True)
class Made:
    """A context ready to run, and what there is to say of it.

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


def subjects(
    models: Sequence[str | Path],
    platforms: Sequence[str],
    backends: Sequence[str],
    precision: str | None = None,
    tip3p: bool = True,
) -> list[Subject]:
    """Every model with every back end, then the three variants of TIP3P, on every platform.

    Raises
    ------
    DualityError
        If a model cannot be read.
    """
    forms = [(str(path), AgentLosses.load(path).form.name) for path in models]
    found = []
    for platform in platforms:
        found += [Subject(f"duality:{form}", platform, b, path, precision) for path, form in forms for b in backends]
        found += [Subject(what, platform) for what in TIP3P if tip3p]
    return found


def make(subject: Subject, start: Start) -> Made:
    """A context of a subject with the atoms and the cell of a start, and thermal velocities.

    Raises
    ------
    DualityError
        If the model does not fit the start, or the back end cannot run.
    openmm.OpenMMException
        If the platform is not there or cannot run it.
    """
    if subject.model:
        system, facts = _learned(subject, start)
    else:
        start = as_water(start)
        system, facts = _tip3p(subject, start)
    rigid = system.getNumConstraints() > 0
    integrator = _langevin() if rigid else NoseHooverLearningIntegrator(TEMPERATURE, FRICTION, TIMESTEP)
    platform = mm.Platform.getPlatformByName(subject.platform)
    context = mm.Context(system, integrator, platform)
    context.setPositions(start.positions)
    masses = np.array([system.getParticleMass(k).value_in_unit(unit.dalton) for k in range(len(start.species))])
    context.setVelocities(thermal_velocities(masses, TEMPERATURE, seed=1))
    if rigid:
        context.applyConstraints(1e-6)
        context.applyVelocityConstraints(1e-6)
    properties = {name: platform.getPropertyValue(context, name) for name in platform.getPropertyNames()}
    facts["integrator"] = type(integrator).__name__
    facts["timestep"] = integrator.getStepSize().value_in_unit(unit.picosecond)
    facts["threads"] = int(properties["Threads"]) if "Threads" in properties else None
    facts["platform_precision"] = properties.get("Precision", {"CPU": "single"}.get(subject.platform, "double"))
    facts["device"] = properties.get("DeviceName")
    return Made(context, integrator, facts)


def _learned(subject: Subject, start: Start) -> tuple[mm.System, dict[str, Any]]:
    losses = AgentLosses.load(subject.model)
    topology = create_topology(start.species, None, start.cell)
    home, precision = resolve(subject.backend, subject.precision)
    system = create_system(losses, topology, backend=home, precision=precision)
    facts = {
        "gradient": losses.gradient,
        "cutoff": losses.cutoff,
        "precision": precision,
        "home": home,
    }
    return system, facts


def _tip3p(subject: Subject, water: Start) -> tuple[mm.System, dict[str, Any]]:
    electrostatics, rigid = TIP3P[subject.what]
    assert water.cell is not None
    system, cutoff = tip3p_system(tip3p_topology(water), water.cell, electrostatics, rigid=rigid)
    return system, {"cutoff": cutoff}


def _langevin() -> mm.Integrator:
    friction = 1.0 / unit.picosecond
    integrator = mm.LangevinMiddleIntegrator(TEMPERATURE * unit.kelvin, friction, RIGID_TIMESTEP * unit.picosecond)
    integrator.setRandomNumberSeed(1)
    return integrator
