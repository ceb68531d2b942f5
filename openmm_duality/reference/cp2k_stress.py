"""Stresses of a CP2K project, from its output or from its table of stresses.

CP2K 2023.1 prints pressures: its tensors are −σ = −(1/V) ∂E/∂ε, positive under compression (its analytical tensor of
strained water is the derivative of its energy). Those in the output (``&FORCE_EVAL/&PRINT/&STRESS_TENSOR``) are of the
forces alone; those in the table (``&MOTION/&PRINT/&STRESS``) contain the kinetic part Σ m v⊗v/V, so that the velocities
are needed to take it out. The table of single points holds nothing but zeros.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from openmm_duality.errors import DualityError
from openmm_duality.files import UNREADABLE, open_text
from openmm_duality.geometry.arrays import FloatArray, IntArray
from openmm_duality.reference.cp2k_files import Project
from openmm_duality.reference.cp2k_input import Cp2kInput
from openmm_duality.reference.cp2k_tables import latest, read_table, rows_of
from openmm_duality.units import GIGAPASCAL, HARTREE

_HEAD = re.compile(r"STRESS\| (?:Analytical|Numerical) stress tensor \[(\w+)\]")
_ROW = re.compile(r"STRESS\|\s+[xyz]((?:\s+[-+.\dE]+){3})\s*$")
_ENERGY = re.compile(r"ENERGY\| Total FORCE_EVAL.*\s([-+.\dE]+)\s*$")
_UNITS = {"gpa": GIGAPASCAL, "mpa": 1e-3 * GIGAPASCAL, "pa": 1e-9 * GIGAPASCAL, "bar": 1e-4 * GIGAPASCAL}
_UNITS |= {"kbar": 0.1 * GIGAPASCAL, "atm": 1.01325e-4 * GIGAPASCAL}
_SAME = 2e-9 * HARTREE  # kJ/mol, the rounding of energies in tables


def printed_stresses(path: Path) -> tuple[FloatArray, FloatArray]:
    """Energies (B,) in kJ/mol and stresses σ (B, 3, 3) in kJ/mol/nm³ in an output of CP2K, in order.

    The energy is the last that was printed before a tensor, NaN where there is none.

    Raises
    ------
    DualityError
        If the file cannot be read, a tensor is cut, or its unit is unknown.
    """
    energy, factor = np.nan, 0.0
    energies: list[float] = []
    rows: list[FloatArray] = []
    try:
        with open_text(path) as handle:
            for line in handle:
                if "STRESS|" in line and (head := _HEAD.search(line)):
                    if len(rows) != 3 * len(energies):
                        break
                    if head[1].lower() not in _UNITS:
                        raise DualityError(f"{path}: stresses are in {head[1]}; expected one of {', '.join(_UNITS)}")
                    factor = -_UNITS[head[1].lower()]
                    energies.append(energy)
                elif "STRESS|" in line and len(rows) < 3 * len(energies) and (row := _ROW.search(line)):
                    rows.append(factor * np.array(row[1].split(), dtype=np.float64))
                elif "ENERGY|" in line and (found := _ENERGY.search(line)):
                    energy = HARTREE * float(found[1])
    except (ValueError, *UNREADABLE) as error:
        raise DualityError(f"{path}: cannot be read ({error}); copy it again from where CP2K wrote it") from None
    complete = len(rows) // 3
    stresses = np.array(rows[: 3 * complete], dtype=np.float64).reshape(-1, 3, 3)
    return np.array(energies[:complete], dtype=np.float64), stresses


def stress_lines(path: Path) -> Iterator[str]:
    """Lines of an output with the energies and the tensors, all that `printed_stresses` reads."""
    missing = 0
    with open_text(path) as handle:
        for line in handle:
            if _HEAD.search(line):
                missing = 3
                yield line
            elif missing and _ROW.search(line):
                missing -= 1
                yield line
            elif _ENERGY.search(line):
                yield line


def stresses_at(path: Path, energies: FloatArray | None, n_frames: int) -> tuple[FloatArray | None, str]:
    """Stresses of frames from an output, by their energies; or None, and why.

    Where the file has no energies (``FILENAME`` in the print key), there must be one tensor for every frame.

    Parameters
    ----------
    path : Path
    energies : array, shape (T,), or None
        Of the frames, in kJ/mol.
    n_frames : int
        T.
    """
    printed, stresses = printed_stresses(path)
    if not len(stresses):
        return None, ""
    if np.isnan(printed).all() or energies is None:
        if len(stresses) == n_frames:
            return stresses, ""
        return None, f"it has {len(stresses)} tensors and no energies to find those of the {n_frames} frames by"
    order = np.argsort(printed, kind="stable")
    first, last = (np.searchsorted(printed[order], energies + sign * _SAME) for sign in (-1.0, 1.0))
    missing = int((first == last).sum())
    if missing:
        return None, f"it has none for {missing} of the {n_frames} frames"
    used: set[int] = set()
    chosen = []
    for begin, end in zip(first, last, strict=True):  # frames of the same energy in the order of the tensors
        candidates = sorted(order[begin:end].tolist())
        chosen.append(next((k for k in candidates if k not in used), candidates[0]))
        used.add(chosen[-1])
    return stresses[chosen], ""


def stresses_of_table(
    table: FloatArray, cells: FloatArray, masses: FloatArray, velocities: FloatArray | None
) -> FloatArray:
    """Stresses σ (T, 3, 3) in kJ/mol/nm³ from the rows of a ``.stress`` file, without their kinetic part.

    Parameters
    ----------
    table : array, shape (T, 9)
        xx, xy, …, zz in bar.
    cells : array, shape (T, 3, 3)
    masses : array, shape (N,)
    velocities : array, shape (T, N, 3), or None
        In nm/ps; None in single points.
    """
    pressures = table.reshape(-1, 3, 3) * _UNITS["bar"]
    if velocities is not None:
        kinetic = np.einsum("i,tix,tiy->txy", masses, velocities, velocities)
        pressures = pressures - kinetic / np.abs(np.linalg.det(cells))[:, None, None]
    return -pressures


def project_stresses(
    project: Project,
    inputs: Cp2kInput,
    keys: IntArray,
    energies: FloatArray | None,
    cells: FloatArray,
    masses: FloatArray,
    velocities: FloatArray | None,
) -> tuple[FloatArray | None, Path | None]:
    """Stresses without a kinetic part and the file they come from, or None and a warning of what is missing."""
    if project.output is not None:
        found, problem = stresses_at(project.output, energies, len(keys))
        if problem:
            warnings.warn(f"{project.output}: the stresses are left out, because {problem}", stacklevel=3)
        if found is not None:
            return found, project.output
    if project.stresses is None:
        return None, None
    table = read_table(project.stresses, 11)
    if not table[:, 2:].any():  # as for single points
        return None, None
    selected = np.arange(len(table)) if inputs.reftraj else latest(table[:, 0].astype(np.int64))
    rows = rows_of(table[selected, 0].astype(np.int64), keys)
    if rows is None or (velocities is None and not inputs.reftraj):
        lacking = "some of the frames are not in it" if rows is None else "their kinetic part needs the velocities"
        warnings.warn(
            f"{project.stresses}: the stresses are left out, because {lacking}; write them without it by &FORCE_EVAL/"
            "&PRINT/&STRESS_TENSOR, and keep the output beside the project",
            stacklevel=3,
        )
        return None, None
    return stresses_of_table(table[selected[rows], 2:11], cells, masses, velocities), project.stresses
