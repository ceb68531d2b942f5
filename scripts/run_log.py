"""Columns of the log of a run and their drift, for the other scripts."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

BLOCKS = 10


def columns(directory: Path, *names: str) -> list[np.ndarray]:
    """Columns of ``log.csv``, as arrays."""
    with open(directory / "log.csv") as file:
        rows = list(csv.DictReader(file))
    return [np.array([float(row[name]) for row in rows]) for name in names]


def drift(directory: Path, name: str, after: float = 0.0) -> tuple[float, float]:
    """Slope of a column per ps and its standard error, from the means of ten blocks of the rows after a time in ps.

    NaN where there are too few of them.
    """
    time, value = columns(directory, "time_ps", name)
    time, value = time[time > after], value[time > after]
    if len(time) < 2 * BLOCKS:
        return float("nan"), float("nan")
    x, y = (np.array([block.mean() for block in np.array_split(column, BLOCKS)]) for column in (time, value))
    (slope, _), covariance = np.polyfit(x, y, 1, cov=True)
    return float(slope), float(np.sqrt(covariance[0, 0]))
