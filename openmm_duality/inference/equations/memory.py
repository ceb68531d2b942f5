"""Memory of an inference: estimated before it is taken, and kept within a bound.

Most of it are the Gram matrices of P² numbers, one for each block of time and a few for the solution, and the rows of
the frames that are computed at the same time. If these do not fit, there are fewer blocks, then the blocks are kept in
a temporary file, then fewer frames are computed at the same time, then the mixing of channels is not learned, if the
user did not ask for it; otherwise the inference is refused.
"""

from __future__ import annotations

import tracemalloc
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from openmm_duality.errors import DualityError
from openmm_duality.inference.equations.accumulation import BATCH, MIN_FOLDS, Storage, sample_rows
from openmm_duality.inference.equations.design import Design
from openmm_duality.inference.equations.displaced_frames import displaced_configurations, second_differences
from openmm_duality.inference.equations.energies import EnergyReference
from openmm_duality.inference.equations.mixing import joint_layout
from openmm_duality.inference.equations.settings import Settings
from openmm_duality.inference.equations.solution import PANEL
from openmm_duality.inference.equations.targets import DataSet, indices_of, samples
from openmm_duality.parallel import usable_threads
from openmm_duality.system_memory import available_memory, format_size, temporary_space

SHARE = 0.6  # of the available memory that is used at most, unless the settings say
_NUMBER = 8  # bytes
_LARGEST = 3  # items in a message


