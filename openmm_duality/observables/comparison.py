"""A run held against a reference: the same analyses of both, and whether they differ by more than their errors."""

from __future__ import annotations

from functools import reduce
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np
from openmm import unit

from openmm_duality.errors import DualityError
from openmm_duality.observables.energetics import energetics
from openmm_duality.observables.integrity import integrity
from openmm_duality.observables.results import Comparison, CurveComparison, DistributionComparison, Window
from openmm_duality.observables.runs import Run, read_run
from openmm_duality.observables.statistics import (
    FEWEST_BLOCKS,
    CurveDifference,
    blocks_in,
    compare_curves,
    compare_means,
)
from openmm_duality.observables.structure import Bonds, Curve, Structure, measure
from openmm_duality.observables.trajectory import Trajectory, counts, even_steps, frames_before
from openmm_duality.observables.verdict import judge
from openmm_duality.reference.cells import volume, widths
from openmm_duality.reference.frames import Frames
from openmm_duality.reference.molecules import BondLengths, bond_lengths, bonded_pairs, find_molecules
from openmm_duality.units import bare

BLOCK_TIME = 1.5  # ps: on water at 300 K the error of g(r) hardly grows with the block from here on
R_MAX = 0.6  # nm


def compare(
    run_dir: str | Path,
    reference: Frames,
    *,
    discard: Any = None,
    block_time: Any = BLOCK_TIME,
    r_max: Any = R_MAX,
    lengths: BondLengths | None = None,
    progress: bool = True,
) -> Comparison:
    """Hold a run against a reference trajectory.

    Parameters
    ----------
    run_dir : str or Path
        The folder that a run wrote.
    reference : Frames
        Dynamics of the same composition; the number of atoms may differ.
    discard : quantity or float, optional
        The beginning of the run to leave out, in ps; by default 1 ps, but at most a tenth of the run.
    block_time : quantity or float
        The least length of an independent block, in ps.
    r_max : quantity or float
        Up to where g(r) is compared, in nm; no further than half the shortest width of either cell.
    lengths : dict, optional
        The longest bond per pair of species in nm; by default found in the reference.
    progress : bool
        Whether to show a progress bar.

    Raises
    ------
    DualityError
        If the run cannot be read, or its composition is not that of the reference.
    """
    run = read_run(run_dir)
    _samples(run)
    block_time = bare(block_time, unit.picosecond, "block_time")
    whole = Trajectory.from_frames(reference)
    _same_composition(run.trajectory, whole)
    dropped = _discard(run.trajectory, discard)
    used = run.trajectory.after(dropped)
    lengths = bond_lengths(reference) if lengths is None else lengths
    reach = _reach(run.trajectory, reference, bare(r_max, unit.nanometer, "r_max"))
    windows, structures, notes = [], [], list(run.notes)
    bonds = [_bonds(trajectory, lengths) for trajectory in (run.trajectory, whole)]
    for trajectory, bond, left_out in zip((used, whole), bonds, (dropped, 0), strict=True):
        if not even_steps(trajectory.times):
            notes.append(f"The frames of {trajectory.name} are not evenly spaced; blocks hold equal numbers of them.")
        window = _window(trajectory, block_time, float(run.trajectory.times[left_out] - run.trajectory.times[0]))
        windows.append(window)
        structures.append(measure(trajectory, bond, window.n_blocks, reach, progress=progress))
    notes += _differences_in_kind(run.trajectory, whole, bonds, reach)
    enough = windows[0].enough and windows[1].enough
    return judge(
        Comparison(
            run=run,
            reference_source=reference.source,
            run_window=windows[0],
            reference_window=windows[1],
            block_time=block_time,
            rdf=_curves(structures[0].rdf, structures[1].rdf, enough),
            rdf_whole=_curves(structures[0].rdf_whole, structures[1].rdf_whole, enough),
            bond_length=_distributions(structures, "lengths", enough),
            angle=_distributions(structures, "angles", enough),
            energetics=energetics(run, _log_rows(run, used), windows[0].n_blocks),
            integrity=integrity(run, structures[1].shortest),
            notes=tuple(notes),
        )
    )


def _samples(run: Run) -> None:
    ensemble = str(run.settings["ensemble"])
    if ensemble not in ("NVE", "NVT") or run.settings["temperature"] is None:
        raise DualityError(
            f"{run.directory}: its ensemble is {ensemble!r}, and only NVE and NVT at a temperature have averages to "
            "compare; give a run of dynamics, not of descent"
        )


