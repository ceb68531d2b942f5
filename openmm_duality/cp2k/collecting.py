"""The parts of a task put together, as one CP2K project that `read` reads."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from openmm_duality.cp2k.inputs import START
from openmm_duality.cp2k.parts import Part, whole_blocks, whole_rows
from openmm_duality.cp2k.writing import xyz_block
from openmm_duality.files import atomic_write
from openmm_duality.reference.cp2k_xyz import Block

Chosen = Callable[[int, int], int | None]
"""From the number of a block (or row) in its file, and its step, to its step in the project; None leaves it out."""


def collect(
    task: Path, name: str, parts: Iterable[tuple[Part, Chosen]], *, input_text: str, tables: dict[str, int]
) -> None:
    """Write the files of a project from those of its parts.

    Parameters
    ----------
    task : Path
        Folder of the task; the files are written into it.
    name : str
        Of the project.
    parts : iterable of (Part, callable)
        And what of each counts.
    input_text : str
        The input of the whole.
    tables : dict
        From the ending of a table's name (``-1.ener``) to its number of columns.
    """
    pieces = list(parts)
    for kind in ("vel", "frc", "pos"):
        file = f"{name}-{kind}-1.xyz"
        if not any((part.folder / file).is_file() for part, _ in pieces):
            continue
        with atomic_write(task / file, overwrite=True) as temporary, open(temporary, "w") as out:
            for part, chosen in pieces:
                for n, block in enumerate(whole_blocks(part.folder / file)):
                    step = chosen(n, block.step)
                    if step is not None:
                        out.write(_block(block, step))
    for ending, columns in tables.items():
        file = f"{name}{ending}"
        with atomic_write(task / file, overwrite=True) as temporary, open(temporary, "w") as out:
            out.write(_head(pieces[0][0].folder / file))
            for part, chosen in pieces:
                for n, row in enumerate(whole_rows(part.folder / file, columns)):
                    step = chosen(n, int(row.split()[0]))
                    if step is not None:
                        out.write(f"{step:10d}" + row[row.index(row.split()[0]) + len(row.split()[0]) :])
    with atomic_write(task / START, overwrite=True) as temporary:
        shutil.copyfile(pieces[0][0].folder / START, temporary)
    with atomic_write(task / f"{name}.inp", overwrite=True) as temporary:
        temporary.write_text(input_text)


def _block(block: Block, step: int) -> str:
    # the time of single points is their number; that of dynamics is as CP2K wrote it
    time = block.time if step == block.step else float(step)
    comment = f" i = {step:8d}, time = {time or 0.0:12.3f}, E = {block.energy or 0.0:20.10f}"
    return xyz_block(block.labels, block.values, comment)


def _head(table: Path) -> str:
    with open(table) as handle:
        line = handle.readline()
    return line if line.lstrip().startswith("#") else ""
