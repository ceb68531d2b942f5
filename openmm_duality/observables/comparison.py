"""Runs held against a reference: the same analyses of all, and whether they differ by more than their errors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
from openmm import unit

from openmm_duality.errors import DualityError
from openmm_duality.observables.bands import Band, centroids, find_bands, shares
from openmm_duality.observables.curves import Curve, Distribution
from openmm_duality.observables.energetics import energetics
from openmm_duality.observables.integrity import integrity
from openmm_duality.observables.motion import Motion, Scales, motion
from openmm_duality.observables.pairs import first_minimum
from openmm_duality.observables.results import (
    Comparison,
    CurveComparison,
    DistributionComparison,
    Quantity,
    Shell,
    Window,
)
from openmm_duality.observables.statistics import (
    FEWEST_BLOCKS,
    CurveDifference,
    Estimate,
    blocks_in,
    compare_curves,
    compare_estimates,
    compare_means,
    estimate,
)
from openmm_duality.observables.structure import Structure, Tally, tally
from openmm_duality.observables.subjects import (
    Subject,
    differences_in_kind,
    distinct,
    known_cell,
    reach,
    same_composition,
)
from openmm_duality.observables.transport import PASCAL_SECOND, finite_size
from openmm_duality.observables.verdict import judge
from openmm_duality.reference.frames import FloatArray, Frames
from openmm_duality.reference.molecules import BondLengths, bond_lengths
from openmm_duality.units import bare

BLOCK_TIME = 1.5  # ps: on water at 300 K the error of g(r) hardly grows with the block from here on
BLOCK_CORRELATIONS = 2.0  # a block is worth at least so many independent values of what forgets most slowly
R_MAX = 0.6  # nm


def compare(
    run_dir: str | Path,
    reference: Frames,
    *,
    more: Sequence[str | Path | Frames] = (),
    dynamics: Frames | None = None,
    discard: Any = None,
    block_time: Any = None,
    r_max: Any = R_MAX,
    lengths: BondLengths | None = None,
    viscosity: Any = None,
    bands: Sequence[Band] | None = None,
    progress: bool = True,
) -> Comparison:
    """Hold a run against a reference trajectory, and others beside it.

    Parameters
    ----------
    run_dir : str or Path
        The folder that a run wrote.
    reference : Frames
        Dynamics of the same composition; the number of atoms may differ.
    more : sequence of str, Path or Frames
        Folders of other runs, or other reference data, held against the same reference.
    dynamics : Frames, optional
        Other frames of the reference for diffusion, reorientation and spectra, as a rule written more often.
    discard : quantity or float, optional
        The beginning of every run to leave out, in ps; by default 1 ps, but at most a tenth of the run.
    block_time : quantity or float, optional
        The least length of an independent block, in ps; by default twice the time that is worth one independent value
        of whatever forgets most slowly in run and reference, and at least 1.5 ps.
    r_max : quantity or float
        Up to where g(r) is compared, in nm; no further than half the shortest width of any cell.
    lengths : dict, optional
        The longest bond per pair of species in nm; by default found in the reference.
    viscosity : quantity or float, optional
        Of the substance, a quantity in Pa s or a number in dalton/nm/ps; diffusion is then corrected for the finite
        cell.
    bands : sequence of tuple of float, optional
        First and last wavenumbers in cm⁻¹ of the bands whose centroids are compared; by default the main bands of the
        reference.
    progress : bool
        Whether to show progress bars.

    Raises
    ------
    DualityError
        If a run cannot be read, or its composition is not that of the reference.
    """
    lengths = bond_lengths(reference) if lengths is None else lengths
    least = None if block_time is None else bare(block_time, unit.picosecond, "block_time")
    known = Subject.of_frames(reference, "the reference", lengths)
    runs = [Subject.of_run(run_dir, lengths, discard), *(Subject.of_any(path, lengths, discard) for path in more)]
    runs = distinct(runs)
    r_reach = reach([s.whole for s in (known, *runs)], bare(r_max, unit.nanometer, "r_max"))
    moved = [known] if dynamics is None else [known, Subject.of_frames(dynamics, "the reference’s motion", lengths)]
    moved.sort(key=lambda subject: -subject.used.duration)
    same_composition([*runs, *moved], known.whole)
    scales = Scales.common([s.used for s in (moved[0], *runs)], [s.used for s in (*moved, *runs)])
    correction = _Correction(viscosity, runs[0])
    first = _measured(known, r_reach, progress)
    first_motion = reduce(
        Motion.joined,
        (motion(s.used, s.bonds, scales, correction=correction(s), progress=progress) for s in moved),
    )
    chosen = _bands(bands, first_motion)
    compared = []
    for subject in runs:
        found = motion(subject.used, subject.bonds, scales, correction=correction(subject), progress=progress)
        measured = (_measured(subject, r_reach, progress), first)
        part = _hold(subject, known, measured, (found, first_motion), chosen, least)
        compared.append(judge(replace(part, dynamics_source=dynamics.source if dynamics is not None else ())))
    return replace(compared[0], more=tuple(compared[1:]))


class _Correction:
    """What the finite cell takes from a diffusion coefficient, where a viscosity was given."""

    def __init__(self, viscosity: Any, run: Subject) -> None:
        self.viscosity = None if viscosity is None else _viscosity(viscosity)
        if self.viscosity is not None and not self.viscosity > 0:
            raise DualityError(f"viscosity: expected a number above zero, got {viscosity}")
        self.temperature = float(run.run.settings["temperature"]) if run.run is not None else float("nan")

    def __call__(self, subject: Subject) -> float | None:
        if self.viscosity is None:
            return None
        own = self.temperature if subject.run is None else float(subject.run.settings["temperature"])
        return finite_size(own, self.viscosity, known_cell(subject.whole))


def _viscosity(value: Any) -> float:
    """In dalton/nm/ps, which OpenMM's units do not convert to: pascals are kilograms to them, and daltons moles."""
    if unit.is_quantity(value):
        return bare(value, unit.pascal * unit.second, "viscosity") / PASCAL_SECOND
    return bare(value, unit.dimensionless, "viscosity")