def _same_composition(run: Trajectory, reference: Trajectory) -> None:
    formulas = []
    for trajectory in (run, reference):
        number = counts(trajectory.species)
        share = reduce(gcd, number.values())
        formulas.append({kind: n // share for kind, n in number.items()})
    if formulas[0] != formulas[1]:
        written = [" ".join(f"{kind}{n}" for kind, n in counts(t.species).items()) for t in (run, reference)]
        raise DualityError(
            f"the run holds {written[0]} and the reference {written[1]}, which is another composition; compare with a "
            "reference of the same substance"
        )


def _discard(trajectory: Trajectory, discard: Any) -> int:
    if discard is None:
        return frames_before(trajectory.times, min(1.0, 0.1 * trajectory.duration))
    time = bare(discard, unit.picosecond, "discard")
    dropped = frames_before(trajectory.times, time)
    if time < 0 or dropped >= len(trajectory):
        raise DualityError(
            f"discard: {time:g} ps is not within the run, which has frames over {trajectory.duration:g} ps; discard "
            "less"
        )
    return dropped


def _window(trajectory: Trajectory, block_time: float, discarded: float) -> Window:
    n_blocks = blocks_in(len(trajectory), trajectory.duration, block_time)
    enough = n_blocks >= FEWEST_BLOCKS and trajectory.duration >= FEWEST_BLOCKS * block_time * (1 - 1e-9)
    return Window(len(trajectory.species), len(trajectory), trajectory.duration, discarded, n_blocks, enough)


def _reach(run: Trajectory, reference: Frames, r_max: float) -> float | None:
    """Up to where both cells allow g(r), or None where one of them has no cell."""
    cells = run.first().cells
    if cells is None or reference.cells is None:
        return None
    shortest = min(float(widths(cell).min()) for cell in (*cells, *np.unique(reference.cells, axis=0)))
    return min(r_max, shortest / 2)


def _bonds(trajectory: Trajectory, lengths: BondLengths) -> Bonds:
    first = trajectory.first()
    positions, species, cell = first.positions[0], trajectory.species, first.cell(0)
    pairs = bonded_pairs(positions, species, cell, lengths)
    return Bonds.of(len(species), pairs, find_molecules(positions, species, cell, lengths))


def _differences_in_kind(run: Trajectory, reference: Trajectory, bonds: list[Bonds], reach: float | None) -> list[str]:
    """What makes the two systems differ before any dynamics."""
    notes = []
    per_atom = [len(bond.pairs) / len(t.species) for bond, t in zip(bonds, (run, reference), strict=True)]
    if abs(per_atom[0] - per_atom[1]) > 1e-9:
        notes.append(
            f"The first frame of the run has {per_atom[0]:.4g} bonds per atom, that of the reference "
            f"{per_atom[1]:.4g}: some molecules were broken from the start."
        )
    if reach is None:
        return [*notes, "Without a periodic cell in both run and reference there is no g(r) to compare."]
    densities = [len(t.species) / volume(cell) for t in (run, reference) if (cell := t.first().cell(0)) is not None]
    if abs(densities[0] / densities[1] - 1) > 1e-3:
        notes.append(
            f"The run starts at {densities[0]:.2f} atoms per nm³ and the reference at {densities[1]:.2f}: a difference "
            "in structure is to be expected from the density alone."
        )
    return notes


def _curves(run: dict[str, Curve], reference: dict[str, Curve], enough: bool) -> dict[str, CurveComparison]:
    compared = {}
    for name in run:
        a, b = run[name], reference[name]
        half = len(b.blocks) // 2
        halves = compare_curves(b.blocks[:half], b.blocks[half:], enough=False) if half else None
        difference = compare_curves(a.blocks, b.blocks, enough=enough)
        compared[name] = CurveComparison(a, b, difference, halves or CurveDifference(np.nan, 0, np.nan, None, None))
    return compared


def _distributions(structures: list[Structure], which: str, enough: bool) -> dict[str, DistributionComparison]:
    run, reference = (getattr(structure, which) for structure in structures)
    return {
        name: DistributionComparison(
            run[name],
            reference[name],
            compare_means(run[name].block_means, reference[name].block_means, enough=enough),
            compare_means(run[name].block_spreads, reference[name].block_spreads, enough=enough),
        )
        for name in run
        if name in reference
    }


def _log_rows(run: Run, used: Trajectory) -> slice:
    """The rows of the log that belong to the frames used."""
    start, stop = np.searchsorted(run.log["time_ps"], (used.times[0], used.times[-1]))
    return slice(int(start), int(stop) + 1)
