"""Start structures of the verbs."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np
from openmm import app, unit

import openmm_duality as duality
from openmm_duality.console import PATH
from openmm_duality.errors import DualityError

if TYPE_CHECKING:
    from collections.abc import Callable

    from openmm_duality.dynamics import Start
    from openmm_duality.geometry.arrays import IntArray
    from openmm_duality.losses import AgentLosses


_FAR_TOO_WIDE = 5  # times the structure, along every axis
_FEW = 50  # atoms, which may be a molecule in a vacuum


def structure_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add --frame N, --cell A B C and --supercell A B C."""
    frame = click.option(
        "--frame", type=int, default=-1, help="Number of the frame of --start, counted from 0; the last by default."
    )
    edges = click.option(
        "--cell",
        nargs=3,
        help="Edges of the cell, as '14 angstrom' or in nm, for a structure file that has none (plain XYZ).",
    )
    copies = click.option(
        "--supercell", nargs=3, type=int, default=(1, 1, 1), show_default=True, help="Copies along a, b, c."
    )
    return frame(edges(copies(command)))


def baseline_option(command: Callable[..., None]) -> Callable[..., None]:
    """Add --baseline SYSTEM.xml."""
    text = (
        "XML of the OpenMM System of the baseline for these atoms, where they are not those of the data (a supercell); "
        "charges by species are for any atoms."
    )
    return click.option("--baseline", type=PATH, help=text)(command)


def read_structure(
    path: Path, cell: tuple[str, str, str] | None, copies: tuple[int, int, int], frame: int = -1
) -> Start:
    """The structure of a file or of a frame of reference data, repeated; far too wide a cell is told.

    Raises
    ------
    DualityError
        If it cannot be read, or has a cell of its own while the command gives one.
    """
    from openmm_duality.dynamics.integrators import positive
    from openmm_duality.dynamics.structures import read_start
    from openmm_duality.reference.cp2k_files import is_position_file
    from openmm_duality.reference.formats import ase_kind

    # CP2K's own files of positions hold no cell, so they are read with their project
    structure = path.suffix.lower() in (".pdb", ".xyz", ".extxyz") and not is_position_file(path)
    structure = structure or ase_kind(path) is not None
    start = read_start(path if structure else duality.read(path), frame)
    if cell is not None:
        if start.cell is not None:
            raise DualityError(f"{path} has a cell of its own; leave out --cell")
        edges = [positive(edge, unit.nanometer, "cell") for edge in cell]
        if (np.array(edges) > _FAR_TOO_WIDE * np.ptp(start.positions, axis=0)).all() and len(start.species) > _FEW:
            warnings.warn(
                f"the cell is more than {_FAR_TOO_WIDE} times as wide as the structure; its edges are in nm where they "
                "have no unit",
                stacklevel=2,
            )
        start = replace(start, cell=np.diag(edges))
    return start if copies == (1, 1, 1) else start.repeated(copies)


def topology_of(losses: AgentLosses, start: Start) -> tuple[app.Topology, list[IntArray]]:
    """The topology of a structure and its molecules, which the bond lengths of a model's training data give."""
    from openmm_duality.geometry.molecules import find_molecules

    molecules = find_molecules(start.positions, start.species, start.cell, dict(losses.bond_lengths))
    return duality.create_topology(start.species, molecules, start.cell), molecules


def numbers_of_atoms(text: str | None, n_atoms: int) -> list[int]:
    """Numbers of atoms from 0, of a list of numbers and ranges such as '0-15,20'; the last of a range belongs to it.

    Raises
    ------
    DualityError
        If the text is no such list, or there is no atom of a number.
    """
    numbers: list[int] = []
    for part in text.split(",") if text is not None else ():
        first, dash, last = part.strip().partition("-")
        ends = [first, last] if dash else [first, first]
        if not all(map(str.isdecimal, ends)) or int(ends[1]) < int(ends[0]):
            raise DualityError(f"expected numbers of atoms from 0, such as 0-15,20, got {text!r}")
        numbers += range(int(ends[0]), int(ends[1]) + 1)
    if max(numbers, default=0) >= n_atoms:
        raise DualityError(f"there is no atom {max(numbers)}: the {n_atoms} atoms are counted from 0")
    return numbers
