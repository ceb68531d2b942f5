"""Single points by CP2K on given frames, many per process; finished ones survive a kill."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from openmm_duality.cp2k.engine import aborted, complaint, converged
from openmm_duality.cp2k.inputs import Job, cell_file, project_input, section, start_files, xyz_block
from openmm_duality.cp2k.parts import (
    Part,
    close_part,
    closed_parts,
    collect,
    complete_blocks,
    complete_rows,
    count,
    counter,
    new_part,
    run_part,
)
from openmm_duality.errors import DualityError
from openmm_duality.progress import progress_bar
from openmm_duality.reference.cp2k_stress import printed_stresses
from openmm_duality.reference.cp2k_xyz import blocks
from openmm_duality.reference.frames import Frames
from openmm_duality.units import ANGSTROM

_TRAJECTORY, _CELLS = "frames.xyz", "frames.cell"
_TABLES = {"-1.ener": 7, "-1.cell": 12}
_ROUNDING = 1e-6  # Å
_IN_A_ROW = 3  # processes that finish no frame, after which CP2K is taken to fail whatever the frame


def label(job: Job, frames: Frames, start: Frames, origins: Sequence[str]) -> list[str]:
    """Label every frame that is not yet labelled, and collect them.

    Parameters
    ----------
    job : Job
    frames : Frames
        To be labelled, of shape (T, N); cells may differ.
    start : Frames
        One undistorted frame, with a cell, in which CP2K may find bonds.
    origins : sequence of str, length T
        The origin of each frame, for messages.

    Returns
    -------
    list of str
        Frames that were refused, and why: their self-consistent field did not converge, or CP2K gave up on them.

    Raises
    ------
    DualityError
        If CP2K fails for a reason that does not lie in one frame.
    """
    if frames.cells is None:
        raise DualityError(f"{job.name}: the frames have no cell, and CP2K is run with one")
    _close(job)
    passed_over = 0  # first frames, of which CP2K finished none
    with progress_bar(len(frames), job.name, show=job.progress) as bar:
        while todo := _missing(job, len(frames)):
            todo = todo[passed_over:] + todo[:passed_over]
            folder = new_part(job.folder, _files(job, frames, start, todo))
            written = counter(folder / f"{job.name}-frc-1.xyz", b"i =")
            try:
                run_part(job, folder, bar, len(frames) - len(todo), written)
            except DualityError:
                # A frame that CP2K cannot do is refused, but a first one may stand for all of them: others are tried.
                if not aborted(folder / f"{job.name}.out"):
                    raise
                if not _close(job, drop=False):
                    passed_over += 1
                    if passed_over >= min(_IN_A_ROW, len(todo)):
                        raise
                    _close(job)
                continue
            if not _close(job, drop=False):
                raise DualityError(f"{folder}: CP2K ran to its end and labelled no frame; see {job.name}.out there")
    return _collect(job, frames, start, origins)


def _missing(job: Job, total: int) -> list[int]:
    settled: set[int] = set()
    for part in closed_parts(job.folder):
        settled.update(part.record["labelled"], map(int, part.record["refused"]))
    return [t for t in range(total) if t not in settled]


def _files(job: Job, frames: Frames, start: Frames, todo: list[int]) -> dict[str, Any]:
    assert frames.cells is not None
    positions, cells = frames.positions[todo] / ANGSTROM, frames.cells[todo]
    heads = [f" i = {n:8d}, time = {n:12.3f}, E = {0.0:20.10f}" for n in range(1, len(todo) + 1)]
    return {
        **start_files(job, start),
        _TRAJECTORY: "".join(xyz_block(frames.species, p, head) for p, head in zip(positions, heads, strict=True)),
        _CELLS: cell_file(cells),
        job.input: _input(job, start, len(todo)),
        "todo.txt": "".join(f"{t}\n" for t in todo),
    }


def _input(job: Job, start: Frames, count: int) -> str:
    """The input of single points along the frames in the same folder, all in one CP2K process."""
    trajectory = section(
        "REFTRAJ",
        f"TRAJ_FILE_NAME {_TRAJECTORY}",
        f"CELL_FILE_NAME {_CELLS}",
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
    return project_input(job, start, [*md, *section("PRINT", *printed)], dynamics=False)


def _close(job: Job, drop: bool = True) -> bool:
    return close_part(job.folder, lambda folder: _record(job, folder), drop)


def _record(job: Job, folder: Path) -> dict[str, Any] | None:
    """Count the frames of a part that are complete in every file, and one that CP2K gave up on; None if none."""
    output = folder / f"{job.name}.out"
    todo = [int(line) for line in (folder / "todo.txt").read_text().split()]
    scf = converged(output)
    counts = [count(complete_blocks(folder / f"{job.name}-{kind}-1.xyz"), len(todo)) for kind in ("pos", "frc")]
    tables = [complete_rows(folder / f"{job.name}{ending}", columns) for ending, columns in _TABLES.items()]
    counts += [count(rows, len(todo)) for rows in tables]
    if job.stress:
        counts.append(len(printed_stresses(output)[0]) if output.is_file() else 0)
    complete = min(*counts, len(scf)) if job.method.iterates else min(counts)
    refused = {str(todo[n]): "unconverged" for n in range(complete) if job.method.iterates and not scf[n]}
    labelled = [t for t in todo[:complete] if str(t) not in refused]
    earlier = [bool(part.record["order"]) for part in closed_parts(job.folder)]
    # of processes in a row that finish nothing, the third fails for another reason than its first frame
    in_frame = complete or any(earlier[1 - _IN_A_ROW :])
    if complete < len(todo) and aborted(output) and in_frame:
        refused[str(todo[complete])] = f"CP2K gave up ({complaint(output)})"
    if not labelled and not refused:
        return None
    return {"labelled": labelled, "refused": refused, "order": todo[:complete]}


def _collect(job: Job, frames: Frames, start: Frames, origins: Sequence[str]) -> list[str]:
    refused = {int(t): why for part in closed_parts(job.folder) for t, why in part.record["refused"].items()}
    if len(refused) == len(frames):
        raise DualityError(f"{job.name}: all {len(frames)} frames were refused, the first as {refused[0]}")

    def selection(part: Part, n: int, _: int) -> int | None:
        order = part.record["order"]
        return order[n] + 1 if n < len(order) and order[n] not in refused else None

    collect(job, selection, _input(job, start, len(frames)), _TABLES)
    _compare(job, frames)
    return [f"{job.name}: frame {t + 1} ({origins[t]}), {why}" for t, why in sorted(refused.items())]


def _compare(job: Job, frames: Frames) -> None:
    """Refuse labels of atoms in another order: CP2K may reorder the atoms of a molecule."""
    path = job.folder / f"{job.name}-pos-1.xyz"
    for block in blocks(path):
        given = frames.positions[block.step - 1] / ANGSTROM
        same = tuple(name.capitalize() for name in block.labels) == frames.species
        if not same or np.abs(block.values - given).max() > _ROUNDING:
            raise DualityError(
                f"{path}: CP2K labelled frame {block.step} with its atoms in another order or at other places than "
                "they were given; write the atoms of every molecule one after the other"
            )
