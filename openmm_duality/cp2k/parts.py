"""The parts of a task, one per run of CP2K, and the project that they make together.

A part is a folder ``parts/0000``, in which CP2K runs; it is filled under another name and then renamed. When CP2K has
ended, or on the next call after a kill, a record ``part.json`` is written of what counts in it; until then it is open.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from openmm_duality.cp2k.engine import run_cp2k
from openmm_duality.cp2k.inputs import BONDS, START, Job, xyz_block
from openmm_duality.errors import DualityError
from openmm_duality.files import atomic_write, write_text
from openmm_duality.reference.cp2k_stress import stress_lines
from openmm_duality.reference.cp2k_xyz import Block, blocks
from openmm_duality.schema import Reader, integer, mapping_of, optional, read_record, text, tuple_of

_RECORD = "part.json"


def _file_name(value: Any, what: str) -> str:
    if text(value, what) != Path(value).name:
        raise DualityError(f"{what}: expected the name of a file in the part, got {value!r}")
    return str(value)


def _refused(value: Any, what: str) -> dict[str, Any]:
    reasons = mapping_of(text, "reasons by step")(value, what)
    wrong = next((step for step in reasons if not (step.isascii() and step.isdigit())), None)
    if wrong is not None:
        raise DualityError(f"{what}: expected numbers of frames, got {wrong!r}")
    return dict(reasons)


_STEPS = tuple_of(integer(0), empty=True)
_READERS: tuple[dict[str, Reader], ...] = (  # of a part of dynamics, and of labelled frames
    {"first": optional(integer(0)), "last": integer(0), "restart": _file_name, "unconverged": _STEPS},
    {"labelled": _STEPS, "refused": _refused, "order": _STEPS},
)


@dataclass(frozen=True)
class Part:
    """A part whose record is written: its folder and its record."""

    folder: Path
    record: dict[str, Any]


Selection = Callable[[Part, int, int], int | None]
"""Step in the project of a block (or row) of a part, from its number in the file and its step; None leaves it out."""


def closed_parts(task: Path) -> list[Part]:
    """The parts with a record, in order."""
    return [Part(f, read_record(f / _RECORD, *_READERS)) for f in _folders(task) if (f / _RECORD).is_file()]


def open_part(task: Path) -> Path | None:
    """The folder of the part without a record, if there is one."""
    return next((folder for folder in _folders(task) if not (folder / _RECORD).is_file()), None)


def new_part(task: Path, files: Mapping[str, str | Path]) -> Path:
    """A new open part with the given files: their texts, or the paths of files to copy."""
    folders = _folders(task)
    place = task / "parts"
    made = place / ".new"
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(parents=True)
    for name, content in files.items():
        if isinstance(content, Path):
            shutil.copyfile(content, made / name)
        else:
            (made / name).write_text(content)
    folder = place / f"{int(folders[-1].name) + 1 if folders else 0:04d}"
    os.replace(made, folder)
    return folder


def close_part(task: Path, record: Callable[[Path], dict[str, Any] | None], drop: bool = True) -> bool:
    """Write the record of the open part: what counts in its folder; False if there is no part, or nothing in it counts.

    A part in which nothing counts is dropped, or left for the user to inspect until the next call.
    """
    folder = open_part(task)
    found = None if folder is None else record(folder)
    if folder is not None and found is not None:
        write_text(folder / _RECORD, json.dumps(found) + "\n")
    elif folder is not None and drop:
        gone = folder.with_name(".old")
        shutil.rmtree(gone, ignore_errors=True)
        os.replace(folder, gone)
        shutil.rmtree(gone)
    return found is not None


def run_part(job: Job, folder: Path, bar: tqdm[Any], done: int, written: Callable[[], int]) -> None:
    """Run CP2K in an open part; the bar shows what earlier parts have done and what this one has written."""
    bar.n = done

    def watch() -> None:
        bar.update(done + written() - bar.n)

    run_cp2k(folder, job.input, processes=job.processes, threads=job.threads, watch=watch)


def complete_blocks(path: Path) -> Iterator[Block]:
    """The blocks of a coordinate file up to the first incomplete one, as a kill may leave it."""
    if not path.is_file():
        return
    try:
        yield from blocks(path)
    except DualityError:
        return


def complete_rows(path: Path, columns: int) -> Iterator[str]:
    """The rows of a table up to the first incomplete one; comment lines are left out."""
    if not path.is_file():
        return
    with open(path) as handle:
        for row in handle:
            if not row.endswith("\n"):
                return
            if not row.lstrip().startswith("#"):
                if len(row.split()) < columns:
                    return
                yield row


def count(items: Iterator[Any], most: int) -> int:
    """Number of items, at most `most`."""
    return sum(1 for _ in islice(items, most))


def counter(path: Path, pattern: bytes, skip: int = 0) -> Callable[[], int]:
    """A function that counts a pattern in a growing file, less `skip`, reading only what is new; for progress bars."""
    seen = [0, -skip]

    def count_new() -> int:
        if path.is_file():
            with open(path, "rb") as handle:
                handle.seek(seen[0])
                new = handle.read()
            seen[0] += len(new)
            seen[1] += new.count(pattern)
        return max(seen[1], 0)

    return count_new


def collect(job: Job, selection: Selection, input_text: str, tables: Mapping[str, int]) -> None:
    """Write the files of a CP2K project from those of its closed parts, into the folder of the task.

    Parameters
    ----------
    job : Job
    selection : callable
        What counts, as `Selection` says.
    input_text : str
        The input of the project.
    tables : mapping
        From the ending of a table's name (``-1.ener``) to its number of columns.
    """
    task, name = job.folder, job.name
    parts = closed_parts(task)
    for kind in ("vel", "frc", "pos"):
        file = f"{name}-{kind}-1.xyz"
        if not any((part.folder / file).is_file() for part in parts):
            continue
        with atomic_write(task / file, overwrite=True) as temporary, open(temporary, "w") as out:
            for part in parts:
                for n, block in enumerate(complete_blocks(part.folder / file)):
                    step = selection(part, n, block.step)
                    if step is not None:
                        out.write(_block(block, step))
    for ending, columns in tables.items():
        file = f"{name}{ending}"
        with atomic_write(task / file, overwrite=True) as temporary, open(temporary, "w") as out:
            out.write(_head(parts[0].folder / file))
            for part in parts:
                for n, row in enumerate(complete_rows(part.folder / file, columns)):
                    first = row.split()[0]
                    step = selection(part, n, int(first))
                    if step is not None:
                        out.write(f"{step:10d}" + row.lstrip()[len(first) :])
    if job.stress:
        with atomic_write(task / f"{name}-1.stress_tensor", overwrite=True) as temporary, open(temporary, "w") as out:
            for part in parts:
                out.writelines(stress_lines(part.folder / f"{name}.out"))
    for other in (START, BONDS):
        if (parts[0].folder / other).is_file():
            with atomic_write(task / other, overwrite=True) as temporary:
                shutil.copyfile(parts[0].folder / other, temporary)
    write_text(task / f"{name}.inp", input_text, overwrite=True)


def _folders(task: Path) -> list[Path]:
    place = task / "parts"
    return sorted(f for f in place.iterdir() if f.name.isdigit()) if place.is_dir() else []


def _block(block: Block, step: int) -> str:
    # the time of single points is their number; that of dynamics is as CP2K wrote it
    time = block.time if step == block.step else float(step)
    comment = f" i = {step:8d}, time = {time or 0.0:12.3f}, E = {block.energy or 0.0:20.10f}"
    return xyz_block(block.labels, block.values, comment)


def _head(table: Path) -> str:
    with open(table) as handle:
        line = handle.readline()
    return line if line.lstrip().startswith("#") else ""
