"""A CP2K project as frames: coordinate files, energies, cells and the input that belong together.

CP2K's units are converted here and nowhere else: Å, Hartree/Bohr, Hartree, fs, and Bohr per atomic unit of time.
"""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from openmm_duality.errors import DualityError
from openmm_duality.files import UNREADABLE, open_text, provenance
from openmm_duality.geometry.arrays import FloatArray, IntArray
from openmm_duality.reference.cp2k_files import Project, find_project
from openmm_duality.reference.cp2k_input import ATOMIC_TIME, Cp2kInput, read_input
from openmm_duality.reference.cp2k_xyz import blocks, first_labels
from openmm_duality.reference.dcd import read_dcd
from openmm_duality.reference.frames import Frames
from openmm_duality.units import ANGSTROM, BOHR, FEMTOSECOND, HARTREE

_WRITTEN_UNITS = {
    "TRAJECTORY": {"angstrom": ANGSTROM, "bohr": BOHR},
    "FORCES": {"hartree*bohr^-1": HARTREE / BOHR},
    "VELOCITIES": {"bohr*au_t^-1": BOHR / ATOMIC_TIME},
}


@dataclass(frozen=True)
class EnergyTable:
    """The columns of an ``.ener`` file, each of shape (T,).

    Parameters
    ----------
    steps : array of int
        Step numbers, ascending for dynamics.
    times : array
        In ps.
    temperatures : array
        In K.
    kinetic, potential, conserved : array
        In kJ/mol.
    """

    steps: IntArray
    times: FloatArray
    temperatures: FloatArray
    kinetic: FloatArray
    potential: FloatArray
    conserved: FloatArray


@dataclass(frozen=True)
class _Series:
    """One file of frames: its values, and a key per frame that identifies it in all files of the project."""

    path: Path
    keys: IntArray
    steps: IntArray
    times: FloatArray | None
    energies: FloatArray | None
    labels: tuple[str, ...] | None
    values: FloatArray

    def at(self, keys: IntArray) -> IntArray:
        """Rows of the keys in this file; all must be in it."""
        order = np.argsort(self.keys)
        return np.asarray(order[np.searchsorted(self.keys, keys, sorter=order)], dtype=np.int64)


def read_cp2k(
    path: str | Path,
    *,
    input_file: str | Path | None = None,
    positions: str | Path | None = None,
    first_step: int | None = None,
    stride: int | None = None,
    forces: bool = True,
    allow_incomplete: bool = False,
) -> Frames:
    """Read a CP2K project.

    Frames are matched by their step numbers. Where a restart went back, the steps it repeated count as it wrote them.
    Only frames that have positions and, if there is a force file, forces are read; a warning names those left out.

    Parameters
    ----------
    path : path
        A folder with one project, a prefix such as ``run/water`` (for ``run/water-pos-1.xyz`` and its companions,
        plain or compressed by xz or gzip), or the file of positions itself.
    input_file : path, optional
        The CP2K input. By default ``<prefix>.inp``, or the only ``.inp`` in the folder.
    positions : path, optional
        Another file of positions, XYZ or DCD, as it stands or in the project's folder.
    first_step, stride : int, optional
        Step of the first frame and steps between frames in a DCD file. By default what its header says, which is
        right for a file that CP2K wrote in one run.
    forces : bool
        Whether to read forces; without them every frame that has positions is read.
    allow_incomplete : bool
        Whether positions and forces may end at different steps, as when a run was killed.

    Returns
    -------
    Frames
        Species are the elements of the labels. For ``REFTRAJ`` runs ``timestep`` is None and the frames keep the
        order of the files; the first one has the number 1, whatever it had in the source trajectory.

    Raises
    ------
    DualityError
        If there is no such project, files are damaged or do not belong together, or the cell is missing.
    """
    project = find_project(path, input_file, positions)
    inputs = read_input(project.input)
    if project.positions.suffix == ".dcd":
        position = _series_dcd(project.positions, inputs, first_step, stride)
    else:
        position = _series(project.positions, inputs, "TRAJECTORY")
    force = _series(project.forces, inputs, "FORCES") if forces and project.forces else None
    velocity = _series(project.velocities, inputs, "VELOCITIES") if project.velocities else None
    labels = _labels(project, inputs, position, force, velocity)
    table = read_ener(project.energies, keep_all=inputs.reftraj) if project.energies else None
    keys = position.keys if force is None else _common(position, force, allow_incomplete)
    chosen = position.at(keys)
    steps = position.steps[chosen]
    used = [project.input, project.positions, *(s.path for s in (force, velocity) if s is not None)]
    used += [p for p in (project.energies, project.cells) if p is not None]
    velocities = None
    if velocity is not None and np.isin(keys, velocity.keys).all():
        velocities = velocity.values[velocity.at(keys)]
    elif velocity is not None:
        _warn(f"{velocity.path}: velocities are left out, because some of the frames have none")
    return Frames(
        species=tuple(inputs.element(label) for label in labels),
        masses=np.array([inputs.mass(label) for label in labels]),
        positions=position.values[chosen],
        times=_times(position, chosen, table, keys, inputs),
        steps=steps,
        cells=_cells(project, inputs, keys),
        forces=None if force is None else force.values[force.at(keys)],
        velocities=velocities,
        energies=_energies(position, force, table, keys),
        timestep=inputs.timestep,
        temperature=_temperature(table, keys, inputs),
        source=tuple(provenance(p) for p in used),
    )


