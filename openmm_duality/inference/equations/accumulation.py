"""Accumulation of the normal equations of data sets, frame by frame on all cores."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import chain

import numpy as np

from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.inference.equations.design import Design
from openmm_duality.inference.equations.energies import EnergyReference, energy_weight
from openmm_duality.inference.equations.settings import Settings
from openmm_duality.inference.equations.solution import NormalEquations
from openmm_duality.inference.equations.targets import (
    DataSet,
    Sample,
    agent_weights,
    indices_of,
    sample_numbers,
    samples,
)
from openmm_duality.inference.equations.virials import MULTIPLICITY, components, virial_rows
from openmm_duality.invariants.neighbours import find_neighbours
from openmm_duality.parallel import on_all_cores
from openmm_duality.progress import progress_bar

BLOCKS_PER_FOLD = 2  # if a committee is drawn from the blocks
MIN_FOLDS, MIN_BLOCKS = 2, 4  # of a cross-validation, and of a committee
BATCH = 512  # rows collected before they are added to the equations


@dataclass(frozen=True)
class Storage:
    """Number of blocks of equations, where their Gram matrices are kept, and how many frames are added at a time.

    Parameters
    ----------
    folds : int
        Number of folds of the cross-validation.
    per_fold : int
        Number of successive blocks per fold.
    on_disk : bool
        Whether in a temporary file instead of memory.
    at_once : int or None
        Number of frames whose rows are computed at the same time; None for as many as there are threads.
    last_alone : bool
        Whether all folds but the last share one block, where that alone is held out.
    """

    folds: int
    per_fold: int
    on_disk: bool = False
    at_once: int | None = None
    last_alone: bool = False

    @classmethod
    def of(cls, settings: Settings) -> Storage:
        """Storage in memory of the blocks that the settings ask for."""
        return cls(settings.blocks, BLOCKS_PER_FOLD if settings.members else 1)

    @property
    def n_blocks(self) -> int:
        """Number of blocks."""
        return 2 if self.last_alone else self.folds * self.per_fold

    def block_of(self, number: int, count: int) -> int:
        """Index of the block that contains sample `number` of `count`."""
        if self.last_alone:
            return int(number >= count - max(count // self.folds, 1) > 0)
        return block_of(number, count, self.n_blocks)

    def empty(self, size: int) -> list[NormalEquations]:
        """Make empty equations of a given number of columns, one for each block."""
        if not self.on_disk:
            return [NormalEquations.empty(size) for _ in range(self.n_blocks)]
        with tempfile.TemporaryFile() as file:  # has no name, and goes with the last array of it
            if hasattr(os, "posix_fallocate"):  # a full disk is an error here, and would end the process later
                os.posix_fallocate(file.fileno(), 0, self.n_blocks * size**2 * 8)
            grams = np.memmap(file, np.float64, "w+", shape=(self.n_blocks, size, size))
        return [NormalEquations.empty(size, gram) for gram in grams]


@dataclass(frozen=True)
class BlockedEquations:
    """Normal equations by group of the layout, then by contiguous block of time (the k-th of all data sets together).

    Of several compositions a block has its share of each (see `mixed_frames.balanced`).

    Parameters
    ----------
    blocks : list of lists of NormalEquations
        By group, then by block; those of blocks without frames are empty.
    per_fold : int
        Number of successive blocks per fold of the cross-validation.
    largest_force : float
        Largest force on an agent, in kJ/mol/nm.
    seconds : dict of str to float
        Wall time spent waiting for the design ``rows`` and on their ``products``.
    """

    blocks: list[list[NormalEquations]]
    per_fold: int
    largest_force: float
    seconds: dict[str, float]

    @cached_property
    def totals(self) -> list[NormalEquations]:
        """Sums over all blocks, by group."""
        return [NormalEquations.sum_of(mine) for mine in self.blocks]

    @property
    def mean_square(self) -> float:
        """Mean square of the targets of all groups."""
        return sum(t.target_squares for t in self.totals) / sum(t.weight for t in self.totals)

    @property
    def folds(self) -> list[list[list[NormalEquations]]]:
        """Blocks of the folds of the cross-validation by group, without empty ones."""
        result = []
        for mine in self.blocks:
            runs = [mine[k : k + self.per_fold] for k in range(0, len(mine), self.per_fold)]
            filled = [[equations for equations in run if equations.weight > 0.0] for run in runs]
            result.append([run for run in filled if run])
        return result

    @property
    def filled(self) -> list[int]:
        """Indices of the blocks that contain rows of any group."""
        return [k for k, same in enumerate(zip(*self.blocks, strict=True)) if any(e.weight > 0.0 for e in same)]

    def relative_to(self, coefficients: Sequence[FloatArray]) -> BlockedEquations:
        """Equations of the differences from the coefficients (P,) of a prior model, by group."""
        pairs = zip(self.blocks, coefficients, strict=True)
        return replace(self, blocks=[[equations.relative_to(start) for equations in mine] for mine, start in pairs])


def block_of(number: int, count: int, n_blocks: int) -> int:
    """Index of the block of time that contains sample `number` of `count`."""
    return number * n_blocks // count


def accumulate(
    sets: Sequence[DataSet],
    species: tuple[str, ...],
    design: Design,
    settings: Settings,
    reference: EnergyReference,
    progress: bool,
    storage: Storage | None = None,
    *,
    every: int = 1,
    title: str = "design equations",
) -> BlockedEquations:
    """Accumulate the normal equations of data sets.

    The order of summation, and so the result, does not depend on the number of cores.

    Parameters
    ----------
    sets : sequence of DataSet
    species : tuple of str
        Names in the order of the species index.
    design : Design
    settings : Settings
    reference : EnergyReference
        What is subtracted from the energies.
    progress : bool
        Whether to show the progress.
    storage : Storage, optional
        By default in memory, with the blocks that the settings ask for.
    every : int
        Of each data set only the samples with numbers divisible by this are taken.
    title : str
        What the progress bar shows.
    """
    layout, storage = design.layout, storage or Storage.of(settings)
    blocks = [storage.empty(layout.size(group)) for group in layout.groups]
    forces = [RowBuffer(mine) for mine in blocks]
    energies, virials = (RowBuffer(blocks[0], set_scale=False) for _ in range(2))
    taken = [sample_numbers(s.frames, every) for s in sets]
    largest, waiting, multiplying = 0.0, 0.0, 0.0
    with progress_bar(sum(map(len, taken)), title, show=progress) as bar:
        for data, numbers in zip(sets, taken, strict=True):
            rows_of = partial(sample_rows, design, species, reference.used, bool(settings.stress_weight))
            computed = on_all_cores(rows_of, samples(data.frames, numbers), storage.at_once)
            begin = time.perf_counter()
            for place, rows in zip(range(len(numbers)), computed, strict=True):
                ready, sample = time.perf_counter(), rows.sample
                species_index = indices_of(sample.species, species)
                squared = np.sum(sample.target**2, axis=1)
                largest = max(largest, float(np.sqrt(squared.max())))
                weights = agent_weights(squared, data.weight, settings.large_force)
                block = storage.block_of(place, len(numbers))
                for buffer, group, of_group in zip(forces, layout.groups, rows.forces, strict=True):
                    agents = np.isin(species_index, group)
                    of_forces = of_group.reshape(-1, layout.size(group))
                    buffer.add(block, of_forces, sample.target[agents].ravel(), np.repeat(weights[agents], 3))
                if rows.energy is not None and sample.energy is not None:
                    target = np.array([reference.target(sample.energy, species_index)])
                    weight = np.array([energy_weight(settings.energy_weight or 0.0, weights)])
                    energies.add(block, rows.energy[None], target, weight)
                if rows.virial is not None and sample.virial is not None:
                    weight = energy_weight(settings.stress_weight or 0.0, weights) * MULTIPLICITY
                    virials.add(block, rows.virial, components(sample.virial), weight)
                bar.update()
                waiting += ready - begin
                begin = time.perf_counter()
                multiplying += begin - ready
    for buffer in (*forces, energies, virials):
        buffer.flush()
    for one in chain.from_iterable(blocks):
        one.mirror()
    return BlockedEquations(blocks, storage.per_fold, largest, {"rows": waiting, "products": multiplying})


class RowBuffer:
    """Rows of small frames, collected for one product, because each product updates half a Gram matrix.

    The other half is to be mirrored after the last rows.

    Parameters
    ----------
    blocks : list of NormalEquations
    set_scale : bool
        As for `NormalEquations.add_rows`.
    """

    def __init__(self, blocks: list[NormalEquations], *, set_scale: bool = True) -> None:
        self._blocks, self._set_scale = blocks, set_scale
        self._block = -1
        self._waiting: list[tuple[FloatArray, FloatArray, FloatArray]] = []

    def add(self, block: int, rows: FloatArray, targets: FloatArray, weights: FloatArray) -> None:
        """Add rows, shape (R, P), with targets and weights, shape (R,), to a block."""
        if block != self._block:
            self.flush()
            self._block = block
        self._waiting.append((rows, targets, weights))
        if sum(len(waiting) for waiting, _, _ in self._waiting) >= BATCH:
            self.flush()

    def flush(self) -> None:
        """Add the rows that wait to the equations of their block."""
        if self._waiting:
            alone = len(self._waiting) == 1
            joined = self._waiting[0] if alone else map(np.concatenate, zip(*self._waiting, strict=True))
            self._waiting = []
            self._blocks[self._block].add_rows(*joined, set_scale=self._set_scale, mirrored=False)


@dataclass(frozen=True)
class SampleRows:
    """Design rows of a sample.

    Parameters
    ----------
    sample : Sample
    forces : list of arrays, shape (M, 3, P)
        By group, averaged over the configurations of the sample.
    energy : array, shape (P,), or None
    virial : array, shape (6, P), or None
    """

    sample: Sample
    forces: list[FloatArray]
    energy: FloatArray | None = None
    virial: FloatArray | None = None


def sample_rows(
    design: Design, species: tuple[str, ...], with_energy: bool, with_virial: bool, sample: Sample
) -> SampleRows:
    """Compute the rows of a sample: of its forces and, if they are wanted and in the data, of its energy and virial."""
    total: list[FloatArray] = []
    energy = virial = None
    species_index = indices_of(sample.species, species)
    for share, positions, cell in sample.configurations:
        cutoff = design.pair_basis.grid.cutoff
        tables = find_neighbours(positions, cell, species_index, design.layout.n_species, cutoff)
        rows = design.force_rows(tables, species_index)
        if len(sample.configurations) > 1:
            rows = [share * x for x in rows]
        total = [a + b for a, b in zip(total, rows, strict=True)] if total else rows
        if with_energy and sample.energy is not None:
            energy = design.energy_row(tables, species_index)
        if with_virial and sample.virial is not None:
            virial = virial_rows(design, tables, species_index)
    return SampleRows(sample, total, energy, virial)
