"""Running learning dynamics: a folder with a trajectory, a log and a record, that survives being killed.

A run folder holds `run.json` (everything that was resolved), `topology.pdb`, `trajectory.dcd` (positions, not wrapped),
`velocities.dcd` if asked for (nm/ps in the place of nm), `log.csv`, `checkpoint.chk`, and at the end `final.pdb`. A run
that stops itself leaves `last_good.chk` and `last_good.pdb` of the last check that passed and, if its positions are
finite, `stopped.cif`. The checkpoints can be loaded by OpenMM alone.

A resumed run is bitwise the same run where the forces are: OpenMM's own nonbonded forces on the CPU platform differ in
the last bit from run to run, killed or not. What the neighbour lists of the fused kernel were made for is in the
checkpoint, since rounding depends on it. A Monte Carlo barostat counts and adapts its moves anew after a resume.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openmm as mm
from openmm import app, unit

from openmm_duality.bounds import STEPS, require_bounds
from openmm_duality.dynamics import record
from openmm_duality.dynamics.barostats import describe_barostat
from openmm_duality.dynamics.energy_conserving_descent import EnergyConservingDescentLearningIntegrator
from openmm_duality.dynamics.integrators import LearningIntegrator
from openmm_duality.dynamics.integrity import Integrity, Limits, changed_bonds, runaway_temperature
from openmm_duality.dynamics.monitoring import RunMonitor, count_checks, mostly_unknown
from openmm_duality.dynamics.platforms import make_simulation, platform_precision
from openmm_duality.dynamics.run_loop import CHECKPOINT, RunLoop
from openmm_duality.dynamics.structures import thermal_velocities
from openmm_duality.dynamics.systems import DAMPED_DESCENT
from openmm_duality.dynamics.systems import minimize as minimize_energy
from openmm_duality.errors import DualityError
from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.lowering.force_identity import identify_forces, require_potential
from openmm_duality.schema import species_name
from openmm_duality.units import BOLTZMANN, bare, masses_of


@dataclass(frozen=True)
class RunResult:
    """Result of a call of `simulate`.

    Parameters
    ----------
    directory : path
        The folder of the run.
    status : str
        ``"finished"`` or ``"stopped"``.
    reason : str
        Why the run stopped itself; empty if it did not.
    steps_done : int
        Number of steps in the folder.
    resumed_from : int
        Number of steps that were there before this call.
    ms_per_step : float
        Wall time of a step in ms, checks and writing included, over the whole run.
    alarms, checks : int
        Checks of the monitor that raised an alarm, and all of them.
    exchanged_bonds : int
        Bonds of the start that are exchanged for others at the end, as the data of the model show: hops, no breaks.
    unknown_bonds : int
        Bonds that have broken or formed at the end as these data do not show; without `allow_broken` they stop the run.
    """

    directory: Path
    status: str
    reason: str
    steps_done: int
    resumed_from: int
    ms_per_step: float
    alarms: int = 0
    checks: int = 0
    exchanged_bonds: int = 0
    unknown_bonds: int = 0

    @property
    def message(self) -> str:
        """Summary of the run in one sentence."""
        plural = "" if self.alarms == 1 else "s"
        unknown = mostly_unknown(self.alarms, self.checks)
        often = ", in most of its checks: the model does not know what the run shows" if unknown else ""
        raised = f" The monitor raised {self.alarms} alarm{plural} (alarms.csv){often}." if self.alarms else ""
        if self.status == "stopped":
            return f"{self.directory}: the run stopped itself after {self.steps_done} steps: {self.reason}.{raised}"
        if self.resumed_from >= self.steps_done:
            return f"{self.directory}: complete already, with {self.steps_done} steps; ask for more to go on."
        resumed = f" (resumed after {self.resumed_from})" if self.resumed_from else ""
        hops = f" Bonds exchanged as in the data of the model: {self.exchanged_bonds}." if self.exchanged_bonds else ""
        if self.unknown_bonds:
            hops += f" At the end {changed_bonds(self.unknown_bonds)}."
        steps = f"{self.steps_done} steps done{resumed}, {self.ms_per_step:.3g} ms per step"
        return f"{self.directory}: {steps}.{hops}{raised}"


def simulate(
    system: mm.System,
    topology: app.Topology,
    positions: Any,
    integrator: LearningIntegrator,
    directory: str | Path,
    *,
    steps: int,
    report_interval: int = 20,
    checkpoint_interval: int | None = None,
    platform: str | None = None,
    precision: str | None = None,
    temperature: Any = None,
    velocities: Any = None,
    minimize: bool = False,
    seed: int | None = None,
    species: Sequence[str] | None = None,
    limits: Limits | None = None,
    monitor: RunMonitor | None = None,
    save_velocities: bool = False,
    metadata: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> RunResult:
    """Run learning dynamics in a folder; called again with the same settings, resume where the folder ends.

    The forces of the System must be the same as well: the losses and the other forces are compared by their hashes, as
    far as they have any (`run.json` names those that have none). A run that stopped itself is resumed only if the
    limits have changed, from its last checkpoint, and stops again where it exceeds the new ones.

    Parameters
    ----------
    system : openmm.System
        Without constraints. Its default box is the cell. Seeds of its random forces (barostats) are set.
    topology : openmm.app.Topology
        Of the same atoms, with the same cell.
    positions : openmm.unit.Quantity or array, shape (N, 3)
        The start, in nm.
    integrator : LearningIntegrator
        Not yet in a context; its seed is set.
    directory : path
        Of the run: a new or empty folder, or one that an earlier call made.
    steps : int
        Number of steps in all, those of earlier calls included.
    report_interval : int
        Steps between frames, rows of the log and checks.
    checkpoint_interval : int, optional
        Steps between checkpoints, a multiple of the report interval; ten times that by default.
    platform, precision : str, optional
        Of OpenMM; by default the fastest (OpenCL only on a GPU), at that platform's own precision.
    temperature : openmm.unit.Quantity or float, optional
        Of the initial velocities, in K; the integrator's by default. Descent starts at rest without one.
    velocities : openmm.unit.Quantity or array, shape (N, 3), optional
        Initial velocities in nm/ps; drawn from the temperature and the seed by default.
    minimize : bool
        Whether the potential energy of the start is minimised before the first step (see `dynamics.systems.minimize`).
    seed : int, optional
        Above zero; drawn and recorded by default.
    species : sequence of str, length N, optional
        The chemical elements of the topology by default.
    limits : Limits, optional
        What stops the run: bonds that must stay, distances that are too short, the highest temperature. By default
        only numbers that are not finite, and three times the temperature of the run.
    monitor : RunMonitor, optional
        Such as a `learning.Monitor`: checks at its interval whether the run is inside the training distribution.
    save_velocities : bool
        Whether to write `velocities.dcd` too.
    metadata : mapping, optional
        More entries for `run.json`, such as ``{"model": {"name": …, "sha256": …}}``. Resuming compares them; of an
        entry with a ``sha256`` only that.
    progress : bool
        Whether to show a progress bar.

    Raises
    ------
    DualityError
        If the arguments do not fit together, the folder holds something else or a run with other settings, or the
        platform cannot run the system, or a barostat, the minimiser or energy conserving descent would act on losses
        that have no potential.
    """
    directory, limits = Path(directory), limits or Limits()
    checkpoint_interval = 10 * report_interval if checkpoint_interval is None else checkpoint_interval
    _check_numbers(steps, report_interval, checkpoint_interval, seed)
    start = _array(positions, unit.nanometer, "positions", system.getNumParticles())
    species = _species(topology, species, start)
    cell = _cell(system, topology)
    if system.getNumConstraints():
        raise DualityError(
            f"the system has {system.getNumConstraints()} constraints, which learning dynamics does not keep; make it "
            "without them (in a force field of OpenMM: rigidWater=False, constraints=None)"
        )
    if minimize:
        require_potential(system, "the minimiser", DAMPED_DESCENT)
        if isinstance(integrator, EnergyConservingDescentLearningIntegrator) and temperature is velocities is None:
            raise DualityError(
                "energy conserving descent that begins at rest in a minimum stays there: leave out the minimiser, or "
                "give the temperature of initial velocities"
            )
    if integrator.needs_potential:
        require_potential(system, type(integrator).__name__)
    if any("Barostat" in type(force).__name__ for force in system.getForces()):
        require_potential(system, "a barostat")
    dof = integrator.degreesOfFreedom(system)
    if dof < 1:
        raise DualityError(f"the system has {dof} degrees of freedom; there must be at least one to move")
    integrity = Integrity(
        species,
        start,
        cell,
        limits.bond_lengths,
        limits.collapse_distances,
        coordinations=limits.coordinations,
    )
    masses = masses_of(system)

    with record.locked_folder(directory) as old:
        seed = seed or (old or {}).get("seed") or secrets.randbelow(2**31 - 1) + 1
        initial, target = _velocities(integrator, masses, dof, temperature, velocities, seed)
        _seed(system, integrator, seed)
        simulation, properties = make_simulation(topology, system, integrator, platform, precision)
        new = {
            "status": "running",
            "reason": "",
            "steps": steps,
            "steps_done": 0,
            "time_ps": 0.0,
            "ms_per_step": 0.0,
            "ensemble": _ensemble(system, integrator),
            **describe_barostat(system),
            "integrator": type(integrator).__name__,
            **integrator.parameters(),
            "temperature": target,
            "seed": seed,
            "platform": simulation.context.getPlatform().getName(),
            "precision": properties.get("Precision", precision) or platform_precision(simulation),
            "platform_properties": properties,
            "report_interval": report_interval,
            "checkpoint_interval": checkpoint_interval,
            "save_velocities": save_velocities,
            "degrees_of_freedom": dof,
            "atoms": len(start),
            "species": _recorded_species(topology, species),
            "composition": dict(sorted(Counter(species).items())),
            "masses": {name: sorted(set(masses[np.array(species) == name])) for name in sorted(set(species))},
            "cell_nm": None if cell is None else cell.tolist(),
            "molecules": integrity.molecules,
            "forces": [type(system.getForce(i)).__name__ for i in range(system.getNumForces())],
            **identify_forces(system),
            **({"minimized": True} if minimize else {}),
            "initial_state": {"sha256": hashlib.sha256(np.concatenate([start, initial]).tobytes()).hexdigest()},
            "limits": {
                "bond_lengths_nm": {"-".join(pair): r for pair, r in integrity.bond_lengths.items()},
                "coordinations": [[name, dict(around)] for name, around in sorted(integrity.coordinations)],
                "shortest_allowed_nm": {"-".join(pair): r for pair, r in integrity.shortest_allowed.items()},
                "max_temperature": limits.max_temperature or (runaway_temperature(target, dof) if target else None),
                "allow_broken": limits.allow_broken,
                "monitor": None if monitor is None else monitor.to_dict(),
            },
            "alarms": 0,
            "exchanged_bonds": 0,
            "unknown_bonds": 0,
            "versions": record.versions(),
        }
        if clash := sorted(new.keys() & (metadata or {}).keys()):
            raise DualityError(f"metadata: {', '.join(clash)} would replace what the run itself records; rename it")
        new.update(metadata or {})
        if old is not None:
            record.check_same(directory, old, new)
            unchanged = old["status"] == "stopped" and not record.limits_changed(old, new)
            complete = old["status"] == "finished" and old["steps_done"] >= steps
            if unchanged or complete:
                return _result(directory, old, old["steps_done"])
            new.update({key: old[key] for key in ("steps_done", "time_ps", "ms_per_step")})
        loop = RunLoop(simulation, integrity, directory, new, limits.allow_broken, monitor)
        if old is not None and (directory / CHECKPOINT).exists():
            loop.resume()
        else:
            simulation.context.setPositions(start)
            if minimize:
                minimize_energy(simulation)
            if isinstance(integrator, EnergyConservingDescentLearningIntegrator):
                _check_target(integrator, simulation, minimize)
            loop.begin(initial)
        resumed_from = loop.step
        return _result(directory, loop.run(steps, progress), resumed_from)


def _ensemble(system: mm.System, integrator: LearningIntegrator) -> str:
    """Name of the ensemble: with a barostat that changes the volume, NPT and NPH in the place of NVT and NVE."""
    changes = any("Barostat" in type(force).__name__ and force.getFrequency() for force in system.getForces())
    return (
        {"NVT": "NPT", "NVE": "NPH"}.get(integrator.ensemble, integrator.ensemble) if changes else integrator.ensemble
    )


def _check_target(
    integrator: EnergyConservingDescentLearningIntegrator, simulation: app.Simulation, minimized: bool
) -> None:
    """Check that there is something to descend: at or below its target the integrator moves nothing."""
    found = simulation.context.getState(energy=True).getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole)
    target = integrator.getGlobalVariableByName("target")
    if found <= target:
        raise DualityError(
            f"the energy of the {'minimised ' if minimized else ''}start is {found:.6g} kJ/mol, and the target energy "
            f"{target:.6g} kJ/mol is not below, so that nothing would move: give one below what is to be found"
        )


def _check_numbers(steps: int, report: int, checkpoint: int, seed: int | None) -> None:
    for name, value in (("steps", steps), ("report_interval", report), ("checkpoint_interval", checkpoint)):
        if not 1 <= value <= STEPS or value != int(value):
            raise DualityError(f"{name}: expected a whole number from 1 to {STEPS:,}, got {value:.6g}")
    if checkpoint % report:
        raise DualityError(f"checkpoint_interval: {checkpoint} is not a multiple of the report interval {report}")
    if seed is not None and not 0 < seed < 2**31:
        raise DualityError(f"seed: expected a whole number above zero (zero means any to OpenMM), got {seed}")


def _array(value: Any, dimension: Any, name: str, n: int) -> FloatArray:
    array = np.array(value.value_in_unit(dimension) if unit.is_quantity(value) else value, dtype=np.float64)
    if array.shape != (n, 3) or not np.isfinite(array).all():
        raise DualityError(
            f"{name}: expected finite numbers of shape ({n}, 3), for the {n} particles of the system, got shape "
            f"{array.shape}{'' if np.isfinite(array).all() else ' with numbers that are not finite'}"
        )
    require_bounds(array, name, "simulate")
    return array


def _species(topology: app.Topology, species: Sequence[str] | None, start: FloatArray) -> tuple[str, ...]:
    atoms = list(topology.atoms())
    if len(atoms) != len(start):
        raise DualityError(f"the topology has {len(atoms)} atoms, the system {len(start)} particles; they must agree")
    if species is not None:
        if len(species) != len(start):
            raise DualityError(f"species: {len(species)} were given for {len(start)} atoms")
        return tuple(species_name(name, "species") for name in species)
    if any(atom.element is None for atom in atoms):
        raise DualityError("the topology has atoms without an element; give their species")
    return tuple(atom.element.symbol for atom in atoms)


def _recorded_species(topology: app.Topology, species: Sequence[str]) -> list[str]:
    """All species where they are not the elements of `topology.pdb`, else the distinct ones only."""
    elements = [None if atom.element is None else atom.element.symbol for atom in topology.atoms()]
    return sorted(set(species)) if list(species) == elements else list(species)


def _cell(system: mm.System, topology: app.Topology) -> FloatArray | None:
    box = topology.getPeriodicBoxVectors()
    if not system.usesPeriodicBoundaryConditions():
        if box is not None:
            raise DualityError("the topology has a cell, but no force of the system is periodic; make them agree")
        return None
    cell = np.array([vector.value_in_unit(unit.nanometer) for vector in system.getDefaultPeriodicBoxVectors()])
    if box is None or not np.allclose(cell, np.array(box.value_in_unit(unit.nanometer)), atol=1e-6):
        raise DualityError(
            f"the system has the cell {cell.tolist()} nm and the topology {box}; set the same one in both"
        )
    return cell


def _velocities(
    integrator: LearningIntegrator, masses: FloatArray, dof: int, temperature: Any, velocities: Any, seed: int
) -> tuple[FloatArray, float | None]:
    """Initial velocities, and the temperature of the run, which is None for descent."""
    target = integrator.getTemperature()
    initial = target if temperature is None else bare(temperature, unit.kelvin, "temperature")
    descends = integrator.ensemble == "descent"
    if velocities is not None:
        given = _array(velocities, unit.nanometer / unit.picosecond, "velocities", len(masses))
        kinetic = 0.5 * float(masses @ (given**2).sum(axis=1))
        return given, target or (None if descends else 2 * kinetic / (dof * BOLTZMANN))
    if initial is None:
        if not descends:
            raise DualityError(
                f"{type(integrator).__name__} has no heat bath: give the temperature of the initial velocities, or "
                "the velocities themselves"
            )
        return np.zeros((len(masses), 3)), None
    if initial < 0:
        raise DualityError(f"temperature: expected at least 0 K, got {initial}")
    return thermal_velocities(masses, initial, seed), initial if target is None and not descends else target


def _seed(system: mm.System, integrator: LearningIntegrator, seed: int) -> None:
    for part in (integrator, *system.getForces()):
        if hasattr(part, "setRandomNumberSeed"):
            part.setRandomNumberSeed(seed)


def _result(directory: Path, settings: Mapping[str, Any], resumed_from: int) -> RunResult:
    done, recorded = settings["steps_done"], {name: settings[name] for name in ("status", "reason", "ms_per_step")}
    recorded |= {name: settings.get(name, 0) for name in ("alarms", "exchanged_bonds", "unknown_bonds")}
    recorded["checks"] = count_checks(settings)
    return RunResult(directory, steps_done=done, resumed_from=min(resumed_from, done), **recorded)