def read_ener(path: str | Path, keep_all: bool = False) -> EnergyTable:
    """Read an ``.ener`` file, plain or compressed.

    Parameters
    ----------
    path : path
        Of the file.
    keep_all : bool
        Keep rows whose step number is repeated, as a ``REFTRAJ`` run may write them; else the last writing counts.

    Raises
    ------
    DualityError
        If it is not a table of numbers with at least six columns.
    """
    table = _table(Path(path), 6)
    steps = table[:, 0].astype(np.int64)
    selected = np.arange(len(steps)) if keep_all else _latest(steps)
    times, kinetic, temperatures, potential, conserved = table[selected, 1:6].T
    return EnergyTable(
        steps[selected], times * FEMTOSECOND, temperatures, kinetic * HARTREE, potential * HARTREE, conserved * HARTREE
    )


def _series(path: Path, inputs: Cp2kInput, what: str) -> _Series:
    known = _WRITTEN_UNITS[what]
    name = inputs.units.get(what, next(iter(known))).strip("[]").lower()
    if name not in known:
        raise DualityError(f"{inputs.path}: UNIT {name} of {what} is not supported; it must be {' or '.join(known)}")
    read = list(blocks(path))
    steps = np.array([b.step for b in read], dtype=np.int64)
    selected = np.arange(len(steps)) if inputs.reftraj else _latest(steps)
    if len(selected) < len(steps):
        _warn(f"{path}: a restart repeated steps; {len(steps) - len(selected)} blocks written before it are left out")
    times = [read[k].time for k in selected]
    energies = [read[k].energy for k in selected]
    return _Series(
        path=path,
        keys=_keys(steps[selected]),
        steps=steps[selected],
        times=_column(times, FEMTOSECOND),
        energies=_column(energies, HARTREE),
        labels=read[0].labels,
        values=np.array([read[k].values for k in selected]) * known[name],
    )


def _column(column: list[float | None], factor: float) -> FloatArray | None:
    """A column of the comment lines, or None unless all of them have it."""
    values = [factor * value for value in column if value is not None]
    return np.array(values, dtype=np.float64) if len(values) == len(column) else None


