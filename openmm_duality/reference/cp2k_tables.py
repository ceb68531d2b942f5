"""Tables that CP2K writes, a row per step, and the rows that count where a restart went back."""

from __future__ import annotations

import warnings
from collections import Counter
from pathlib import Path

import numpy as np

from openmm_duality.errors import DualityError
from openmm_duality.files import UNREADABLE, open_text
from openmm_duality.geometry.arrays import FloatArray, IntArray


def read_table(path: Path, columns: int) -> FloatArray:
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


def latest(steps: IntArray) -> IntArray:
    """Rows whose step number no later row reaches or undercuts, ascending: those that count after restarts."""
    least_behind = np.append(np.minimum.accumulate(steps[::-1])[::-1][1:], np.iinfo(np.int64).max)
    return np.flatnonzero(steps < least_behind)


def unique_keys(steps: IntArray) -> IntArray:
    """Step numbers made unique: REFTRAJ may number two frames alike, the first (always 1) and a later one."""
    seen: Counter[int] = Counter()
    occurrence = np.zeros(len(steps), dtype=np.int64)
    for k, step in enumerate(steps.tolist()):
        occurrence[k] = seen[step]
        seen[step] += 1
    return steps + (occurrence << 40)


def rows_of(steps: IntArray, keys: IntArray) -> list[int] | None:
    """Rows of the keys in a table, or None unless all are in it."""
    where = {int(key): row for row, key in enumerate(unique_keys(steps))}
    return [where[int(key)] for key in keys] if all(int(key) in where for key in keys) else None