def _measured(subject: Subject, r_reach: float | None, progress: bool) -> Tally:
    return tally(subject.thinned, subject.bonds, r_reach, progress=progress)


def _hold(
    subject: Subject,
    known: Subject,
    tallies: tuple[Tally, Tally],
    motions: tuple[Motion, Motion],
    bands: Sequence[Band],
    least: float | None,
) -> Comparison:
    slowest = max((time for t in tallies for time in t.correlation_times.values()), default=0.0)
    block_time = max(BLOCK_TIME, BLOCK_CORRELATIONS * slowest) if least is None else least
    windows = [_window(s, t, block_time) for s, t in zip((subject, known), tallies, strict=True)]
    run, reference = (t.cut(w.n_blocks) for t, w in zip(tallies, windows, strict=True))
    enough = windows[0].enough and windows[1].enough
    rdf = _curves(run.rdf, reference.rdf, enough)
    notes = [*subject.notes, *differences_in_kind(subject, known), *motions[0].notes, *motions[1].notes]
    return Comparison(
        name=subject.name,
        run=subject.run,
        source=subject.source,
        reference_source=known.source,
        dynamics_source=(),
        species=subject.whole.species,
        run_window=windows[0],
        reference_window=windows[1],
        block_time=block_time,
        rdf=rdf,
        rdf_whole=_curves(run.rdf_whole, reference.rdf_whole, enough),
        coordination=_curves(run.coordination, reference.coordination, enough),
        shells=_shells(run, reference, enough),
        bond_length=_distributions(run.lengths, reference.lengths, enough),
        angle=_distributions(run.angles, reference.angles, enough),
        order=_distributions(run.order, reference.order, enough),
        around=_distributions(run.around, reference.around, enough),
        hydrogen_bonds=_blocks(run.hydrogen_bonds, reference.hydrogen_bonds, enough),
        motion=motions[0],
        reference_motion=motions[1],
        diffusion=_numbers(
            {name: d.coefficient for name, d in motions[0].diffusion.items()},
            {name: d.coefficient for name, d in motions[1].diffusion.items()},
        ),
        reorientation=_numbers(
            {name: r.time for name, r in motions[0].reorientation.items()},
            {name: r.time for name, r in motions[1].reorientation.items()},
        ),
        bands={band: _band(motions, band, centroids) for band in bands},
        band_shares={band: _band(motions, band, shares) for band in bands},
        energetics=None if subject.run is None else energetics(subject.run, _log_rows(subject), windows[0].n_blocks),
        integrity=None if subject.run is None else integrity(subject.run, reference.shortest),
        notes=tuple(notes),
    )


