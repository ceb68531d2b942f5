"""Runs compared with a reference: the same analyses of all, and whether they differ by more than their errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any

from openmm import unit

from openmm_duality.errors import DualityError
from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.geometry.bonding import BondLengths
from openmm_duality.learning.recomputing import RecomputedFrames
from openmm_duality.observables.conditions import compare_conditions, differences_in_conditions
from openmm_duality.observables.correlation_times import BLOCK_TIME, UNCORRELATED, VIBRATIONAL
from openmm_duality.observables.curves import Curve
from openmm_duality.observables.decisions import judge
from openmm_duality.observables.differences import (
    compare_estimates,
    noisier,
    with_common_noise,
    without_test,
)
from openmm_duality.observables.findings import Measured, Note, Observable, Quantity, Remark
from openmm_duality.observables.force_errors import measure_force_errors
from openmm_duality.observables.frame_series import FrameSeries, compare_series
from openmm_duality.observables.motion import Motion, Scales, measure_motion
from openmm_duality.observables.own_observables import FrameFunction, own_observables
from openmm_duality.observables.paired_blocks import PairedBlocks, Series
from openmm_duality.observables.reaction_comparison import Followed, ReactionComparison, compare_reactions
from openmm_duality.observables.reactions import Reactions, follow_bonds
from openmm_duality.observables.results import Comparison, Window
from openmm_duality.observables.run_log import measure_energetics, read_integrity
from openmm_duality.observables.spectra import Band, Spectra, band_centroids, band_shares, find_bands
from openmm_duality.observables.statistics import Estimate, block_means, estimate
from openmm_duality.observables.structure import BlockedHistograms, collect_histograms
from openmm_duality.observables.structure_comparison import Sample, StructureComparison
from openmm_duality.observables.subjects import Subject, differences_in_kind, distinct, reach, same_composition
from openmm_duality.observables.time_correlations import PASCAL_SECOND, LaggedFit, finite_size
from openmm_duality.observables.trajectory import Trajectory
from openmm_duality.reference.frames import Frames
from openmm_duality.reference.molecules import bond_lengths, terminal_species
from openmm_duality.units import bare

R_MAX = 0.6  # nm
_HIGHEST = 1e5  # cm⁻¹, of a band
_SEGMENTS = 4  # half segments in a block: energy goes from band to band too slowly for single segments to show it
_DISTRIBUTIONS = (Observable.BOND_LENGTH, Observable.ANGLE, Observable.TETRAHEDRAL_ORDER, Observable.NEIGHBOUR_ANGLE)


def compare(
    run: str | Path | Frames,
    reference: Frames,
    *,
    more: Sequence[str | Path | Frames] = (),
    dynamics: Frames | None = None,
    topology: str | Path | None = None,
    timestep: Any = None,
    discard: Any = None,
    block_time: Any = None,
    r_max: Any = R_MAX,
    lengths: BondLengths | None = None,
    viscosity: Any = None,
    bands: Sequence[Band] | None = None,
    recomputed: Mapping[str, RecomputedFrames | str] | None = None,
    observables: Mapping[str, FrameFunction] | Sequence[FrameFunction] = (),
    progress: bool = True,
) -> Comparison:
    """Compare a run with a reference trajectory, and others beside it.

    Parameters
    ----------
    run : str, Path or Frames
        The folder that a run wrote, or a trajectory: frames, or whatever `read` reads.
    reference : Frames
        Dynamics of the same composition; the number of atoms may differ.
    more : sequence of str, Path or Frames
        Other runs, or other data, compared with the same reference.
    dynamics : Frames, optional
        Other frames of the reference for diffusion, reorientation and spectra, as a rule written more often.
    topology, timestep : optional
        What names the atoms of the trajectories among `run` and `more`, and the time between their frames, as for
        `read`.
    discard : quantity or float, optional
        The beginning of every run to leave out, in ps; by default 1 ps of the folder of a run, but at most a tenth,
        and nothing of other data.
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
    observables : mapping of str to callable, or sequence of callables
        Observables of your own, by name or named by the functions: each takes some `Frames` and gives one number per
        frame, shape (T,). Correlation times, errors and tests are made for them as for the others.
    progress : bool
        Whether to show progress bars.

    Raises
    ------
    DualityError
        If a run cannot be read, its composition is not that of the reference, recomputed frames are of no run, or an
        observable fails.
    """
    own = own_observables(observables)
    lengths = bond_lengths(reference) if lengths is None else lengths
    least = None if block_time is None else bare(block_time, unit.picosecond, "block_time")
    known = Subject.of_frames(reference, "the reference", lengths)
    given = {"topology": topology, "timestep": timestep}
    runs = distinct([Subject.of_any(what, lengths, discard, **given) for what in (run, *more)])
    r_reach = reach([s.whole for s in (known, *runs)], bare(r_max, unit.nanometer, "r_max"))
    moved = [known] if dynamics is None else [known, Subject.of_frames(dynamics, "the reference’s motion", lengths)]
    moved.sort(key=lambda subject: -subject.used.duration)
    same_composition([s.whole for s in (*runs, *moved)], known.whole)
    scales = Scales.common([s.used for s in (moved[0], *runs)], [s.used for s in (*moved, *runs)])
    forces = recomputed or {}
    if unknown := set(forces) - {subject.name for subject in runs if subject.run is not None}:
        raise DualityError(f"recomputed: {', '.join(sorted(unknown))} is not the name of a run that is compared")
    eta = _viscosity(viscosity)
    kelvin = None if eta is None else _temperature([*runs, known])

    terminal = terminal_species(reference, lengths)
    size = len(reference.species)

    def follow(trajectory: Trajectory) -> Reactions:
        return follow_bonds(trajectory, lengths, terminal, progress=progress)

    def followed(s: Subject) -> Followed:
        return Followed(s.thinned, follow(s.thinned), size / len(s.whole.species))

    def analysed(s: Subject, bonds: Followed) -> Analysis:
        return Analysis(
            collect_histograms(s.thinned, bonds.reactions, r_reach, progress=progress),
            bonds,
            {one.name: one.measure(s.thinned, progress=progress) for one in own},
        )

    def motion(s: Subject, bonds: Followed) -> Motion:
        own = s.conditions.set_temperature or kelvin
        correction = None if eta is None or own is None else finite_size(own, eta, s.whole.first().cell(0))
        lasting = bonds.reactions.lasting
        found = measure_motion(
            s.used, bonds.reactions.at(0), scales, correction=correction, lasting=lasting, progress=progress
        )
        point = s.conditions.state_point
        return found.noted(Note(Remark.MASSIVE_BATH, s.name)) if point is not None and point.massive else found

    bonds_of = {subject.name: followed(subject) for subject in moved}
    first = analysed(known, bonds_of[known.name])
    first_motion = reduce(Motion.joined, [motion(subject, bonds_of[subject.name]) for subject in moved])
    chosen = _bands(bands, first_motion)
    compared = []
    for subject in runs:
        bonds = followed(subject)
        found = motion(subject, bonds)
        both = analysed(subject, bonds), first
        reactions = compare_reactions(bonds, first.bonds, follow, BLOCK_TIME if least is None else least)
        column = side_by_side(subject, known, both, (found, first_motion), reactions, chosen, least)
        labelled = forces.get(subject.name)
        if isinstance(labelled, RecomputedFrames):
            column = replace(column, force_errors=measure_force_errors(labelled))
        elif labelled is not None:
            column = replace(column, notes=(*column.notes, Note(Remark.NOT_RECOMPUTED, column.name, (labelled,))))
        compared.append(judge(replace(column, dynamics_source=dynamics.source if dynamics is not None else ())))
    return replace(compared[0], more=tuple(compared[1:]))


@dataclass(frozen=True)
class Analysis:
    """What was measured in the frames of one system, with the observables of the user's own, shape (T,) each."""

    histograms: BlockedHistograms
    bonds: Followed
    own: dict[str, FloatArray]


