"""Normal equations of data sets, streaming over their frames on all cores."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import numpy as np
from tqdm import tqdm

from openmm_duality.inference.design import Design
from openmm_duality.inference.equations import NormalEquations
from openmm_duality.inference.layout import FloatArray, IntArray
from openmm_duality.inference.settings import Settings
from openmm_duality.inference.targets import DataSet, Sample, count_samples, samples

MOST_WORKERS = 8  # frames in flight at once, which bounds the memory


def accumulate(
    sets: Sequence[DataSet], species: tuple[str, ...], design: Design, settings: Settings, progress: bool
) -> tuple[list[list[NormalEquations]], float]:
    """Normal equations of every fold and problem, and the largest force on an agent.

    A fold is a contiguous block of time of every data set. Frames are taken in as many at a time as there are cores;
    their order, and so the result, does not depend on that.

    Returns
    -------
    folds : list of lists of NormalEquations
        By fold, then by problem of the layout.
    largest : float
        In kJ/mol/nm.
    """
    layout = design.layout
    folds = [[NormalEquations.empty(layout.size(p)) for p in layout.problems] for _ in range(settings.blocks)]
    counts = [count_samples(s.frames) for s in sets]
    workers = min(_cores(), MOST_WORKERS)
    largest = 0.0
    bar = tqdm(total=sum(counts), desc="design equations", unit="frame", disable=None if progress else True)
    with ThreadPoolExecutor(workers) as pool, bar:
        for data, count in zip(sets, counts, strict=True):
            kinds = np.array([species.index(name) for name in data.frames.species], dtype=np.int64)
            number = 0
            for batch in _batches(samples(data.frames), workers):
                for sample, rows in zip(batch, pool.map(lambda s, k=kinds: _rows(design, s, k), batch), strict=True):
                    squared = np.sum(sample.target**2, axis=1)
                    largest = max(largest, float(np.sqrt(squared.max())))
                    weights = data.weight / (1.0 + squared / settings.large_force**2)
                    fold = folds[number * settings.blocks // count]
                    for equations, problem, x in zip(fold, layout.problems, rows, strict=True):
                        mine = np.isin(kinds, problem)
                        targets = sample.target[mine].ravel()
                        equations.add(x.reshape(-1, layout.size(problem)), targets, np.repeat(weights[mine], 3))
                    number += 1
                    bar.update()
    return folds, largest


def _cores() -> int:
    """Those that this process may use, where the system tells."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _batches(items: Iterator[Sample], size: int) -> Iterator[list[Sample]]:
    while batch := list(islice(items, size)):
        yield batch


def _rows(design: Design, sample: Sample, kinds: IntArray) -> list[FloatArray]:
    """The rows of every problem, averaged over the configurations of the sample."""
    total: list[FloatArray] = []
    for share, positions, cell in sample.configurations:
        parts = [share * part for part in design.rows(positions, cell, kinds)]
        total = [a + b for a, b in zip(total, parts, strict=True)] if total else parts
    return total