@dataclass(frozen=True)
class MemoryPlan:
    """Memory that an inference takes beside what the process uses already, and how it stores its blocks.

    The evaluation of frames by the finished model, tens of MiB for every thread, is not part of it.

    Parameters
    ----------
    storage : Storage
    columns : tuple of int
        Number of columns of every group.
    blocks, total, copies, stored, rows, mixing : int
        Bytes of the Gram matrices of the blocks, of their sums and those of displaced and synthetic frames, of what the
        solution needs beside them, of the equations kept in the model, of the rows of the frames that are computed at
        the same time, and of the equations of the mixing of channels, before all these.
    bound : int
        Bytes that may be used.
    """

    storage: Storage
    columns: tuple[int, ...]
    blocks: int
    total: int
    copies: int
    stored: int
    rows: int
    mixing: int
    bound: int

    @property
    def peak(self) -> int:
        """Largest number of bytes used at a time."""
        blocks = 0 if self.storage.on_disk else self.blocks
        return max(self.mixing, blocks + self.total + max(self.copies + self.stored, self.rows))

    @property
    def items(self) -> dict[str, int]:
        """Bytes by item, the largest first, without those that take nothing."""
        columns = " and ".join(f"{p:,} × {p:,}" for p in sorted(set(self.columns)))
        found = {
            f"{_number(self.storage.n_blocks, 'block')} of {columns}": 0 if self.storage.on_disk else self.blocks,
            "their sums and copies for the solution": self.total + self.copies,
            "equations kept in the model": self.stored,
            f"rows of {_number(self.storage.at_once or 1, 'frame')} at the same time": self.rows,
            "before, the mixing of channels": self.mixing,
        }
        return {name: size for name, size in sorted(found.items(), key=lambda item: -item[1]) if size}

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain values, in bytes."""
        items = {name: getattr(self, name) for name in ("blocks", "total", "copies", "stored", "rows", "mixing")}
        s = self.storage
        storage = {"n_blocks": s.n_blocks, "on_disk": s.on_disk, "frames_at_once": s.at_once}
        return {"estimate": self.peak, "bound": self.bound, "columns": list(self.columns), **storage, "items": items}

    def __str__(self) -> str:
        items = "; ".join(f"{name}: {format_size(size)}" for name, size in self.items.items())
        disk = f"; blocks in a temporary file: {format_size(self.blocks)}" if self.storage.on_disk else ""
        return f"memory: about {format_size(self.peak)}, at most {format_size(self.bound)} ({items}{disk})"


def plan_memory(
    sets: Sequence[DataSet],
    species: tuple[str, ...],
    design: Design,
    settings: Settings,
    reference: EnergyReference,
    *,
    least_blocks: int,
    n_synthetic: int,
) -> MemoryPlan:
    """Choose how to store the blocks of an inference so that its memory stays within the bound of the settings.

    The rows of the largest frame are computed once to see what they need.

    Parameters
    ----------
    sets, species, design, settings, reference
        As for `accumulate`.
    least_blocks : int
        Number of blocks below which the inference cannot do what it should: that of a cross-validation or of a
        committee, or 1 if neither is wanted, so that no others are made.
    n_synthetic : int
        Number of penalties on errors in synthetic frames.

    Raises
    ------
    DualityError
        If the memory does not suffice.
    """
    layout = design.layout
    bound = settings.memory or int(SHARE * available_memory())
    columns = tuple(layout.size(group) for group in layout.groups)
    squares = [_NUMBER * p**2 for p in columns]
    selected = settings.max_coefficients is not None
    copies = (2 if selected else 1) * max(squares)
    if least_blocks > 1:  # the equations of a member; or a fold, the others, and their scaled equations
        copies = max(copies + sum(squares), 3 * max(squares))
    n_penalties = len(settings.symmetry_strengths)
    if n_penalties or n_synthetic:  # matrices of penalties on symmetries, and the product that is added to one
        copies += (1 + n_penalties) * max(squares)
    n_sums = 1 + bool(design.channels) + n_synthetic  # of the frames, of displaced and of synthetic ones
    stored = n_sums * sum(squares) // 2 if settings.keep_equations else 0
    learned = settings.most_mixing_steps > 0
    disk = temporary_space()
    plan = None
    of_frame, adding = _bytes_of_rows(sets, species, design, settings, reference, bound - sum(squares))
    for with_mixing in (True, False) if learned and settings.mixing_steps is None else (learned,):
        needed = 0 if plan is None else plan.mixing  # which did not fit
        for storage in _storages(settings, least_blocks):
            blocks, rows = storage.n_blocks * sum(squares), (storage.at_once or 1) * of_frame + adding
            mixing = _mixing_memory(design, 2 * rows) if with_mixing else 0  # there are up to twice as many columns
            plan = MemoryPlan(storage, columns, blocks, n_sums * sum(squares), copies, stored, rows, mixing, bound)
            if plan.peak <= bound and (not storage.on_disk or plan.blocks <= SHARE * disk):
                if needed:
                    warnings.warn(_without_mixing(needed, bound), stacklevel=3)
                return plan
    assert plan is not None
    raise DualityError(_refusal(plan, settings, disk))


def _without_mixing(needed: int, bound: int) -> str:
    return (
        f"the mixing of channels is not learned, since that needs {format_size(needed)} of memory, and at most "
        f"{format_size(bound)} may be used; errors are larger for that. Allow more with memory (--memory), choose a "
        "smaller size (--size), or say mixing_steps: 0 in a configuration"
    )


def _mixing_memory(design: Design, rows: int) -> int:
    """Bytes of learning the mixing of channels, whose rows take so many bytes.

    The Gram matrices are those of the last fold, of the others, of both, and of displaced frames; beside them are the
    scaled equations of a group and the penalty that is added to them, or the rows.
    """
    layout = joint_layout(design)
    squares = [_NUMBER * layout.size(group) ** 2 for group in layout.groups]
    return 4 * sum(squares) + max(2 * max(squares), rows)


def _storages(settings: Settings, least_blocks: int) -> Iterator[Storage]:
    """Storages in order of preference."""
    full = Storage.of(settings) if least_blocks > 1 else Storage(1, 1)
    fewest = min(full.folds, max(-(-least_blocks // full.per_fold), MIN_FOLDS))
    numbers = range(full.folds, fewest - 1, -1)
    for at_once in range(usable_threads(), 0, -1):
        for on_disk in (False, True):
            yield from (Storage(folds, full.per_fold, on_disk, at_once) for folds in numbers)


def _bytes_of_rows(
    sets: Sequence[DataSet],
    species: tuple[str, ...],
    design: Design,
    settings: Settings,
    reference: EnergyReference,
    most: int,
) -> tuple[int, int]:
    """Bytes of computing the rows of the largest frame, and of adding them to the equations.

    The first is a lower bound, without computing any, if that exceeds `most` already.
    """
    largest = max((part for data in sets for part in data.frames.parts), key=lambda part: part.n_atoms)
    layout = design.layout
    index = indices_of(largest.species, species)
    collective = len(layout.groups) == 1
    n_rows = [3 * (largest.n_atoms if collective else int(np.isin(index, g).sum())) for g in layout.groups]
    rows = _NUMBER * sum(n * layout.size(group) for n, group in zip(n_rows, layout.groups, strict=True))
    wide = _NUMBER * max(map(layout.size, layout.groups))
    # rows that were handed on, those that wait, and their weighted copies; a panel that is mirrored
    most_rows = max(n_rows)
    adding = wide * (2 * most_rows if most_rows >= BATCH else 3 * (BATCH + most_rows)) + _NUMBER * PANEL
    if rows + adding > most:
        return rows, adding
    sample = next(iter(samples(largest)))
    with_virial = bool(settings.stress_weight)
    peak = _traced_peak(lambda: sample_rows(design, species, reference.used, with_virial, sample))
    if design.channels:
        (displaced,) = displaced_configurations([DataSet(largest[:1])], species, 1, design.pair_basis.grid.cutoff)
        peak = max(peak, _traced_peak(lambda: second_differences(design, displaced)))
    return peak, adding


def _traced_peak(call: Callable[[], object]) -> int:
    """Largest number of bytes that a call has allocated at a time."""
    tracing = tracemalloc.is_tracing()
    if not tracing:
        tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        call()
        return max(0, tracemalloc.get_traced_memory()[1] - before)
    finally:
        if not tracing:
            tracemalloc.stop()


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _refusal(plan: MemoryPlan, settings: Settings, disk: int) -> str:
    """What does not fit, and which settings to change."""
    items = "; ".join(f"{name}: {format_size(size)}" for name, size in list(plan.items.items())[:_LARGEST])
    sizes = (
        ("a smaller size (--size; or, in a configuration, fewer channels, invariants, pair_functions or mixing_steps)",)
        if settings.agent_form.channels
        else ("fewer functions", *(("fewer coarse_functions",) if settings.agent_form.coupled else ()))
    )
    changes = ["smaller frames"] if plan.rows > plan.total + plan.copies else []
    changes += [*sizes, "members: 0 (in a configuration)"] if settings.members else sizes
    spared = _number(plan.storage.n_blocks, "block")
    if plan.storage.on_disk:
        spared += f" in a temporary file ({format_size(plan.blocks)}, of {format_size(disk)} that are free on disk)"
    return (
        f"the inference needs about {format_size(plan.peak)} of memory even with {spared} ({items}), but at most "
        f"{format_size(plan.bound)} may be used; choose {', '.join(changes)}, or allow more with memory (--memory)"
    )
