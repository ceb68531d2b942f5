"""Blocks of an XYZ file as CP2K writes them, read one at a time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from openmm_duality.errors import DualityError
from openmm_duality.files import UNREADABLE, open_text
from openmm_duality.geometry.arrays import FloatArray

_MOST_ATOMS = 10**8
_STEP = re.compile(r"\bi\s*=\s*(\d+)")
_TIME = re.compile(r"\btime\s*=\s*([-+.\dEeDd]+)")
_ENERGY = re.compile(r"\bE\s*=\s*([-+.\dEeDd]+)")


@dataclass(frozen=True)
class Block:
    """One block: the numbers in its comment line, and its three columns.

    Parameters
    ----------
    step : int
        Behind ``i =``.
    time : float or None
        Behind ``time =``, in fs.
    energy : float or None
        Behind ``E =``, in Hartree.
    labels : tuple of str, length N
        The first column.
    values : array, shape (N, 3)
        As written, in the file's own unit.
    """

    step: int
    time: float | None
    energy: float | None
    labels: tuple[str, ...]
    values: FloatArray


def blocks(path: Path) -> Iterator[Block]:
    """The blocks of a CP2K XYZ file, plain or compressed.

    Every block must hold the atoms of the first one in the same order.

    Raises
    ------
    DualityError
        If the file is cut short or damaged, has no step numbers, or holds a value that is not finite.
    """
    last: int | None = None
    first: tuple[str, ...] | None = None
    with open_text(path) as handle:
        while True:
            try:
                count = handle.readline()
                if not count.strip():
                    if handle.read().strip():
                        raise _damaged(path, last, "an empty line stands where the number of atoms was expected")
                    break
                comment, rows = handle.readline(), list(islice(handle, _number(path, count, last)))
            except UNREADABLE as error:
                raise _damaged(path, last, f"the file cannot be read any further ({error})") from None
            block = _parse(path, int(count), comment, rows, last)
            if first is not None and block.labels != first:
                raise DualityError(
                    f"{path}: the block of step {block.step} has other atoms, or another order of atoms, than the "
                    "first; all blocks must have the same"
                )
            first, last = block.labels, block.step
            yield block
    if last is None:
        raise DualityError(f"{path}: the file is empty; expected blocks of an XYZ trajectory")


def first_labels(path: Path, with_steps: bool = True) -> tuple[str, ...]:
    """The labels in the first block of an XYZ file (`with_steps`: as CP2K writes it; else any XYZ file)."""
    if with_steps:
        return next(blocks(path)).labels
    try:
        with open_text(path) as handle:
            count = _number(path, handle.readline(), None)
            handle.readline()
            labels = tuple(row.split()[0] for row in islice(handle, count) if row.strip())
    except UNREADABLE as error:
        raise _damaged(path, None, f"the file cannot be read any further ({error})") from None
    if len(labels) != count:
        raise _damaged(path, None, f"the first block should have {count} atoms and has {len(labels)}")
    return labels


def _parse(path: Path, count: int, comment: str, rows: list[str], last: int | None) -> Block:
    if len(rows) < count or not rows[-1].endswith("\n"):
        # A last line without its line end may be cut in the middle of a number, and would still read as one.
        raise _damaged(path, last, f"the next block should have {count} atoms and ends after {len(rows)} lines")
    found = _STEP.search(comment)
    if found is None:
        raise DualityError(
            f"{path}: no step number ('i = …') in the comment line {comment.strip()!r}; expected a file as CP2K writes "
            "it (an extended XYZ file is read by its own name, not as a CP2K project)"
        )
    step = int(found[1])
    words = " ".join(rows).split()
    try:
        table = np.array(words).reshape(count, 4)
        values = table[:, 1:].astype(np.float64)
    except ValueError:
        raise _damaged(path, last, f"the block of step {step} is not a label and three numbers in every line") from None
    if not np.isfinite(values).all():
        atom = int(np.argwhere(~np.isfinite(values))[0, 0])
        raise DualityError(
            f"{path}: the value of atom {atom + 1} at step {step} is not a finite number ({' '.join(table[atom])}); "
            "the run that wrote it went wrong there: leave out these steps"
        )
    return Block(step, _float(_TIME, comment), _float(_ENERGY, comment), tuple(words[::4]), values)


def _float(pattern: re.Pattern[str], comment: str) -> float | None:
    found = pattern.search(comment)
    if found is None:
        return None
    try:
        return float(found[1].lower().replace("d", "e"))
    except ValueError:
        return None


def _number(path: Path, line: str, last: int | None) -> int:
    try:
        count = int(line)
    except ValueError:
        count = 0
    if not 1 <= count <= _MOST_ATOMS:
        raise _damaged(path, last, f"the number of atoms was expected and {line.strip()[:60]!r} was found")
    return count


def _damaged(path: Path, last: int | None, what: str) -> DualityError:
    intact = "no block before it is complete" if last is None else f"the last complete block is that of step {last}"
    return DualityError(
        f"{path}: the file is cut short or damaged: {what}; {intact}. Copy the file again, or cut it off after "
        "that block"
    )
