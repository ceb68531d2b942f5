"""A task of CP2K, and what the inputs of its two runs, dynamics and single points, have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from openmm_duality.cp2k.methods import Method
from openmm_duality.cp2k.writing import cell_section, section
from openmm_duality.geometry.arrays import FloatArray

START = "start.xyz"

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


def project_input(
    job: Job,
    species: Sequence[str],
    cell: FloatArray,
    motion: list[str],
    restart: Sequence[str] = (),
    *,
    dynamics: bool,
) -> str:
    """The input of a run, from the lines of its ``&MOTION`` and, where it is resumed, its ``&EXT_RESTART``."""
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
