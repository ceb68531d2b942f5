"""Inputs of the two CP2K runs: dynamics that samples, and single points along given frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from openmm_duality.cp2k.methods import Method
from openmm_duality.cp2k.writing import cell_section, femtoseconds, section
from openmm_duality.geometry.arrays import FloatArray

START, TRAJECTORY, CELLS, RESTART = "start.xyz", "frames.xyz", "frames.cell", "start.restart"

# Without molecules CP2K generates no bonds at all.
_BONDS = ["CONNECTIVITY GENERATE", *section("GENERATE", "CREATE_MOLECULES T")]


@dataclass(frozen=True)
class Job:
    """One task, and how CP2K is started for it.

    Parameters
    ----------
    name : str
        Of the task, and of CP2K's project.
    folder : Path
        Of the task.
    method : Method
    seed : int
        Of CP2K's random numbers, and of distortions.
    processes, threads : int
        Of CP2K.
    progress : bool
        Whether to show a bar.
    """

    name: str
    folder: Path
    method: Method
    seed: int = 1
    processes: int = 1
    threads: int = 1
    progress: bool = False

    @property
    def input(self) -> str:
        """Name of the input."""
        return f"{self.name}.inp"


def md_input(
    job: Job,
    species: Sequence[str],
    cell: FloatArray,
    *,
    ensemble: str,
    temperature: float,
    timestep: float,
    time_constant: float,
    massive: bool,
    steps: int,
    write_every: int,
    velocities: bool,
    resumed: bool,
) -> str:
    """The input of dynamics; times in ps, `steps` counted from the restart file where it is resumed."""
    bath = section(
        "THERMOSTAT",
        f"REGION {'MASSIVE' if massive else 'GLOBAL'}",
        "TYPE CSVR",
        *section("CSVR", f"TIMECON {femtoseconds(time_constant)}"),
    )
    dynamics = section(
        "MD",
        f"ENSEMBLE {ensemble}",
        f"STEPS {steps}",
        f"TIMESTEP {femtoseconds(timestep)}",
        f"TEMPERATURE {temperature}",
        *(bath if ensemble == "NVT" else []),
    )
    each = section("EACH", f"MD {write_every}")
    printed = [
        *section("TRAJECTORY", "FORMAT XYZ", *each),
        *section("FORCES", "FORMAT XYZ", *each),
        *(section("VELOCITIES", "FORMAT XYZ", *each) if velocities else section("VELOCITIES OFF")),
        *section("RESTART", "BACKUP_COPIES 1", *each),
        *section("RESTART_HISTORY OFF"),
    ]
    restart = section("EXT_RESTART", f"RESTART_FILE_NAME {RESTART}") if resumed else []
    return _input(job, species, cell, [*dynamics, *section("PRINT", *printed)], restart, dynamics=True)


def single_points_input(job: Job, species: Sequence[str], cell: FloatArray, count: int) -> str:
    """The input of single points along the frames in the same folder, all in one CP2K process."""
    trajectory = section(
        "REFTRAJ",
        f"TRAJ_FILE_NAME {TRAJECTORY}",
        f"CELL_FILE_NAME {CELLS}",
        "VARIABLE_VOLUME T",
        "EVAL_ENERGY_FORCES T",
        "EVAL_FORCES T",
        "FIRST_SNAPSHOT 1",
        f"LAST_SNAPSHOT {count}",
        "STRIDE 1",
    )
    md = section("MD", "ENSEMBLE REFTRAJ", f"STEPS {count}", "TIMESTEP 1.0", *trajectory)
    each = section("EACH", "MD 1")
    printed = [
        *section("TRAJECTORY", "FORMAT XYZ", *each),
        *section("FORCES", "FORMAT XYZ", *each),
        *section("CELL", *each),
        *section("VELOCITIES OFF"),
        *section("RESTART OFF"),
        *section("RESTART_HISTORY OFF"),
    ]
    return _input(job, species, cell, [*md, *section("PRINT", *printed)], [], dynamics=False)


def _input(
    job: Job, species: Sequence[str], cell: FloatArray, motion: list[str], restart: list[str], *, dynamics: bool
) -> str:
    subsystem = section(
        "SUBSYS",
        *cell_section(cell),
        *section(
            "TOPOLOGY",
            f"COORD_FILE_NAME {START}",
            "COORD_FILE_FORMAT XYZ",
            *(_BONDS if job.method.bonded else ["CONNECTIVITY OFF"]),
        ),
        *(line for name in sorted(set(species)) for line in section(f"KIND {name}", *job.method.kind(name))),
    )
    lines = [
        *section("GLOBAL", f"PROJECT {job.name}", "RUN_TYPE MD", "PRINT_LEVEL LOW", f"SEED {job.seed}"),
        *section("FORCE_EVAL", *job.method.force_eval(species, cell, dynamics), *subsystem),
        *section("MOTION", *motion),
        *restart,
    ]
    return "\n".join(lines) + "\n"
