"""Dynamics by CP2K that samples configurations: resumed from CP2K's own restart files wherever it was killed."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from openmm import unit

from openmm_duality.cp2k.engine import converged
from openmm_duality.cp2k.inputs import Job, femtoseconds, project_input, section, start_files
from openmm_duality.cp2k.parts import (
    Part,
    close_part,
    closed_parts,
    collect,
    complete_blocks,
    complete_rows,
    counter,
    new_part,
    run_part,
)
from openmm_duality.cp2k.structures import Structure, read_structure
from openmm_duality.errors import DualityError
from openmm_duality.progress import progress_bar
from openmm_duality.reference.cp2k_input import read_input
from openmm_duality.reference.cp2k_stress import printed_stresses
from openmm_duality.reference.frames import Frames
from openmm_duality.schema import boolean, integer, key, one_of, quantity

_RESTART = "start.restart"
_ENERGY_COLUMNS = 7


@dataclass(frozen=True)
class Sampling:
    """The task ``md``: molecular dynamics by CP2K.

    Parameters
    ----------
    start : Structure
        Or a path, or the name of an earlier task, whose last frame it is then.
    steps : int
        A multiple of `write_every`.
    ensemble : str
        ``NVT`` (CSVR) or ``NVE``.
    temperature : float
        In K; under NVE of the first velocities.
    timestep : float
        In ps.
    write_every : int
        Steps between frames.
    time_constant : float
        Of the heat bath, in ps.
    bath : str
        ``global``, one for all atoms, or ``massive``, one for every degree of freedom: stiff molecules take very long
        to equilibrate with the liquid, so use it to equilibrate, and start production from the last frame.
    discard : float
        Time at the beginning that the frames leave out, in ps.
    velocities : bool
        Whether to write them too.
    """

    start: Structure = field(metadata=key(lambda value, name: read_structure(value)))
    steps: int = field(metadata=key(integer(1)))
    ensemble: str = field(metadata=key(one_of("NVT", "NVE")), default="NVT")
    temperature: float = field(metadata=key(quantity(unit.kelvin)), default=300.0)
    timestep: float = field(metadata=key(quantity(unit.picosecond)), default=0.0005)
    write_every: int = field(metadata=key(integer(1)), default=40)
    time_constant: float = field(metadata=key(quantity(unit.picosecond)), default=0.1)
    bath: str = field(metadata=key(one_of("global", "massive")), default="global")
    discard: float = field(metadata=key(quantity(unit.picosecond, positive=False)), default=0.0)
    velocities: bool = field(metadata=key(boolean), default=False)

    def __post_init__(self) -> None:
        if self.steps % self.write_every:
            raise DualityError(f"md: steps ({self.steps}) must be a multiple of write_every ({self.write_every})")
        if not 0.0 <= self.discard < self.steps * self.timestep:
            raise DualityError(f"md: discard {self.discard:g} ps leaves nothing of {self.steps * self.timestep:g} ps")


def sample(job: Job, task: Sampling, start: Frames) -> list[str]:
    """Run the dynamics to its end, resuming where it stopped, and collect its frames.

    Parameters
    ----------
    job : Job
    task : Sampling
    start : Frames
        One frame, with a cell.

    Returns
    -------
    list of str
        What was left out: frames whose self-consistent field had not converged.

    Raises
    ------
    DualityError
        If CP2K fails.
    """
    _close(job, task)
    with progress_bar(task.steps, job.name, show=job.progress, unit="step") as bar:
        while (done := _reached(job)) < task.steps:
            folder = new_part(job.folder, _files(job, task, start, done))
            run_part(job, folder, bar, done, counter(folder / f"{job.name}-1.ener", b"\n", skip=2))
            if not _close(job, task, drop=False):
                raise DualityError(f"{folder}: CP2K ran to its end and left no restart file; see {job.name}.out there")
    return _collect(job, task, start)


def _reached(job: Job) -> int:
    parts = closed_parts(job.folder)
    return int(parts[-1].record["last"]) if parts else 0


def _files(job: Job, task: Sampling, start: Frames, done: int) -> dict[str, str | Path]:
    files: dict[str, str | Path] = {
        **start_files(job, start),
        job.input: _input(job, task, start, done),
    }
    if done:
        last = closed_parts(job.folder)[-1]
        files[_RESTART] = last.folder / last.record["restart"]
    return files


def _input(job: Job, task: Sampling, start: Frames, done: int) -> str:
    """The input of the steps that are not done yet, from the restart file where some are."""
    bath = section(
        "THERMOSTAT",
        f"REGION {task.bath.upper()}",
        "TYPE CSVR",
        *section("CSVR", f"TIMECON {femtoseconds(task.time_constant)}"),
    )
    each = section("EACH", f"MD {task.write_every}")
    dynamics = section(
        "MD",
        f"ENSEMBLE {task.ensemble}",
        f"STEPS {task.steps - done}",
        f"TIMESTEP {femtoseconds(task.timestep)}",
        f"TEMPERATURE {task.temperature}",
        *(bath if task.ensemble == "NVT" else []),
        # at every step, it takes a third of the time of a small classical system
        *section("PRINT", *section("PROGRAM_RUN_INFO", *each)),
    )
    printed = [
        *section("TRAJECTORY", "FORMAT XYZ", *each),
        *section("FORCES", "FORMAT XYZ", *each),
        *(section("VELOCITIES", "FORMAT XYZ", *each) if task.velocities else section("VELOCITIES OFF")),
        *section("RESTART", "BACKUP_COPIES 1", *each),
        *section("RESTART_HISTORY OFF"),
    ]
    restart = section("EXT_RESTART", f"RESTART_FILE_NAME {_RESTART}") if done else []
    motion = [*dynamics, *section("PRINT", *printed)]
    return project_input(job, start, motion, restart, dynamics=True, every=task.write_every)


def _close(job: Job, task: Sampling, drop: bool = True) -> bool:
    return close_part(job.folder, lambda folder: _record(job, task, folder), drop)


def _record(job: Job, task: Sampling, folder: Path) -> dict[str, Any] | None:
    """Count the steps of a part up to its newest restart file before which every file is complete, if there is one."""
    first = _reached(job)
    names = ["pos", "frc", *(["vel"] if task.velocities else [])]
    written = [{block.step for block in complete_blocks(folder / f"{job.name}-{kind}-1.xyz")} for kind in names]
    energies = {int(row.split()[0]) for row in complete_rows(folder / f"{job.name}-1.ener", _ENERGY_COLUMNS)}
    output = folder / f"{job.name}.out"
    scf = converged(output)
    n_stresses = len(printed_stresses(output)[0]) if job.stress and output.is_file() else 0
    for name in (f"{job.name}-1.restart", f"{job.name}-1.restart.bak-1"):
        last = _step_of(folder / name)
        if last is None or last <= first:
            continue
        expected = set(range(first + task.write_every if first else 0, last + 1, task.write_every))
        complete = all(expected <= steps for steps in (*written, energies))
        complete &= not job.stress or n_stresses > (last - first) // task.write_every
        if complete and (not job.method.iterates or len(scf) > last - first):
            # the first evaluation of a part is that of the step it starts from
            failed = [first + n for n, good in enumerate(scf[: last - first + 1]) if not good]
            return {"first": first, "last": last, "restart": name, "unconverged": failed}
    return None


def _step_of(restart: Path) -> int | None:
    """The step from which a restart file starts, or None where it is missing or cut short."""
    try:
        read_input(restart)  # refuses a file whose sections are not closed
        words = restart.read_text().split()
        return int(words[words.index("STEP_START_VAL") + 1])
    except (DualityError, OSError, ValueError, IndexError):
        return None


def _collect(job: Job, task: Sampling, start: Frames) -> list[str]:
    skipped = round(task.discard / task.timestep)
    failed = {step for part in closed_parts(job.folder) for step in part.record["unconverged"]}

    def selection(part: Part, _: int, step: int) -> int | None:
        after = part.record["first"] or -1
        counts = after < step <= part.record["last"] and step >= skipped and step not in failed
        return step if counts else None

    collect(job, selection, _input(job, task, start, 0), {"-1.ener": _ENERGY_COLUMNS})
    frames = [step for step in sorted(failed) if step % task.write_every == 0 and step >= skipped]
    others = len(failed) - len(frames)
    if others:
        warnings.warn(
            f"{job.name}: the self-consistent field did not converge at {others} of {task.steps} steps between frames",
            stacklevel=2,
        )
    return [f"{job.name}: the frame of step {step}, unconverged" for step in frames]
