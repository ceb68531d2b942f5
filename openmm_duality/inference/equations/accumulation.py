"""Normal equations of data sets, streaming over their frames on all cores."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from tqdm import tqdm

from openmm_duality.geometry.arrays import FloatArray, IntArray
from openmm_duality.inference.equations.design import Design
from openmm_duality.inference.equations.energies import composition, energy_row, energy_weight
from openmm_duality.inference.equations.solution import NormalEquations
from openmm_duality.inference.equations.targets import DataSet, Sample, count_samples, samples
from openmm_duality.inference.settings import Settings
from openmm_duality.parallel import on_all_cores

PARTS = 2  # per fold, where a committee is drawn from them


@dataclass(frozen=True)
class Accumulated:
    """Normal equations by problem of the layout, then by part, and what was seen on the way.

    A part is a contiguous block of time of every data set, and so is a fold, which is a few parts in a row.

    Parameters
    ----------
    parts : list of lists of NormalEquations
        Those of parts without frames are empty.
    per_fold : int
        Parts of a fold.
    largest_force : float
        On an agent, in kJ/mol/nm.
    seconds : dict of str to float
        Wall time of ``rows`` (as far as the rest waited for them) and of their ``products``.
    """

    parts: list[list[NormalEquations]]
    per_fold: int
    largest_force: float
    seconds: dict[str, float]

    @property
    def folds(self) -> list[list[NormalEquations]]:
        """The folds of every problem; those without rows are left out."""
        result = []
        for mine in self.parts:
            groups = [mine[k : k + self.per_fold] for k in range(0, len(mine), self.per_fold)]
            folds = [sum(group[1:], group[0]) for group in groups]
            result.append([equations for equations in folds if equations.weight > 0.0])
        return result

    def totals(self) -> list[NormalEquations]:
        """The sum over the parts, by problem."""
        return [sum(mine[1:], mine[0]) for mine in self.parts]


def filled(parts: Sequence[Sequence[NormalEquations]]) -> list[int]:
    """The parts that hold rows of any problem, of equations by problem, then by part."""
    return [k for k, same in enumerate(zip(*parts, strict=True)) if any(e.weight > 0.0 for e in same)]


def part_of(number: int, count: int, parts: int) -> int:
    """The part that a sample of a data set belongs to, by its number among so many."""
    return number * parts // count


def accumulate(
    sets: Sequence[DataSet],
    species: tuple[str, ...],
    design: Design,
    settings: Settings,
    zeros: Mapping[str, float],
    progress: bool,
) -> Accumulated:
    """Normal equations of data sets.

    The order in which frames are taken in, and so the result, does not depend on the number of cores.

    Parameters
    ----------
    sets : sequence of DataSet
    species : tuple of str
        In the order of the species index.
    design : Design
    settings : Settings
    zeros : mapping of str to float
        From compositions to the energies (kJ/mol) that targets are taken from, in the order of the constants of the
        layout; empty for a fit without energies.
    progress : bool
        Whether to show a bar.
    """
    layout = design.layout
    per_fold = PARTS if settings.members else 1
    n_parts = settings.blocks * per_fold
    parts = [[NormalEquations.empty(layout.size(p)) for _ in range(n_parts)] for p in layout.problems]
    counts = [count_samples(s.frames) for s in sets]
    largest, waiting, multiplying = 0.0, 0.0, 0.0
    bar = tqdm(total=sum(counts), desc="design equations", unit="frame", disable=None if progress else True)
    with bar:
        for data, count in zip(sets, counts, strict=True):
            species_index = np.array([species.index(name) for name in data.frames.species], dtype=np.int64)
            name = composition(data.frames.species)
            constant = list(zeros).index(name) if name in zeros else None
            found = on_all_cores(partial(sample_rows, design, species_index, constant), samples(data.frames))
            begun = time.perf_counter()
            for number, (sample, rows, energy) in enumerate(found):
                ready = time.perf_counter()
                squared = np.sum(sample.target**2, axis=1)
                largest = max(largest, float(np.sqrt(squared.max())))
                weights = data.weight / (1.0 + squared / settings.large_force**2)
                block = part_of(number, count, n_parts)
                for mine, problem, x in zip(parts, layout.problems, rows, strict=True):
                    agents = np.isin(species_index, problem)
                    x = x.reshape(-1, layout.size(problem))
                    mine[block].add(x, sample.target[agents].ravel(), np.repeat(weights[agents], 3))
                if energy is not None and sample.energy is not None:
                    target = np.array([sample.energy - zeros[name]])
                    weight = np.array([energy_weight(settings.energy_weight, weights)])
                    parts[0][block].add_energies(energy[None], target, weight)
                bar.update()
                waiting += ready - begun
                begun = time.perf_counter()
                multiplying += begun - ready
    return Accumulated(parts, per_fold, largest, {"rows": waiting, "products": multiplying})


def sample_rows(
    design: Design, species_index: IntArray, constant: int | None, sample: Sample
) -> tuple[Sample, list[FloatArray], FloatArray | None]:
    """The sample, its rows of every problem, averaged over its configurations, and that of its energy."""
    total: list[FloatArray] = []
    for share, positions, cell in sample.configurations:
        parts = [share * part for part in design.rows(positions, cell, species_index)]
        total = [a + b for a, b in zip(total, parts, strict=True)] if total else parts
    if constant is None or sample.energy is None:
        return sample, total, None
    _, positions, cell = sample.configurations[0]
    return sample, total, energy_row(design, positions, cell, species_index, constant)