def _series_dcd(path: Path, inputs: Cp2kInput, first_step: int | None, stride: int | None) -> _Series:
    first, step, values = read_dcd(path)
    first = first if first_step is None else first_step
    step = step if stride is None else stride
    if step < 1:
        raise DualityError(
            f"{path}: the header gives no number of steps between frames; in Python, pass stride and first_step to "
            "read_cp2k"
        )
    steps = first + step * np.arange(len(values), dtype=np.int64)
    times = None if inputs.timestep is None else np.asarray(steps * inputs.timestep, dtype=np.float64)
    return _Series(path, _keys(steps), steps, times, None, None, values * ANGSTROM)


def _latest(steps: IntArray) -> IntArray:
    """Rows whose step number no later row reaches or undercuts, ascending: those that count after restarts."""
    least_behind = np.append(np.minimum.accumulate(steps[::-1])[::-1][1:], np.iinfo(np.int64).max)
    return np.flatnonzero(steps < least_behind)


def _keys(steps: IntArray) -> IntArray:
    """Step numbers made unique: REFTRAJ may number two frames alike, the first (always 1) and a later one."""
    seen: Counter[int] = Counter()
    occurrence = np.zeros(len(steps), dtype=np.int64)
    for k, step in enumerate(steps.tolist()):
        occurrence[k] = seen[step]
        seen[step] += 1
    return steps + (occurrence << 40)


def _rows(steps: IntArray, keys: IntArray) -> list[int] | None:
    """Rows of the keys in a table, or None unless all are in it."""
    where = {int(key): row for row, key in enumerate(_keys(steps))}
    return [where[int(key)] for key in keys] if all(int(key) in where for key in keys) else None


def _common(position: _Series, force: _Series, allow_incomplete: bool) -> IntArray:
    for short, long in ((force, position), (position, force)):
        gap = int(long.steps.max() - short.steps.max())
        usual = int(np.median(np.diff(np.unique(short.steps)))) if len(np.unique(short.steps)) > 1 else gap + 1
        if gap >= usual and not allow_incomplete:
            raise DualityError(
                f"{short.path} ends at step {short.steps.max()} ({len(short.steps)} frames) and {long.path} at step "
                f"{long.steps.max()} ({len(long.steps)} frames), so the first is cut short or they are not of one run; "
                f"copy the files again, cut the longer one off after step {short.steps.max()}, or read them in Python "
                "with read_cp2k(…, allow_incomplete=True), which takes the frames that both have"
            )
    keys = position.keys[np.isin(position.keys, force.keys)]
    if not len(keys):
        raise DualityError(f"{position.path} and {force.path} have no step in common; they must come from one run")
    lost = [
        f"{len(s.keys) - len(keys)} of the {len(s.keys)} frames of {s.path.name}"
        for s in (position, force)
        if len(s.keys) > len(keys)
    ]
    if lost:
        _warn(f"left out, for want of forces or positions at the same step: {' and '.join(lost)}")
    return keys


def _labels(project: Project, inputs: Cp2kInput, position: _Series, *others: _Series | None) -> tuple[str, ...]:
    known = [s for s in (position, *others) if s is not None and s.labels is not None]
    named = [(s.path, tuple(s.labels or ())) for s in known]
    if not named and project.labels is not None:
        named = [(project.labels, first_labels(project.labels))]
    if not named and inputs.coordinates is not None and inputs.coordinates.exists():
        named = [(inputs.coordinates, first_labels(inputs.coordinates, with_steps=False))]
    if not named and inputs.labels:
        named = [(inputs.path, inputs.labels)]
    if not named:
        raise DualityError(
            f"{position.path}: a DCD file names no atoms; put a coordinate file of the project (positions, forces or "
            "the start structure in XYZ) beside it"
        )
    path, labels = named[0]
    elements = tuple(inputs.element(label) for label in labels)
    for other, names in named[1:]:
        if len(names) != len(labels):
            raise DualityError(f"{path} has {len(labels)} atoms and {other} has {len(names)}; they must be of one run")
        differing = [i for i, name in enumerate(names) if inputs.element(name) != elements[i]]
        if differing:
            i = differing[0]
            raise DualityError(
                f"{path} and {other} have their atoms in different order (atom {i + 1} is {labels[i]} in the first and "
                f"{names[i]} in the second); write both from one run"
            )
    if position.values.shape[1] != len(labels):
        raise DualityError(f"{position.path} has {position.values.shape[1]} atoms and {path} has {len(labels)}")
    # The file that was written with PRINT_ATOM_KIND holds most about the atoms.
    return next((names for _, names in named if any(n.upper() in inputs.atomic_kinds for n in names)), labels)