def _viscosity(value: Any) -> float | None:
    """Convert a viscosity to dalton/nm/ps; OpenMM's units do not, since pascals contain kilograms."""
    if value is None:
        return None
    if unit.is_quantity(value):
        viscosity = bare(value, unit.pascal * unit.second, "viscosity") / PASCAL_SECOND
    else:
        viscosity = bare(value, unit.dimensionless, "viscosity")
    if not viscosity > 0:
        raise DualityError(f"viscosity: expected a number above zero, got {value}")
    return viscosity


def _temperature(subjects: Sequence[Subject]) -> float:
    """The first temperature in K that is set, or else measured, for the correction of diffusion."""
    found = [c.set_temperature for s in subjects if (c := s.conditions).set_temperature is not None]
    found += [c.temperature.mean for s in subjects if (c := s.conditions).temperature is not None]
    if not found:
        raise DualityError("viscosity: the correction of diffusion needs a temperature, and none is known; leave out")
    return float(found[0])


def side_by_side(
    subject: Subject,
    known: Subject,
    analyses: tuple[Analysis, Analysis],
    motions: tuple[Motion, Motion],
    reactions: ReactionComparison,
    bands: Sequence[Band],
    least: float | None,
) -> Comparison:
    """All measurements of a subject and of the reference, without findings.

    Parameters
    ----------
    subject, known : Subject
        The run, and the reference.
    analyses, motions : tuple
        Of the run and of the reference.
    reactions : ReactionComparison
    bands : sequence of Band
        In cm⁻¹.
    least : float or None
        The least length of a block in ps.
    """
    both = [(s, analysis.histograms) for s, analysis in zip((subject, known), analyses, strict=True)]
    samples = [Sample(h, s.used.duration, len(s.used.species)) for s, h in both]
    structure = StructureComparison(samples[0], samples[1], BLOCK_TIME if least is None else least)
    quantities: dict[str, Any] = {  # by the names of their observables, which are those of the fields
        observable.value: structure.distributions(observable)
        if observable in _DISTRIBUTIONS
        else structure.curves(observable)
        for observable in (Observable.RDF, Observable.RDF_WHOLE, *_DISTRIBUTIONS, Observable.COORDINATION)
    }
    shells, hydrogen_bonds = structure.shells(), structure.hydrogen_bonds()
    own = {}
    for name in analyses[0].own:
        series = [
            FrameSeries(a.own[name], s.used.duration, len(s.used.species))
            for s, a in zip((subject, known), analyses, strict=True)
        ]
        own[name], times = compare_series(series[0], series[1], structure.least)
        structure.correlation_times[Measured(Observable.OWN, name)] = times
    structure.correlation_times.update(reactions.times)
    windows = [
        Window(
            atoms=len(s.used.species),
            frames=len(s.used),
            structure_frames=h.n_frames,
            duration=s.used.duration,
            discarded=s.discarded,
            enough=UNCORRELATED.allows_test(h.n_blocks, s.used.duration, structure.least),
            correlation_times={what: times[k].time for what, times in structure.correlation_times.items()},
        )
        for k, (s, h) in enumerate(both)
    ]
    n_blocks = UNCORRELATED.blocks_in(len(subject.used), subject.used.duration, structure.least)
    notes = [*subject.notes, *differences_in_kind(subject, known), *motions[0].notes, *motions[1].notes]
    notes += [*reactions.notes, *differences_in_conditions(subject.name, subject.conditions, known.conditions)]
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
        conditions=subject.conditions,
        reference_conditions=known.conditions,
        state=compare_conditions(subject.conditions, known.conditions),
        **quantities,
        shells=shells,
        hydrogen_bonds=hydrogen_bonds,
        population=reactions.population,
        hops=reactions.hops,
        lifetime=reactions.lifetime,
        hop_counts=reactions.hop_counts,
        hop_spacing=reactions.spacing,
        own=own,
        motion=motions[0],
        reference_motion=motions[1],
        diffusion=_fitted(*(m.diffusion for m in motions)),
        reorientation=_fitted(*(m.reorientation for m in motions)),
        bands={band: _band(motions, band, band_centroids) for band in bands},
        band_shares={band: _band(motions, band, band_shares) for band in bands},
        energetics=None if subject.run is None else measure_energetics(subject.run, subject.rows, n_blocks),
        integrity=None if subject.run is None else read_integrity(subject.run, samples[1].whole.shortest),
        notes=tuple(notes),
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
        if not 0 <= low < high <= _HIGHEST:
            raise DualityError(
                "bands: expected a first and a greater last wavenumber in cm⁻¹, "
                f"at most {_HIGHEST:g}, got {low:g} and {high:g}"
            )
    return tuple((float(low), float(high)) for low, high in asked)


def _band(motions: tuple[Motion, Motion], band: Band, measure: Callable[[Curve, Band], FloatArray]) -> Quantity:
    """A number of a band side by side, from the segments of the spectra, which last longer than its vibrations."""
    run, reference = (
        None if m.spectra is None else _series(m.spectra, measure(m.spectra.segments, band)) for m in motions
    )
    if run is not None and reference is not None:
        hop = run.duration / run.n_blocks
        known = VIBRATIONAL if measure is band_shares else UNCORRELATED
        return PairedBlocks.of(run, reference, hop, _SEGMENTS * hop, known).quantity()
    return Quantity(_mean(run), _mean(reference), None)


def _mean(series: Series | None) -> Estimate | None:
    if series is None:
        return None
    return estimate(series.blocks(series.correlation_time() or UNCORRELATED, series.duration / series.n_blocks))


def _series(spectra: Spectra, values: FloatArray) -> Series:
    duration = len(values) * spectra.segment / 2
    return Series(lambda n: block_means(values, n), len(values), duration, spectra.atoms)
