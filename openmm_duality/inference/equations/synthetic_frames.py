"""Synthetic frames, which the data lack: of which frames they are made, and the penalties on errors of their forces."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from openmm_duality.inference.equations.accumulation import Storage, accumulate
from openmm_duality.inference.equations.design import Design
from openmm_duality.inference.equations.displaced_frames import chosen_frames
from openmm_duality.inference.equations.energies import EnergyReference
from openmm_duality.inference.equations.penalties import Penalty
from openmm_duality.inference.equations.settings import Settings
from openmm_duality.inference.equations.targets import DataSet, parts_of
from openmm_duality.reference.frames import Frames, evenly_spaced
from openmm_duality.reference.mixed_frames import joined

_ROWS_PER_COLUMN, _LEAST_ROWS = 10.0, 5000.0
_REPEATS = 10  # at most, of one frame
_LOOKED_AT = 5  # frames of a part


def frames_to_change(
    sets: Sequence[DataSet], suits: Callable[[Frames, int], bool], design: Design
) -> tuple[list[tuple[DataSet, Frames, list[int]]], int]:
    """Frames of the data as `chosen_frames` gives them, and how often each is to be changed, up to ten times.

    Parameters
    ----------
    sets : sequence of DataSet
    suits : callable
        Whether a frame can be changed, by the frames of one composition, a part of a set, and its number; of each part
        up to five are asked for, of which one suffices.
    design : Design
        For each of its columns there should be ten rows of forces.
    """

    def is_suited(part: Frames) -> bool:
        looked_at = evenly_spaced(len(part), _LOOKED_AT).tolist()
        return part.forces is not None and any(suits(part, t) for t in looked_at)

    suited = []
    for data in sets:
        parts = [part for part in data.frames.parts if is_suited(part)]
        suited += [replace(data, frames=joined(parts))] if parts else []
    if not suited:
        return [], 0
    n_rows = max(_LEAST_ROWS, _ROWS_PER_COLUMN * max(design.layout.size(group) for group in design.layout.groups))
    rows = sum(3 * part.n_atoms * len(part) for part in parts_of(suited))
    repeats = int(np.clip(np.ceil(n_rows / rows), 1, _REPEATS))
    sample = chosen_frames(suited, n_rows, repeats)
    rows = sum(3 * part.n_atoms * len(times) for _, part, times in sample)
    if rows > 2.0 * n_rows / repeats:  # there are many compositions, and a frame of each
        sample = [sample[k] for k in evenly_spaced(len(sample), max(1, int(len(sample) * n_rows / repeats / rows)))]
    return sample, repeats


def penalties_on_errors(
    synthetic: Mapping[str, Sequence[DataSet]],
    species: tuple[str, ...],
    design: Design,
    settings: Settings,
    progress: bool,
    storage: Storage,
) -> list[tuple[Penalty, ...]]:
    """Mean squared errors of the forces in synthetic frames, by group the penalties of their names.

    Parameters
    ----------
    synthetic : mapping of str to sequence of DataSet
        By the name of the penalty; none where there are no sets.
    species : tuple of str
        Names in the order of the species index.
    design, settings
        As for `accumulate`.
    progress : bool
        Whether to show a progress bar.
    storage : Storage
        Of the equations of the data, whose frames are computed as many at a time.
    """
    by_group: list[tuple[Penalty, ...]] = [() for _ in design.layout.groups]
    forces, one_block = replace(settings, energy_weight=0.0, stress_weight=0.0), replace(storage, folds=1, per_fold=1)
    none = EnergyReference.none(species)
    for name, sets in synthetic.items():
        found = accumulate(sets, species, design, forces, none, progress, one_block, title=name).totals if sets else ()
        for k, one in enumerate(found):
            if one.weight:
                one.gram /= one.weight  # in place: another such matrix would be as large as a block of equations
                by_group[k] += (Penalty(name, one.gram, one.rhs / one.weight),)
    return by_group