def _times(
    position: _Series, chosen: IntArray, table: EnergyTable | None, keys: IntArray, inputs: Cp2kInput
) -> FloatArray:
    if position.times is not None:
        return position.times[chosen]
    rows = None if table is None else _rows(table.steps, keys)
    if table is not None and rows is not None:
        return table.times[rows]
    return np.asarray(position.steps[chosen] * (inputs.timestep or 0.0), dtype=np.float64)


def _energies(position: _Series, force: _Series | None, table: EnergyTable | None, keys: IntArray) -> FloatArray | None:
    if table is not None:
        rows = _rows(table.steps, keys)
        if rows is not None:
            return table.potential[rows]
        _warn("the .ener file lacks some of the frames; energies are taken from the coordinate files where they can be")
    for series in (position, force):
        if series is not None and series.energies is not None:
            return series.energies[series.at(keys)]
    return None


def _temperature(table: EnergyTable | None, keys: IntArray, inputs: Cp2kInput) -> float | None:
    """Mean temperature of the frames of dynamics, in K."""
    rows = None if table is None or inputs.timestep is None else _rows(table.steps, keys)
    return float(table.temperatures[rows].mean()) if table is not None and rows else None


def _cells(project: Project, inputs: Cp2kInput, keys: IntArray) -> FloatArray | None:
    if not inputs.periodic:
        return None
    if project.cells is not None:
        table = _table(project.cells, 11)
        steps = table[:, 0].astype(np.int64)
        selected = np.arange(len(steps)) if inputs.reftraj else _latest(steps)
        rows = _rows(steps[selected], keys)
        if rows is not None:
            return table[selected[rows], 2:11].reshape(-1, 3, 3) * ANGSTROM
        if inputs.variable_cell:
            raise DualityError(
                f"{project.cells}: the cell changes in this run and is not given for every frame; write "
                "&MOTION/&PRINT/&CELL at least as often as the positions"
            )
    if inputs.variable_cell:
        raise DualityError(
            f"{inputs.path}: this run changes the cell, and no {project.prefix}-{project.number}.cell gives the "
            "cell of every frame; copy it from the run, or write &MOTION/&PRINT/&CELL"
        )
    if inputs.cell is None:
        raise DualityError(
            f"{inputs.path}: the run is periodic and no cell was found (no ABC, no A, B and C in &SUBSYS/&CELL, and no "
            f"{project.prefix}-{project.number}.cell); add the cell to the input, or PERIODIC NONE if there is none"
        )
    return np.tile(inputs.cell, (len(keys), 1, 1))


def _table(path: Path, columns: int) -> FloatArray:
    try:
        with open_text(path) as handle, warnings.catch_warnings():
            warnings.filterwarnings("ignore", "loadtxt: input contained no data")
            table = np.loadtxt(handle, ndmin=2)
    except (ValueError, *UNREADABLE) as error:
        raise DualityError(
            f"{path}: expected lines of numbers, all of one length ({error}); is the file cut?"
        ) from None
    if not table.size:
        raise DualityError(f"{path}: expected lines of at least {columns} numbers, and there are none; copy it again")
    if table.shape[1] < columns:
        raise DualityError(f"{path}: expected at least {columns} columns of numbers, got {table.shape[1]}")
    if not np.isfinite(table[:, :columns]).all():
        row = int(np.argwhere(~np.isfinite(table[:, :columns]))[0, 0])
        raise DualityError(f"{path}: the row of step {table[row, 0]:.0f} holds a value that is not a finite number")
    return np.asarray(table, dtype=np.float64)


def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=4)
