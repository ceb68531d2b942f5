"""What a task has done so far: parts, one per CP2K process, of which a killed one keeps what it finished.

A part is a folder ``parts/0000``, made whole and then moved to its name. CP2K runs in it. When CP2K has ended, or on
the next call after a kill, a record ``part.json`` says what of it counts; until then the part is open.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from openmm_duality.errors import DualityError
from openmm_duality.files import atomic_write
from openmm_duality.reference.cp2k_xyz import Block, blocks

_RECORD = "part.json"
_LOOP = re.compile(r"outer SCF loop (converged|FAILED to converge)")


@dataclass(frozen=True)
class Part:
    """A part whose record is written: its folder and its record."""

    folder: Path
    record: dict[str, Any]


def closed_parts(task: Path) -> list[Part]:
    """The parts with a record, in order."""
    return [Part(f, json.loads((f / _RECORD).read_text())) for f in _folders(task) if (f / _RECORD).is_file()]


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


def close_part(folder: Path, record: dict[str, Any]) -> None:
    """Write the record of an open part."""
    with atomic_write(folder / _RECORD) as temporary:
        temporary.write_text(json.dumps(record) + "\n")


def drop_part(folder: Path) -> None:
    """Remove an open part of which nothing counts."""
    gone = folder.with_name(".old")
    shutil.rmtree(gone, ignore_errors=True)
    os.replace(folder, gone)
    shutil.rmtree(gone)


def whole_blocks(path: Path) -> Iterator[Block]:
    """The blocks of a coordinate file up to the first that is not whole, as a kill may leave it."""
    if not path.is_file():
        return
    try:
        yield from blocks(path)
    except DualityError:
        return


def whole_rows(path: Path, columns: int) -> Iterator[str]:
    """The rows of a table up to the first that is not whole; comment lines are left out."""
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


def converged(output: Path) -> list[bool]:
    """Of every self-consistent iteration an output tells of, in order, whether it converged."""
    if not output.is_file():
        return []
    return [found == "converged" for found in _LOOP.findall(output.read_text(errors="replace"))]


def aborted(output: Path) -> bool:
    """Whether CP2K ended itself with a message, rather than being killed."""
    return output.is_file() and "[ABORT]" in output.read_text(errors="replace")


def count(items: Iterator[Any], limit: int) -> int:
    """How many there are, at most `limit`."""
    return sum(1 for _ in islice(items, limit))


def counter(path: Path, pattern: bytes) -> Callable[[], int]:
    """Counts a pattern in a growing file, reading only what is new at every call; for progress bars."""
    seen = [0, 0]

    def look() -> int:
        if path.is_file():
            with open(path, "rb") as handle:
                handle.seek(seen[0])
                new = handle.read()
            seen[0] += len(new)
            seen[1] += new.count(pattern)
        return seen[1]

    return look


def _folders(task: Path) -> list[Path]:
    place = task / "parts"
    return sorted(f for f in place.iterdir() if f.name.isdigit()) if place.is_dir() else []
