"""Text of CP2K inputs and coordinate files: sections, the interface of a method, a task and the input of its runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.reference.frames import Frames
from openmm_duality.units import ANGSTROM, FEMTOSECOND

START, BONDS = "start.xyz", "bonds.psf"


def section(head: str, *body: str) -> list[str]:
    """The lines of one section; `head` is its name and, behind a space, its parameter."""
    return [f"&{head}", *(f"  {line}" for line in body), f"&END {head.split()[0]}"]


def cell_section(cell: FloatArray) -> list[str]:
    """A ``&CELL`` from rows a, b, c in nm."""
    rows = [" ".join(f"{x:.10f}" for x in row) for row in cell / ANGSTROM]
    return section("CELL", *(f"{name} {row}" for name, row in zip("ABC", rows, strict=True)))


def xyz_block(labels: Sequence[str], values: FloatArray, comment: str) -> str:
    """One block of an XYZ file, with ten decimals as CP2K writes them."""
    rows = [f"{name:>3} {x:19.10f} {y:19.10f} {z:19.10f}\n" for name, (x, y, z) in zip(labels, values, strict=True)]
    return f"{len(labels):8d}\n{comment}\n" + "".join(rows)


def cell_file(cells: FloatArray) -> str:
    """A ``.cell`` file of cells in nm, with steps from 1 on; their times are their steps, in fs."""
    columns = "   ".join(f"{a}{x} [Angstrom]" for a in "ABC" for x in "xyz")
    rows = [f"#   Step   Time [fs]   {columns}   Volume\n"]
    for step, cell in enumerate(cells / ANGSTROM, start=1):
        numbers = " ".join(f"{x:19.10f}" for x in cell.ravel())
        rows.append(f"{step:8d} {float(step):12.3f} {numbers} {abs(np.linalg.det(cell)):24.10f}\n")
    return "".join(rows)


def femtoseconds(picoseconds: float) -> str:
    """A time in ps as an input has it, in fs."""
    return f"{picoseconds / FEMTOSECOND:.10g}"


class Method(Protocol):
    """The interface of a method."""

    @property
    def iterates(self) -> bool:
        """Whether every evaluation is a self-consistent iteration, which may fail."""
        return False

    def labels(self, frame: Frames) -> tuple[str, ...]:
        """What CP2K is to call every atom of a frame: its species, or a type of the method's own."""
        return frame.species

    def connectivity(self, frame: Frames) -> str | None:
        """The text of a file that says which atoms of a frame are bonded, or None if CP2K need not know it."""
        return None

    def force_eval(self, labels: Sequence[str], cell: FloatArray, dynamics: bool) -> list[str]:
        """The lines of the ``&FORCE_EVAL`` apart from its ``&SUBSYS``."""

    def kind(self, label: str) -> list[str]:
        """The lines of the ``&KIND`` of a label."""
        return [f"ELEMENT {label}"]


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
    stress : bool
        Whether CP2K computes stresses too.
    """

    name: str
    folder: Path
    method: Method
    seed: int = 1
    processes: int = 1
    threads: int = 1
    progress: bool = False
    stress: bool = False

    @property
    def input(self) -> str:
        """Name of the input."""
        return f"{self.name}.inp"


def start_files(job: Job, start: Frames) -> dict[str, str]:
    """The files with which CP2K begins, by their names: coordinates of one frame and, where they matter, its bonds."""
    bonds = job.method.connectivity(start)
    coordinates = xyz_block(job.method.labels(start), start.positions[0] / ANGSTROM, job.name)
    return {START: coordinates} if bonds is None else {START: coordinates, BONDS: bonds}


def project_input(
    job: Job,
    start: Frames,
    motion: list[str],
    restart: Sequence[str] = (),
    *,
    dynamics: bool,
    every: int = 1,
) -> str:
    """The input of a run, from the lines of its ``&MOTION`` and, where it is resumed, its ``&EXT_RESTART``.

    Stresses, where they are wanted, are printed every so many steps.
    """
    assert start.cells is not None
    labels, cell = job.method.labels(start), start.cells[0]
    unbonded = job.method.connectivity(start) is None
    bonds = ["CONNECTIVITY OFF"] if unbonded else ["CONN_FILE_FORMAT UPSF", f"CONN_FILE_NAME {BONDS}"]
    stress = []
    if job.stress:
        tensor = section("STRESS_TENSOR ON", *section("EACH", f"MD {every}"))
        stress = ["STRESS_TENSOR ANALYTICAL", *section("PRINT", *tensor)]
    subsystem = section(
        "SUBSYS",
        *cell_section(cell),
        *section(
            "TOPOLOGY",
            f"COORD_FILE_NAME {START}",
            "COORD_FILE_FORMAT XYZ",
            *bonds,
        ),
        *(line for name in sorted(set(labels)) for line in section(f"KIND {name}", *job.method.kind(name))),
    )
    lines = [
        *section("GLOBAL", f"PROJECT {job.name}", "RUN_TYPE MD", "PRINT_LEVEL LOW", f"SEED {job.seed}"),
        *section("FORCE_EVAL", *job.method.force_eval(labels, cell, dynamics), *stress, *subsystem),
        *section("MOTION", *motion),
        *restart,
    ]
    return "\n".join(lines) + "\n"
