"""Changes of the curvature of the losses on the way out of the data, from displaced training frames without labels.

Nothing in the data determines a polynomial of the moments where no frame has been: beside a training frame q it may
have a hole into which a bond breaks. The second difference of the forces, F(q + d) + F(q − d) − 2 F(q), for random
displacements d that leave the data, is a change of the curvature of the sum of losses, and linear in the coefficients.
As a penalty it continues the losses harmonically, as far as the data do not say otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from openmm_duality.geometry.arrays import FloatArray, IntArray
from openmm_duality.geometry.pairs import pair_vectors_within
from openmm_duality.inference.equations.accumulation import RowBuffer
from openmm_duality.inference.equations.design import Design
from openmm_duality.inference.equations.solution import NormalEquations
from openmm_duality.inference.equations.targets import DataSet, indices_of
from openmm_duality.invariants.neighbours import find_neighbours
from openmm_duality.parallel import on_all_cores
from openmm_duality.progress import progress_bar
from openmm_duality.reference.frames import Frames, evenly_spaced
from openmm_duality.reference.molecules import molecules_of

_DISPLACEMENTS = (0.1, 0.4)  # standard deviation of a component, relative to the nearest distance
ROWS_PER_COLUMN = 1.5
_PER_FRAME = 2  # displacements of every frame: of atoms and of molecules
_SEED = 0
_ROUNDING = 1e-10  # of the diagonal, added to it, so that the matrix is positive definite in spite of rounding

Configuration = tuple[FloatArray, FloatArray | None, IntArray, Sequence[FloatArray]]


def displaced_configurations(
    sets: Sequence[DataSet], species: tuple[str, ...], n_rows: float, cutoff: float
) -> list[Configuration]:
    """Training frames, evenly spaced over the data, with random displacements of atoms and of molecules.

    Parameters
    ----------
    sets : sequence of DataSet
    species : tuple of str
        Names in the order of the species index.
    n_rows : float
        Number of rows that the frames should give; there is at least one frame of every composition of every set.
    cutoff : float
        In nm.

    Returns
    -------
    list of (positions in nm, cell or None, species index, two displacements in nm)
        In the first displacement all atoms move alone; in the second, where there are several molecules, each of them
        moves as a whole.
    """
    rng = np.random.default_rng(_SEED)
    found: list[Configuration] = []
    for _, part, times in chosen_frames(sets, n_rows, _PER_FRAME):
        atoms, molecule = np.arange(part.n_atoms), np.zeros(part.n_atoms, dtype=np.int64)
        for k, members in enumerate(molecules_of(part)):
            molecule[members] = k
        bodies = (atoms, molecule if molecule.any() else atoms)
        species_index = indices_of(part.species, species)
        for t in times:
            positions, cell = part.positions[t], part.cell(t)
            i, j, r, _ = pair_vectors_within(positions, cell, cutoff, full_list=True)
            moves = [_displacements(i, j, r, body, cutoff, rng) for body in bodies]
            found.append((positions, cell, species_index, moves))
    return found


def chosen_frames(sets: Sequence[DataSet], n_rows: float, per_frame: int) -> list[tuple[DataSet, Frames, list[int]]]:
    """Evenly spaced frames of data, as their set, a part of it and the numbers of frames of this part.

    Parameters
    ----------
    sets : sequence of DataSet
    n_rows : float
        Number of rows of forces that the frames should give; there is one frame of every composition of a set at least.
    per_frame : int
        Number of configurations that are made of a frame.
    """
    parts = [(number, part) for number, data in enumerate(sets) for part in data.frames.parts]
    share = min(1.0, n_rows / sum(3 * per_frame * len(part) * part.n_atoms for _, part in parts))
    alike: dict[tuple[int, tuple[str, ...]], list[int]] = {}  # parts of one set that differ in the order of atoms
    for k, (number, part) in enumerate(parts):
        alike.setdefault((number, tuple(sorted(part.species))), []).append(k)
    chosen: list[list[int]] = [[] for _ in parts]
    for members in alike.values():
        frames = [(k, t) for k in members for t in range(len(parts[k][1]))]
        for place in evenly_spaced(len(frames), max(1, round(share * len(frames)))):
            k, t = frames[place]
            chosen[k].append(t)
    return [(sets[number], part, times) for (number, part), times in zip(parts, chosen, strict=True) if times]


def _displacements(
    i: IntArray, j: IntArray, r: FloatArray, body: IntArray, cutoff: float, rng: np.random.Generator
) -> FloatArray:
    """Random displacements of atoms, each with its body (N,), by the nearest other body among pairs at distances r."""
    apart = body[i] != body[j]
    nearest = np.full(body.max() + 1, cutoff)
    np.minimum.at(nearest, body[i[apart]], r[apart])
    moves = rng.uniform(*_DISPLACEMENTS) * nearest[:, None] * rng.normal(size=(len(nearest), 3))
    return np.asarray(moves[body])


def second_differences(design: Design, configuration: Configuration) -> list[list[FloatArray]]:
    """Rows of F(q + d) + F(q − d) − 2 F(q), shape (R, P), by displacement and by group of the layout."""
    positions, cell, species_index, displacements = configuration

    def rows_at(where: FloatArray) -> list[FloatArray]:
        cutoff = design.pair_basis.grid.cutoff
        tables = find_neighbours(where, cell, species_index, design.layout.n_species, cutoff)
        return design.force_rows(tables, species_index)

    middle, found = rows_at(positions), []
    for d in displacements:
        ahead, behind = rows_at(positions + d), rows_at(positions - d)
        for a, b, c in zip(ahead, behind, middle, strict=True):
            a += b
            a -= 2.0 * c
        found.append([a.reshape(-1, a.shape[-1]) for a in ahead])
    return found


def curvature_changes(
    sets: Sequence[DataSet],
    species: tuple[str, ...],
    design: Design,
    progress: bool,
    at_once: int | None = None,
    rows_per_column: float = ROWS_PER_COLUMN,
) -> list[FloatArray]:
    """Mean squared changes of the curvature as matrices A by group: cᵀAc in (kJ/mol/nm)², shape (P, P).

    Parameters
    ----------
    sets : sequence of DataSet
    species : tuple of str
        Names in the order of the species index.
    design : Design
    progress : bool
        Whether to show the progress.
    at_once : int, optional
        Number of frames whose rows are computed at the same time; by default as many as there are threads.
    rows_per_column : float
        How many rows are computed for every coefficient.
    """
    layout = design.layout
    sizes = [layout.size(group) for group in layout.groups]
    sums = [NormalEquations.empty(size) for size in sizes]
    buffers = [RowBuffer([mine]) for mine in sums]
    n_rows = rows_per_column * max(sizes)
    chosen = displaced_configurations(sets, species, n_rows, design.pair_basis.grid.cutoff)
    with progress_bar(len(chosen), "displaced frames", show=progress) as bar:
        for by_displacement in on_all_cores(partial(second_differences, design), chosen, at_once):
            for by_group in by_displacement:
                for buffer, rows in zip(buffers, by_group, strict=True):
                    buffer.add(0, rows, np.zeros(len(rows)), np.ones(len(rows)))
            bar.update()
    for buffer in buffers:
        buffer.flush()
    for mine in sums:  # in place: another such matrix would be as large as a block of equations
        mine.mirror()
        mine.gram /= mine.weight or 1.0
        mine.gram[np.diag_indices(len(mine.gram))] *= 1.0 + _ROUNDING
    return [mine.gram for mine in sums]
