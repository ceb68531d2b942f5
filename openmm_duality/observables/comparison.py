"""Runs compared with a reference: the same analyses of all, and whether they differ by more than their errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
from openmm import unit

from openmm_duality.errors import DualityError
from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.geometry.molecules import BondLengths
from openmm_duality.learning.recomputing import RecomputedFrames
from openmm_duality.observables.correlation_times import BLOCK_TIME, UNCORRELATED
from openmm_duality.observables.curves import Curve
from openmm_duality.observables.decisions import judge
from openmm_duality.observables.energetics import measure_energetics
from openmm_duality.observables.findings import Measured, Observable
from openmm_duality.observables.force_errors import measure_force_errors
from openmm_duality.observables.integrity import read_integrity
from openmm_duality.observables.motion import Motion, Scales, measure_motion
from openmm_duality.observables.notes import Note, Remark
from openmm_duality.observables.results import Comparison, Quantity, Window
from openmm_duality.observables.spectra import Band, band_centroids, band_shares, find_bands
from openmm_duality.observables.statistics import (
    compare_estimates,
    compare_means,
    estimate,
    noisier,
    with_common_noise,
    without_test,
)
from openmm_duality.observables.structure import BlockedHistograms, collect_histograms
from openmm_duality.observables.structure_comparison import Sample, StructureComparison
from openmm_duality.observables.subjects import (
    Subject,
    differences_in_kind,
    distinct,
    known_cell,
    reach,
    same_composition,
)
from openmm_duality.observables.time_correlations import PASCAL_SECOND, LaggedFit, finite_size
from openmm_duality.reference.frames import Frames
from openmm_duality.reference.molecules import bond_lengths
from openmm_duality.units import bare

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
    recomputed: Mapping[str, RecomputedFrames | str] | None = None,
    progress: bool = True,
) -> Comparison:
    """Compare a run with a reference trajectory, and others beside it.

    Parameters
    ----------
    run_dir : str or Path
        The folder that a run wrote.
    reference : Frames
        Dynamics of the same composition; the number of atoms may differ.
    more : sequence of str, Path or Frames
        Folders of other runs, or other reference data, compared with the same reference.
    dynamics : Frames, optional
        Other frames of the reference for diffusion, reorientation and spectra, as a rule written more often.
    discard : quantity or float, optional
        The beginning of every run to leave out, in ps; by default 1 ps, but at most a tenth of the run.
    block_time : quantity or float, optional
        The least length of a block, in ps, 1.5 by default. Blocks last longer where an observable decorrelates slowly:
        six times its correlation time in run or reference, and at the least twice for a test.
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
    recomputed : mapping of str to RecomputedFrames or str, optional
        Frames of the runs with CP2K's forces, for the errors of the forces along them, by the names that `sample_runs`
        gives the runs; or why a run has none, for a note.
    progress : bool
        Whether to show progress bars.

    Raises
    ------
    DualityError
        If a run cannot be read, its composition is not that of the reference, or recomputed frames are of no run.
    """
    lengths = bond_lengths(reference) if lengths is None else lengths
    least = None if block_time is None else bare(block_time, unit.picosecond, "block_time")
    known = Subject.of_frames(reference, "the reference", lengths)
    runs = [Subject.of_run(run_dir, lengths, discard), *(Subject.of_any(path, lengths, discard) for path in more)]
    runs = distinct(runs)
    r_reach = reach([s.whole for s in (known, *runs)], bare(r_max, unit.nanometer, "r_max"))
    moved = [known] if dynamics is None else [known, Subject.of_frames(dynamics, "the reference’s motion", lengths)]
    moved.sort(key=lambda subject: -subject.used.duration)
    same_composition([s.whole for s in (*runs, *moved)], known.whole)
    scales = Scales.common([s.used for s in (moved[0], *runs)], [s.used for s in (*moved, *runs)])
    forces = recomputed or {}
    if unknown := set(forces) - {subject.name for subject in runs if subject.run is not None}:
        raise DualityError(f"recomputed: {', '.join(sorted(unknown))} is not the name of a run that is compared")
    correction = _Correction(viscosity, runs[0])
    first = _measured(known, r_reach, progress)
    first_motion = reduce(
        Motion.joined,
        (measure_motion(s.used, s.bonds, scales, correction=correction(s), progress=progress) for s in moved),
    )
    chosen = _bands(bands, first_motion)
    compared = []
    for subject in runs:
        found = measure_motion(subject.used, subject.bonds, scales, correction=correction(subject), progress=progress)
        measured = (_measured(subject, r_reach, progress), first)
        part = _side_by_side(subject, known, measured, (found, first_motion), chosen, least)
        part = _with_forces(part, forces.get(subject.name))
        compared.append(judge(replace(part, dynamics_source=dynamics.source if dynamics is not None else ())))
    return replace(compared[0], more=tuple(compared[1:]))


def _with_forces(comparison: Comparison, recomputed: RecomputedFrames | str | None) -> Comparison:
    """The comparison with the errors of forces along the run, or a note on why there are none."""
    if isinstance(recomputed, RecomputedFrames):
        return replace(comparison, force_errors=measure_force_errors(recomputed))
    if recomputed is None:
        return comparison
    note = Note(Remark.NOT_RECOMPUTED, comparison.name, (recomputed,))
    return replace(comparison, notes=(*comparison.notes, note))


class _Correction:
    """Correction of a diffusion coefficient for the finite cell, where a viscosity was given."""

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


def _measured(subject: Subject, r_reach: float | None, progress: bool) -> BlockedHistograms:
    return collect_histograms(subject.thinned, subject.bonds, r_reach, progress=progress)


def _side_by_side(
    subject: Subject,
    known: Subject,
    histograms: tuple[BlockedHistograms, BlockedHistograms],
    motions: tuple[Motion, Motion],
    bands: Sequence[Band],
    least: float | None,
) -> Comparison:
    """All measurements of a subject and of the reference, without findings."""
    both = list(zip((subject, known), histograms, strict=True))
    samples = [Sample(h, s.used.duration, len(s.used.species)) for s, h in both]
    structure = StructureComparison(samples[0], samples[1], BLOCK_TIME if least is None else least)
    rdf, rdf_whole = (structure.curves(observable) for observable in (Observable.RDF, Observable.RDF_WHOLE))
    bond_length, angle, tetrahedral_order, neighbour_angle = (
        structure.distributions(observable)
        for observable in (
            Observable.BOND_LENGTH,
            Observable.ANGLE,
            Observable.TETRAHEDRAL_ORDER,
            Observable.NEIGHBOUR_ANGLE,
        )
    )
    coordination, shells = structure.curves(Observable.COORDINATION), structure.shells()
    hydrogen_bonds = structure.hydrogen_bonds()
    windows = [
        _window(s, h, {what: times[k].time for what, times in structure.correlation_times.items()}, structure.least)
        for k, (s, h) in enumerate(both)
    ]
    n_blocks = UNCORRELATED.blocks_in(len(subject.used), subject.used.duration, structure.least)
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
        block_time=structure.least,
        rdf=rdf,
        rdf_whole=rdf_whole,
        coordination=coordination,
        shells=shells,
        bond_length=bond_length,
        angle=angle,
        tetrahedral_order=tetrahedral_order,
        neighbour_angle=neighbour_angle,
        hydrogen_bonds=hydrogen_bonds,
        motion=motions[0],
        reference_motion=motions[1],
        diffusion=_fitted(*(m.diffusion for m in motions)),
        reorientation=_fitted(*(m.reorientation for m in motions)),
        bands={band: _band(motions, band, band_centroids) for band in bands},
        band_shares={band: _band(motions, band, band_shares) for band in bands},
        energetics=None if subject.run is None else measure_energetics(subject.run, _log_rows(subject), n_blocks),
        integrity=None if subject.run is None else read_integrity(subject.run, samples[1].whole.shortest),
        notes=tuple(notes),
    )


def _window(
    subject: Subject, histograms: BlockedHistograms, correlation_times: dict[Measured, float], least: float
) -> Window:
    used = subject.used
    return Window(
        atoms=len(used.species),
        frames=len(used),
        structure_frames=histograms.n_frames,
        duration=used.duration,
        discarded=subject.discarded,
        enough=UNCORRELATED.allows_test(histograms.n_blocks, used.duration, least),
        correlation_times=correlation_times,
    )


def _fitted(run: dict[str, LaggedFit], reference: dict[str, LaggedFit]) -> dict[str, Quantity]:
    """Numbers side by side with their own errors, tested with the larger noise of both."""
    found = {}
    for name in sorted({*run, *reference}):
        one, other = run.get(name), reference.get(name)
        first, second = (None if fit is None else fit.value for fit in (one, other))
        difference = None
        if one is not None and other is not None and first is not None and second is not None:
            sampling = one.curve.sampling, other.curve.sampling
            difference = compare_estimates(*with_common_noise(first, second, sampling))
            noises = first.error**2 * sampling[0], second.error**2 * sampling[1]
            if noisier(noises, (first.n_blocks, second.n_blocks)):
                difference = without_test(difference)
        if first is not None or second is not None:
            found[name] = Quantity(first, second, difference)
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
