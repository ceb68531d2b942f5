"""Stability of a model, measured in short runs that a trustworthy one completes with every molecule whole.

A low force error proves nothing: a model at 38 meV/Å once broke its molecules after 3 ps while its temperature and g(r)
were still right. So it is run at and above its temperature, with atoms displaced, compressed and without a heat bath,
with the checks of distances and molecules.
"""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from openmm import unit

from openmm_duality.dynamics.integrators import (
    LangevinLearningIntegrator,
    LearningIntegrator,
    VerletLearningIntegrator,
    positive,
)
from openmm_duality.dynamics.integrity import Limits, changed_bonds
from openmm_duality.dynamics.run_loop import LOG
from openmm_duality.dynamics.running import simulate
from openmm_duality.dynamics.structures import Start
from openmm_duality.dynamics.systems import create_system, create_topology
from openmm_duality.errors import DualityError
from openmm_duality.geometry.molecules import bonded_pairs, components, make_whole
from openmm_duality.losses.model import AgentLosses
from openmm_duality.losses.total import evaluate_total
from openmm_duality.units import BOLTZMANN

HOT = 1.2  # times the temperature
DISPLACEMENT = 0.01  # nm, of every atom in a random direction
COMPRESSION = 0.97  # of every edge of the cell
FRICTION = 10.0  # /ps
TIMESTEP = 0.5e-3  # ps
DISPLACED = "every atom displaced by 0.1 Å"
_RUNAWAY = 6.0  # times the temperature
_SHORTEST, _LONGEST = 2.0, 40.0  # ps, of the runs
_WATCHED = 400.0  # atoms times ps: what breaks once in so much is seen, in a molecule as in a liquid


@dataclass(frozen=True)
class Check:
    """Outcome of one of the short runs.

    Parameters
    ----------
    name : str
    passed : bool or None
        None where the run could not be made.
    time : float
        Length of the run, in ps.
    reason : str
        Why it stopped or could not be made; empty if it passed.
    """

    name: str
    passed: bool | None
    time: float
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain values for JSON and the model file."""
        return {"name": self.name, "passed": self.passed, "time_ps": self.time, "reason": self.reason}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Check:
        """Read a check back from `to_dict`."""
        return cls(content["name"], content["passed"], content["time_ps"], content["reason"])

    def __str__(self) -> str:
        outcome = {True: "passed", False: "failed", None: "not run"}[self.passed]
        return f"{self.name:<34} {outcome:<8} {self.time:6.2f} ps  {self.reason}".rstrip()


def check_stability(
    losses: AgentLosses,
    start: Start,
    *,
    temperature: Any = 300.0,
    time: Any = None,
    platform: str | None = "CPU",
    seed: int = 1,
    progress: bool = False,
) -> list[Check]:
    """Check a model by five short runs of 0.5 fs steps from one structure.

    Langevin dynamics at the temperature and at 1.2 times it; from a start with every atom displaced by 0.1 Å in a
    random direction (bonds may swing beyond their usual length at first, and must be whole in the last quarter); in a
    cell with edges 3 % shorter (molecules moved, not stretched); and NVE.

    Parameters
    ----------
    losses : AgentLosses
    start : Start
        A structure of the system that the model is for.
    temperature : openmm.unit.Quantity or float
        In K.
    time : openmm.unit.Quantity or float, optional
        Of each run, in ps; by default 2 ps, and of fewer than 200 atoms so much longer as they are fewer, up to 40 ps.
    platform : str, optional
        Of OpenMM.
    seed : int
        Of velocities, heat bath and displacements.
    progress : bool
        Whether to show progress bars.
    """
    kelvin = positive(temperature, unit.kelvin, "temperature")
    usual = min(max(_SHORTEST, _WATCHED / len(start.species)), _LONGEST)
    duration = usual if time is None else positive(time, unit.picosecond, "time")
    steps = max(1, round(duration / TIMESTEP))
    checks: list[Check] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, begin, integrator in _runs(losses, start, kelvin, seed):
            topology = create_topology(begin.species, None, begin.cell)
            directory = Path(folder) / str(len(checks))
            moved = name == DISPLACED
            hottest = _RUNAWAY * kelvin + (_added_temperature(losses, start, begin) if moved else 0.0)
            limits = replace(Limits.of(losses, allow_broken=moved), max_temperature=hottest)
            try:
                result = simulate(
                    create_system(losses, topology, platform=platform),
                    topology,
                    begin.positions,
                    integrator,
                    directory,
                    steps=steps,
                    report_interval=min(20, steps),
                    platform=platform,
                    temperature=kelvin,
                    seed=seed,
                    species=begin.species,
                    limits=limits,
                    progress=progress,
                )
            except DualityError as error:
                checks.append(Check(name, None, 0.0, str(error)))
                continue
            # the folder with the last good state goes away with this function
            reason = result.reason.partition(" (last good state")[0]
            if moved and result.status == "finished" and _broken_at_end(directory):
                reason = "molecules were broken in the last quarter of the run"
            elif moved and result.unknown_bonds:
                reason = f"at the end {changed_bonds(result.unknown_bonds)}"
            checks.append(Check(name, not reason, result.steps_done * TIMESTEP, reason))
    return checks


def _added_temperature(losses: AgentLosses, start: Start, moved: Start) -> float:
    """Rise in temperature, in K, when the potential energy added by displacing the atoms becomes kinetic."""
    before, after = (evaluate_total(losses, s.positions, s.species, s.cell)[0] for s in (start, moved))
    return max(0.0, 2.0 * (after - before) / (3 * len(start.species) * BOLTZMANN))


def _broken_at_end(directory: Path) -> bool:
    """Whether a molecule was broken in the last quarter of the log."""
    with open(directory / LOG) as file:
        left = [int(row["atoms_left_molecule"]) for row in csv.DictReader(file)]
    return any(left[3 * len(left) // 4 :])


def _runs(
    losses: AgentLosses, start: Start, temperature: float, seed: int
) -> Iterator[tuple[str, Start, LearningIntegrator]]:
    """Name, start and integrator of every short run."""

    def langevin(factor: float = 1.0) -> LangevinLearningIntegrator:
        return LangevinLearningIntegrator(factor * temperature, FRICTION, TIMESTEP)

    yield f"Langevin, {temperature:g} K", start, langevin()
    yield f"Langevin, {HOT * temperature:g} K", start, langevin(HOT)
    yield DISPLACED, displaced(start, DISPLACEMENT, seed), langevin()
    if start.cell is not None:
        yield "cell edges 3 % shorter", compressed(losses, start, COMPRESSION), langevin()
    yield "NVE", start, VerletLearningIntegrator(TIMESTEP)


def displaced(start: Start, distance: float, seed: int) -> Start:
    """Every atom moved by a distance (nm) in a random direction."""
    directions = np.random.default_rng(seed).normal(size=start.positions.shape)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return replace(start, positions=start.positions + distance * directions)


def compressed(losses: AgentLosses, start: Start, factor: float) -> Start:
    """The cell with its edges scaled by a factor: molecules move with it and keep their shape."""
    assert start.cell is not None
    bonds = bonded_pairs(start.positions, start.species, start.cell, dict(losses.bond_lengths))
    positions = make_whole(start.positions, bonds, start.cell)
    for atoms in components(bonds, len(start.species)):
        positions[atoms] += (factor - 1.0) * positions[atoms].mean(axis=0)
    return replace(start, positions=positions, cell=factor * start.cell)
