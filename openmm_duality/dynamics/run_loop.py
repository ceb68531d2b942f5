"""The loop of a run: step, check, write; and again from where it was killed."""

from __future__ import annotations

import math
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openmm as mm
from openmm import app, unit
from tqdm import tqdm

from openmm_duality.dynamics.checkpoint import Checkpoint, read_checkpoint, rewind, write_checkpoint
from openmm_duality.dynamics.integrity import Integrity, IntegrityReport
from openmm_duality.dynamics.monitoring import WATCHED, Sighting, Watcher, WatchLog, alarms
from openmm_duality.dynamics.record import write_record
from openmm_duality.dynamics.reporters import RunLog, VelocityDCDReporter
from openmm_duality.errors import DualityError
from openmm_duality.files import atomic_write
from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.geometry.cells import volume
from openmm_duality.units import BOLTZMANN

CHECKPOINT = "checkpoint.chk"
TRAJECTORY, VELOCITIES, LOG = "trajectory.dcd", "velocities.dcd", "log.csv"
OF_A_STOP = ("last_good.chk", "last_good.pdb", "stopped.pdb")

_RAISED = re.compile(r"^(?:\w+: )*?(?:\w*(?:Error|Exception): )+(.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Moment:
    """What is looked at, and perhaps written, at one step.

    Parameters
    ----------
    state : openmm.State
        Positions, velocities and energies.
    cell : array, shape (3, 3), or None
        In nm.
    potential, kinetic, temperature : float
        In kJ/mol and K.
    integrity : IntegrityReport
        Of the positions.
    """

    state: mm.State
    cell: FloatArray | None
    potential: float
    kinetic: float
    temperature: float
    integrity: IntegrityReport


class Journey:
    """A run in its folder.

    Parameters
    ----------
    simulation : openmm.app.Simulation
        With a `LearningIntegrator`.
    watch : Integrity
        Looks at every moment that is reported.
    directory : path
        Of the run.
    settings : dict
        The record of the run; kept up to date and written to `run.json`.
    allow_broken : bool
        Whether molecules may break.
    guard : Watcher, optional
        Asked every so many steps whether the model still knows where the run is.
    """

    def __init__(
        self,
        simulation: app.Simulation,
        watch: Integrity,
        directory: Path,
        settings: dict[str, Any],
        allow_broken: bool,
        guard: Watcher | None = None,
    ) -> None:
        self._simulation, self._watch, self._directory = simulation, watch, directory
        self.settings, self._allow_broken, self._guard = settings, allow_broken, guard
        self._sighting: tuple[int, Sighting] | None = None
        velocities = (VELOCITIES,) if settings["save_velocities"] else ()
        self._growing = (TRAJECTORY, LOG, *velocities, *WATCHED)
        self._seconds = 0.0
        self._good: tuple[Checkpoint, mm.State] | None = None

    @property
    def step(self) -> int:
        """Number of steps done."""
        return int(self._simulation.context.getStepCount())

    def begin(self, positions: FloatArray, velocities: FloatArray) -> None:
        """Start from a structure, shape (N, 3) in nm, and velocities, shape (N, 3) in nm/ps."""
        write_record(self._directory, self.settings)
        rewind(self._directory, dict.fromkeys(self._growing, 0))
        context = self._simulation.context
        context.setPositions(positions)
        context.setVelocities(velocities)
        with atomic_write(self._directory / "topology.pdb", overwrite=True) as temporary:
            self._write_pdb(temporary, context.getState(positions=True))
        self._open(fresh=True)

    def resume(self) -> None:
        """Start from the checkpoint in the folder.

        Raises
        ------
        DualityError
            If the checkpoint cannot be read or loaded, or frames are lost.
        """
        checkpoint = read_checkpoint(self._directory / CHECKPOINT)
        try:
            self._simulation.context.loadCheckpoint(checkpoint.state)
        except (mm.OpenMMException, ValueError) as error:
            raise DualityError(
                f"{self._directory / CHECKPOINT} cannot be loaded: {error}. It must be resumed on the machine, "
                f"platform and version of OpenMM that wrote it ({self.settings['versions'].get('openmm')} here)"
            ) from error
        rewind(self._directory, {**dict.fromkeys(self._growing, 0), **checkpoint.sizes})
        self._seconds = checkpoint.seconds
        self._open(fresh=checkpoint.sizes[LOG] == 0)

    def go(self, steps: int, progress: bool) -> dict[str, Any]:
        """Run until `steps` are done in all, or the run stops itself; gives the final record."""
        report = self.settings["report_interval"]
        self._progress(status="running")
        bar = tqdm(
            total=steps, initial=min(self.step, steps), unit="step", disable=None if progress else True, mininterval=0.5
        )
        try:
            moment, reason = self._look_aside()
            if not reason and self.step == 0:
                reason = self._guarded()
                self._good = None if reason else self._good
            while not reason and self.step < steps:
                before, good, clock = self.step, self._good, time.perf_counter()
                error = self._advance(self._pause(before, steps) - before)
                due = self.step % report == 0
                if error or due:
                    moment, reason = self._look(error)
                elif self.step == steps:
                    moment, reason = self._look_aside()
                if not reason and self._guard is not None and self.step % self._guard.interval == 0:
                    reason = self._guarded()
                    if reason and not due:
                        moment, _ = self._look_aside()
                    if reason:
                        self._good = good  # this moment is none to go back to
                if not reason and due:
                    self._report(moment)
                self._seconds += time.perf_counter() - clock
                bar.update(self.step - before)
                bar.set_postfix_str(self._postfix(moment), refresh=False)
                if not reason and self.step % self.settings["checkpoint_interval"] == 0:
                    self._save()
        finally:
            bar.close()
        if reason:
            self._stop(moment, reason)
        else:
            self._save()
            with atomic_write(self._directory / "final.pdb", overwrite=True) as temporary:
                self._write_pdb(temporary, moment.state)
            for name in OF_A_STOP:  # of an earlier call, with other limits
                (self._directory / name).unlink(missing_ok=True)
            self._progress(status="finished")
        self._log.close()
        return self.settings

    def _pause(self, step: int, last: int) -> int:
        """The step at which there is something to do next."""
        intervals: list[int] = [
            self.settings["report_interval"],
            *([] if self._guard is None else [self._guard.interval]),
        ]
        return min(last, *((step // interval + 1) * interval for interval in intervals))

    def _guarded(self) -> str:
        """Ask the guard; gives why the run must stop, if it must: also where there is nothing the guard can look at."""
        if self._guard is None:
            return ""
        positions, cell = self._present(self._simulation.context.getState(positions=True))
        try:
            sighting = self._guard.look(positions, cell)
        except DualityError as error:
            return f"the guard: {error}"
        self._sighting = (self.step, sighting)
        self._watched.write(self.step, self._time(), sighting, positions, cell)
        return f"the guard: {'; '.join(sighting.alarms)}" if self._guard.action == "stop" and sighting.alarms else ""

    def _present(self, state: mm.State) -> tuple[FloatArray, FloatArray | None]:
        """Positions (N, 3) and cell in nm."""
        positions = np.asarray(state.getPositions(asNumpy=True).value_in_unit(unit.nanometer))
        if self.settings["cell_nm"] is None:
            return positions, None
        return positions, np.asarray(state.getPeriodicBoxVectors(asNumpy=True).value_in_unit(unit.nanometer))

    def _advance(self, n: int) -> str:
        """Step; gives what OpenMM complained of, if it did."""
        try:
            self._simulation.step(n)
        except mm.OpenMMException as error:
            return _complaint(error)
        return ""

    def _look_aside(self) -> tuple[Moment, str]:
        """The present moment, seen without a trace.

        On the Reference and CPU platforms a `CustomIntegrator` draws random numbers when it is asked for the kinetic
        energy, so a look that an uninterrupted run would not take must be undone.
        """
        context = self._simulation.context
        before = context.createCheckpoint()
        seen = self._look()
        context.loadCheckpoint(before)
        return seen

    def _look(self, error: str = "") -> tuple[Moment, str]:
        """The present moment, and why the run must stop, if it must."""
        context = self._simulation.context
        try:
            state = context.getState(positions=True, velocities=True, energy=not error)
        except mm.OpenMMException as broken:
            error = _complaint(broken)
            state = context.getState(positions=True, velocities=True)
        positions, cell = self._present(state)
        integrity = self._watch.check(positions, cell)
        if error:
            return Moment(state, cell, math.nan, math.nan, math.nan, integrity), f"OpenMM gave up: {error}"
        potential, kinetic = (
            float(energy.value_in_unit(unit.kilojoule_per_mole))
            for energy in (state.getPotentialEnergy(), state.getKineticEnergy())
        )
        temperature = 2 * kinetic / (self.settings["degrees_of_freedom"] * BOLTZMANN)
        moment = Moment(state, cell, potential, kinetic, temperature, integrity)
        reason = "; ".join([*integrity.failures(self._allow_broken), *self._energetic_failures(moment)])
        if not reason:
            self._good = (self._checkpoint(), state)
        return moment, reason

    def _energetic_failures(self, moment: Moment) -> list[str]:
        limit = self.settings["limits"]["max_temperature"]
        if not math.isfinite(moment.potential) or not math.isfinite(moment.kinetic):
            return ["the energy is not a finite number"]
        if limit is not None and moment.temperature > limit:
            return [f"the temperature ran away to {moment.temperature:.0f} K, above {limit:.0f} K"]
        return []

    def _report(self, moment: Moment) -> None:
        for reporter in self._reporters:
            reporter.report(self._simulation, moment.state)
        self._log.write(
            self.step,
            self._time(),
            (
                moment.potential,
                moment.kinetic,
                self._simulation.integrator.conservedFrom(moment.potential + moment.kinetic),
            ),
            moment.temperature,
            None if moment.cell is None else volume(moment.cell),
            moment.integrity,
            self._uncertainty(),
        )

    def _uncertainty(self) -> FloatArray | None:
        """Of the forces at this step, if the guard was asked."""
        return self._sighting[1].uncertainty if self._sighting and self._sighting[0] == self.step else None

    def _stop(self, moment: Moment, reason: str) -> None:
        if self._good is not None:
            checkpoint, state = self._good
            write_checkpoint(self._directory / "last_good.chk", checkpoint)
            with atomic_write(self._directory / "last_good.pdb", overwrite=True) as temporary:
                self._write_pdb(temporary, state)
            reason += f" (last good state: step {checkpoint.step}, last_good.pdb)"
        if moment.integrity.finite:
            with atomic_write(self._directory / "stopped.pdb", overwrite=True) as temporary:
                self._write_pdb(temporary, moment.state)
        self._progress(status="stopped", reason=reason)

    def _save(self) -> None:
        write_checkpoint(self._directory / CHECKPOINT, self._checkpoint())
        self._progress(status="running")

    def _checkpoint(self) -> Checkpoint:
        files = {name: self._directory / name for name in self._growing}
        sizes = {name: path.stat().st_size if path.exists() else 0 for name, path in files.items()}
        return Checkpoint(self._simulation.context.createCheckpoint(), self.step, sizes, self._seconds)

    def _progress(self, status: str, reason: str = "") -> None:
        done = self.step
        spent = 1e3 * self._seconds / done if done else 0.0
        self.settings["alarms"] = alarms(self._directory)
        self.settings.update(status=status, reason=reason, steps_done=done, time_ps=self._time(), ms_per_step=spent)
        write_record(self._directory, self.settings)

    def _postfix(self, moment: Moment) -> str:
        speed = 86.4 * self._time() / self._seconds if self._seconds else 0.0
        return f"{speed:.3g} ns/day, {moment.temperature:.0f} K"

    def _time(self) -> float:
        return float(self.step * self.settings["timestep"])

    def _open(self, fresh: bool) -> None:
        self._reporters = []
        for name, kind in ((TRAJECTORY, app.DCDReporter), (VELOCITIES, VelocityDCDReporter)):
            if name in self._growing:
                path = self._directory / name
                append = path.exists()
                reporter = kind(str(path), self.settings["report_interval"], append=append, enforcePeriodicBox=False)
                self._reporters.append(reporter)
        self._log = RunLog(self._directory / LOG, self._watch.pairs, append=not fresh)
        if self._guard is not None:
            self._watched = WatchLog(self._directory, self._watch.species, self._guard)

    def _write_pdb(self, path: Path, state: mm.State) -> None:
        box = self._simulation.topology.getPeriodicBoxVectors()
        try:
            if box is not None:
                self._simulation.topology.setPeriodicBoxVectors(state.getPeriodicBoxVectors())
            with open(path, "w") as handle:
                app.PDBFile.writeFile(self._simulation.topology, state.getPositions(), handle, keepIds=True)
        finally:
            self._simulation.topology.setPeriodicBoxVectors(box)


def _complaint(error: Exception) -> str:
    """What went wrong, in one line: the last error that the traceback of a learned force names, where there is one."""
    raised = _RAISED.findall(str(error))
    return raised[-1] if raised else " ".join(str(error).split())
