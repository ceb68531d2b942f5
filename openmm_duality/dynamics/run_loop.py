"""The loop of a run: step, check and write, from a start or from a checkpoint."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openmm as mm
from openmm import app, unit

from openmm_duality.dynamics.barostats import barostat_of, current_pressure
from openmm_duality.dynamics.checkpoint import (
    NOTHING,
    Checkpoint,
    GrowingFile,
    load_checkpoint,
    measured,
    read_checkpoint,
    rewind,
    write_checkpoint,
)
from openmm_duality.dynamics.integrity import Integrity, IntegrityReport
from openmm_duality.dynamics.interruption import end_by, noted_signals
from openmm_duality.dynamics.monitoring import MONITOR_FILES, MonitorLog, Reading, RunMonitor, count_alarms
from openmm_duality.dynamics.record import write_record
from openmm_duality.dynamics.reporters import RunLog, VelocityDCDReporter
from openmm_duality.errors import DualityError
from openmm_duality.files import atomic_write
from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.geometry.cells import volume
from openmm_duality.lowering.list_origins import save_lists
from openmm_duality.progress import progress_bar
from openmm_duality.units import BOLTZMANN, masses_of

CHECKPOINT = "checkpoint.chk"
TRAJECTORY, VELOCITIES, LOG = "trajectory.dcd", "velocities.dcd", "log.csv"
STOP_FILES = ("last_good.chk", "last_good.pdb", "stopped.cif")
_EARLY = 1000  # steps, in which the potential energy of a start is released
_PRESSURE_CHECKS = 20  # checks of the monitor for one of the pressure, which costs the virials of all members

_RAISED = re.compile(r"^(?:\w+: )*?(?:\w*(?:Error|Exception): )+(.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Snapshot:
    """State, energies and integrity of a run at one step.

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