def _window(subject: Subject, found: Tally, block_time: float) -> Window:
    used = subject.used
    n_blocks = min(blocks_in(len(used), used.duration, block_time), found.n_frames)
    enough = n_blocks >= FEWEST_BLOCKS and used.duration >= FEWEST_BLOCKS * block_time * (1 - 1e-9)
    return Window(
        atoms=len(used.species),
        frames=len(used),
        structure_frames=found.n_frames,
        duration=used.duration,
        discarded=subject.discarded,
        n_blocks=n_blocks,
        enough=enough,
        correlation_times=found.correlation_times,
    )


def _curves(run: dict[str, Curve], reference: dict[str, Curve], enough: bool) -> dict[str, CurveComparison]:
    compared = {}
    for name in run:
        a, b = run[name], reference[name]
        half = len(b.blocks) // 2
        halves = compare_curves(b.blocks[:half], b.blocks[half:], enough=False) if half else None
        difference = compare_curves(a.blocks, b.blocks, enough=enough)
        compared[name] = CurveComparison(a, b, difference, halves or CurveDifference(np.nan, 0, np.nan, None, None))
    return compared


def _shells(run: Structure, reference: Structure, enough: bool) -> dict[str, Shell]:
    found = {}
    for name, curve in reference.coordination.items():
        g = reference.rdf.get(name) or reference.rdf["-".join(name.split("-")[::-1])]
        edge = first_minimum(g.centres, g.mean)
        if edge is None:
            continue
        k = int(np.searchsorted(curve.centres, edge))
        number = _blocks(run.coordination[name].blocks[:, k], curve.blocks[:, k], enough)
        if number is not None:
            found[name] = Shell(edge, number)
    return found


def _distributions(
    run: dict[str, Distribution], reference: dict[str, Distribution], enough: bool
) -> dict[str, DistributionComparison]:
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


def _blocks(run: FloatArray | None, reference: FloatArray | None, enough: bool) -> Quantity | None:
    if run is None or reference is None:
        return None
    return Quantity(estimate(run), estimate(reference), compare_means(run, reference, enough=enough))


def _numbers(run: dict[str, Any], reference: dict[str, Any]) -> dict[str, Quantity]:
    found = {}
    for name in sorted({*run, *reference}):
        pair: list[Estimate | None] = [run.get(name), reference.get(name)]
        if pair[0] is None and pair[1] is None:
            continue
        difference = None if pair[0] is None or pair[1] is None else compare_estimates(pair[0], pair[1])
        found[name] = Quantity(pair[0], pair[1], difference)
    return found


def _bands(asked: Sequence[Band] | None, reference: Motion) -> tuple[Band, ...]:
    if asked is None:
        return find_bands(reference.spectra.total) if reference.spectra is not None else ()
    for low, high in asked:
        if not 0 <= low < high:
            raise DualityError(
                f"bands: expected a first and a greater last wavenumber in cm⁻¹, got {low:g} and {high:g}"
            )
    return tuple((float(low), float(high)) for low, high in asked)


def _band(motions: tuple[Motion, Motion], band: Band, measure: Callable[[Curve, Band], FloatArray]) -> Quantity:
    a, b = (None if m.spectra is None else measure(m.spectra.total, band) for m in motions)
    return Quantity(
        run=None if a is None else estimate(a),
        reference=None if b is None else estimate(b),
        difference=None if a is None or b is None else compare_means(a, b),
    )


def _log_rows(subject: Subject) -> slice:
    """The rows of the log that belong to the frames used."""
    assert subject.run is not None
    start, stop = np.searchsorted(subject.run.log["time_ps"], (subject.used.times[0], subject.used.times[-1]))
    return slice(int(start), int(stop) + 1)
