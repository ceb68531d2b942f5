"""Text of CP2K inputs and coordinate files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.units import ANGSTROM, FEMTOSECOND


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


CELL_HEAD = "#   Step   Time [fs]   " + "   ".join(f"{a}{x} [Angstrom]" for a in "ABC" for x in "xyz") + "   Volume\n"


def cell_rows(steps: Iterable[int], cells: FloatArray) -> str:
    """Rows of a ``.cell`` file from cells in nm; their times are their steps, in fs."""
    rows = []
    for step, cell in zip(steps, cells / ANGSTROM, strict=True):
        numbers = " ".join(f"{x:19.10f}" for x in cell.ravel())
        rows.append(f"{step:8d} {float(step):12.3f} {numbers} {abs(np.linalg.det(cell)):24.10f}\n")
    return "".join(rows)


def femtoseconds(picoseconds: float) -> str:
    """A time in ps as an input has it, in fs."""
    return f"{picoseconds / FEMTOSECOND:.10g}"