class RunLoop:
    """A run in its folder.

    Parameters
    ----------
    simulation : openmm.app.Simulation
        With a `LearningIntegrator`.
    integrity : Integrity
        Checks every configuration that is reported.
    directory : path
        Of the run.
    settings : dict
        The record of the run; kept up to date and written to `run.json`.
    allow_broken : bool
        Whether molecules may break.
    monitor : RunMonitor, optional
        Checks at its own interval whether the configuration is inside the training distribution.
    """

    def __init__(
        self,
        simulation: app.Simulation,
        integrity: Integrity,
        directory: Path,
        settings: dict[str, Any],
        allow_broken: bool,
        monitor: RunMonitor | None = None,
    ) -> None:
        self._simulation, self._integrity, self._directory = simulation, integrity, directory
        self.settings, self._allow_broken, self._monitor = settings, allow_broken, monitor
        self._reading: tuple[int, Reading] | None = None
        system, species = simulation.system, np.array(integrity.species)
        self._masses = masses_of(system)
        self._barostat = barostat_of(system)
        self._massive_atoms = {name: (self._masses > 0.0) & (species == name) for name in set(integrity.species)}
        velocities = (VELOCITIES,) if settings["save_velocities"] else ()
        self._growing = (TRAJECTORY, LOG, *velocities, *MONITOR_FILES)
        self._files: dict[str, GrowingFile] = dict.fromkeys(self._growing, NOTHING)
        self._seconds = 0.0
        self._last_good: tuple[Checkpoint, mm.State] | None = None

    @property
    def step(self) -> int:
        """Number of steps done."""
        return int(self._simulation.context.getStepCount())

    def begin(self, velocities: FloatArray) -> None:
        """Start from the positions in the context, and velocities, shape (N, 3) in nm/ps."""
        write_record(self._directory, self.settings)
        rewind(self._directory, dict.fromkeys(self._growing, NOTHING))
        context = self._simulation.context
        context.setVelocities(velocities)
        self._write("topology.pdb", context.getState(positions=True))
        self._open(fresh=True)

    def resume(self) -> None:
        """Start from the checkpoint in the folder.

        Raises
        ------
        DualityError
            If the checkpoint cannot be read or loaded, or frames are lost.
        """
        checkpoint = read_checkpoint(self._directory / CHECKPOINT, self._growing)
        try:
            load_checkpoint(self._simulation.context, checkpoint, str(self._directory / CHECKPOINT))
        except (mm.OpenMMException, ValueError) as error:
            raise DualityError(
                f"{self._directory / CHECKPOINT} cannot be loaded: {error}. It must be resumed on the machine, "
                f"platform and version of OpenMM that wrote it ({self.settings['versions'].get('openmm')} here)"
            ) from error
        self._files = {**dict.fromkeys(self._growing, NOTHING), **checkpoint.files}
        rewind(self._directory, self._files)
        self._seconds = checkpoint.seconds
        self._open(fresh=self._files[LOG].size == 0)

    def run(self, steps: int, progress: bool) -> dict[str, Any]:
        """Run until `steps` are done in all, or the run stops itself; gives the final record.

        Ctrl-C or SIGTERM end it after the step in progress, with a checkpoint from which it resumes.

        Raises
        ------
        KeyboardInterrupt, SystemExit
            After a signal, once everything is written.
        """
        report = self.settings["report_interval"]
        self._update_record(status="running")
        bar = progress_bar(steps, "run", show=progress, unit="step", initial=min(self.step, steps))
        with noted_signals() as signals, bar:
            snapshot, reason = self._peek()
            if not reason and self.step == 0:
                reason = self._check_monitor()
                self._last_good = None if reason else self._last_good
            while not reason and not signals and self.step < steps:
                before, last_good, clock = self.step, self._last_good, time.perf_counter()
                error = self._advance(self._next_stop(before, steps) - before, signals)
                due = self.step % report == 0
                if error or due:
                    snapshot, reason = self._snapshot(error)
                elif self.step == steps:
                    snapshot, reason = self._peek()
                if not reason and self._monitor is not None and self.step % self._monitor.interval == 0:
                    reason = self._check_monitor()
                    if reason and not due:
                        snapshot, _ = self._peek()
                    if reason:
                        self._last_good = last_good  # this step is not one to restart from
                if not reason and due:
                    self._report(snapshot)
                self._seconds += time.perf_counter() - clock
                bar.update(self.step - before)
                bar.set_postfix_str(self._postfix(snapshot), refresh=False)
                if not reason and self.step % self.settings["checkpoint_interval"] == 0:
                    self._save()
            self._end(snapshot, reason, steps)
        self._log.close()
        if signals:
            end_by(signals[0])
        return self.settings

    def _end(self, snapshot: Snapshot, reason: str, steps: int) -> None:
        """Write how the run ended: it stopped itself, was interrupted, or is finished."""
        if reason:
            self._stop(snapshot, reason)
            return
        self._save()
        if self.step < steps:
            self._update_record(status="interrupted", reason=f"a signal ended the process after step {self.step}")
            return
        self._write("final.pdb", snapshot.state)
        for name in STOP_FILES:  # of an earlier call, with other limits
            (self._directory / name).unlink(missing_ok=True)
        self._update_record(status="finished")

    def _next_stop(self, step: int, last: int) -> int:
        """The next step with a report or a check."""
        checks = [] if self._monitor is None else [self._monitor.interval]
        intervals = [int(self.settings["report_interval"]), *checks]
        return min(last, *((step // interval + 1) * interval for interval in intervals))

    def _check_monitor(self) -> str:
        """The reason why the monitor stops the run, if it does: an alarm, or a configuration it cannot check."""
        if self._monitor is None:
            return ""
        positions, cell = self._positions_and_cell(self._simulation.context.getState(positions=True))
        try:
            reading = self._monitor.check(positions, cell)
        except DualityError as error:
            return f"the monitor: {error}"
        self._reading = (self.step, reading)
        self._monitor_log.write(self.step, self._time(), reading, positions, cell)
        return f"the monitor: {'; '.join(reading.alarms)}" if self._monitor.action == "stop" and reading.alarms else ""

    def _positions_and_cell(self, state: mm.State) -> tuple[FloatArray, FloatArray | None]:
        """Positions (N, 3) and cell in nm."""
        positions = np.asarray(state.getPositions(asNumpy=True).value_in_unit(unit.nanometer))
        if self.settings["cell_nm"] is None:
            return positions, None
        return positions, np.asarray(state.getPeriodicBoxVectors(asNumpy=True).value_in_unit(unit.nanometer))

    def _advance(self, n: int, signals: Sequence[int]) -> str:
        """Make n steps, fewer if a signal comes; gives the error of OpenMM, if there was one."""
        try:
            for _ in range(n):
                self._simulation.integrator.step(1)
                if signals:
                    break
        except mm.OpenMMException as error:
            return _error_line(error)
        return ""

    def _peek(self) -> tuple[Snapshot, str]:
        """A snapshot that leaves the state of the context as it was.

        On the Reference and CPU platforms a `CustomIntegrator` draws random numbers when it is asked for the kinetic
        energy, so the effect of a snapshot that an uninterrupted run would not take must be undone.
        """
        context = self._simulation.context
        before = context.createCheckpoint()
        result = self._snapshot()
        context.loadCheckpoint(before)
        return result

    def _snapshot(self, error: str = "") -> tuple[Snapshot, str]:
        """A snapshot of this step, and the reason why the run must stop, if it must."""
        context = self._simulation.context
        try:
            state = context.getState(positions=True, velocities=True, energy=not error)
        except mm.OpenMMException as broken:
            error = _error_line(broken)
            state = context.getState(positions=True, velocities=True)
        positions, cell = self._positions_and_cell(state)
        integrity = self._integrity.check(positions, cell)
        if error:
            return Snapshot(state, cell, math.nan, math.nan, math.nan, integrity), f"OpenMM failed: {error}"
        potential, kinetic = (
            float(energy.value_in_unit(unit.kilojoule_per_mole))
            for energy in (state.getPotentialEnergy(), state.getKineticEnergy())
        )
        temperature = 2 * kinetic / (self.settings["degrees_of_freedom"] * BOLTZMANN)
        snapshot = Snapshot(state, cell, potential, kinetic, temperature, integrity)
        reason = "; ".join([*integrity.failures(self._allow_broken), *self._energy_failures(snapshot)])
        self.settings.update(exchanged_bonds=integrity.exchanged_bonds, unknown_bonds=integrity.unknown_bonds)
        if not reason:
            self._last_good = (self._checkpoint(), state)
        return snapshot, reason

    def _energy_failures(self, snapshot: Snapshot) -> list[str]:
        limit = self.settings["limits"]["max_temperature"]
        if not math.isfinite(snapshot.potential) or not math.isfinite(snapshot.kinetic):
            return ["the energy is not a finite number"]
        if limit is not None and snapshot.temperature > limit:
            early = self.step <= _EARLY and not self.settings.get("minimized") and not count_alarms(self._directory)
            hint = "; the start may need --minimize, or the run a shorter time step" if early else ""
            k = int(self._twice_kinetic(snapshot.state).argmax())
            which = f"(the atom with the most kinetic energy is {self._integrity.species[k]} {k + 1})"
            return [f"the temperature ran away to {snapshot.temperature:.0f} K, above {limit:.0f} K {which}{hint}"]
        return []

    def _report(self, snapshot: Snapshot) -> None:
        for reporter in self._reporters:
            reporter.report(self._simulation, snapshot.state)
        energies = (snapshot.potential, snapshot.kinetic)
        self._log.write(
            self.step,
            self._time(),
            (*energies, self._simulation.integrator.conservedFrom(*energies)),
            snapshot.temperature,
            self._species_temperatures(snapshot.state),
            None if snapshot.cell is None else volume(snapshot.cell),
            None if self._barostat is None else current_pressure(self._simulation.context, self._barostat),
            snapshot.integrity,
            self._reading[1].uncertainty if self._reading and self._reading[0] == self.step else None,
            self._pressure_uncertainty(snapshot),
        )

    def _pressure_uncertainty(self, snapshot: Snapshot) -> float | None:
        """Of a run at constant pressure, at every twentieth check of the monitor, or the first report after it."""
        if self._monitor is None or self._barostat is None or snapshot.cell is None:
            return None
        interval = _PRESSURE_CHECKS * self._monitor.interval
        if self.step // interval == (self.step - self.settings["report_interval"]) // interval:
            return None
        return self._monitor.pressure_uncertainty(self._positions_and_cell(snapshot.state)[0], snapshot.cell)

    def _species_temperatures(self, state: mm.State) -> dict[str, float]:
        """Temperature of each species in K.

        Of the degrees of freedom that are removed with the motion of the centre of mass, an atom has a share in
        proportion to its mass: ⟨m v²⟩ = 3 kT (1 − m/M).
        """
        twice_kinetic = self._twice_kinetic(state)
        removed = 3 * int((self._masses > 0.0).sum()) - self.settings["degrees_of_freedom"]
        freedom = 3.0 - removed * self._masses / self._masses.sum()
        return {
            name: float(twice_kinetic[mine].sum() / (BOLTZMANN * share)) if (share := freedom[mine].sum()) else math.nan
            for name, mine in self._massive_atoms.items()
        }

    def _twice_kinetic(self, state: mm.State) -> FloatArray:
        velocities = state.getVelocities(asNumpy=True).value_in_unit(unit.nanometer / unit.picosecond)
        return np.asarray(self._masses * np.square(velocities).sum(axis=1))

    def _stop(self, snapshot: Snapshot, reason: str) -> None:
        if self._last_good is not None:
            checkpoint, state = self._last_good
            write_checkpoint(self._directory / "last_good.chk", checkpoint)
            self._write("last_good.pdb", state)
            reason += f" (last good state: step {checkpoint.step}, last_good.pdb)"
        if snapshot.integrity.finite:
            self._write("stopped.cif", snapshot.state, app.PDBxFile)  # columns of a PDB file hold up to 1e6 nm
        self._update_record(status="stopped", reason=reason)

    def _save(self) -> None:
        write_checkpoint(self._directory / CHECKPOINT, self._checkpoint())
        self._update_record(status="running")

    def _checkpoint(self) -> Checkpoint:
        self._files = {name: measured(self._directory / name, before) for name, before in self._files.items()}
        state, lists = self._simulation.context.createCheckpoint(), save_lists(self._simulation.system)
        return Checkpoint(self.step, self._files, self._seconds, lists=lists, state=state)

    def _update_record(self, status: str, reason: str = "") -> None:
        done = self.step
        ms_per_step = 1e3 * self._seconds / done if done else 0.0
        self.settings.update(status=status, reason=reason, steps_done=done, time_ps=self._time())
        self.settings.update(ms_per_step=ms_per_step, alarms=count_alarms(self._directory))
        write_record(self._directory, self.settings)

    def _postfix(self, snapshot: Snapshot) -> str:
        speed = 86.4 * self._time() / self._seconds if self._seconds else 0.0
        return f"{speed:.3g} ns/day, {snapshot.temperature:.0f} K"

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
        species = sorted(set(self._integrity.species))
        self._log = RunLog(self._directory / LOG, species, self._integrity.pairs, append=not fresh)
        if self._monitor is not None:
            self._monitor_log = MonitorLog(self._directory, self._integrity.species, self._monitor)

    def _write(self, name: str, state: mm.State, file_type: Any = app.PDBFile) -> None:
        box = self._simulation.topology.getPeriodicBoxVectors()
        try:
            if box is not None:
                self._simulation.topology.setPeriodicBoxVectors(state.getPeriodicBoxVectors())
            with atomic_write(self._directory / name, overwrite=True) as path, open(path, "w") as handle:
                file_type.writeFile(self._simulation.topology, state.getPositions(), handle, keepIds=True)
        finally:
            self._simulation.topology.setPeriodicBoxVectors(box)


def _error_line(error: Exception) -> str:
    """The error in one line: the last one named in the traceback of a learned force, where there is one."""
    raised = _RAISED.findall(str(error))
    return raised[-1] if raised else " ".join(str(error).split())
