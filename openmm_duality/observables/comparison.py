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
from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.geometry.molecules import BondLengths
from openmm_duality.observables import recomputing
from openmm_duality.observables.bands import Band, centroids, find_bands, shares
from openmm_duality.observables.curves import Curve
from openmm_duality.observables.energetics import energetics
from openmm_duality.observables.held import Held, Sample
from openmm_duality.observables.integrity import integrity
from openmm_duality.observables.memory import BLOCK_TIME, NOTHING_KEPT
from openmm_duality.observables.motion import Motion, Scales, Seen, motion
from openmm_duality.observables.recomputing import Recompute, Recomputed, find_model
from openmm_duality.observables.results import Comparison, Quantity, Window
from openmm_duality.observables.statistics import (
    MeanDifference,
    compare_estimates,
    compare_means,
    estimate,
    in_common,
    noisier,
    withdrawn,
)
from openmm_duality.observables.structure import Tally, tally
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
    recompute: Recompute | None = None,
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
        The least length of a block, in ps, 1.5 by default. Blocks last longer where an observable forgets slowly: six
        times its correlation time in run or reference, and at the least twice for a test.
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
    recompute : Recompute, optional
        How frames of the runs are to be labelled by CP2K, for the errors of the forces along them. Of other runs those
        whose model is not known are left out, with a note.
    progress : bool
        Whether to show progress bars.

    Raises
    ------
    DualityError
        If a run cannot be read, its composition is not that of the reference, or its forces cannot be recomputed.
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
    forces = [_recomputed(subject, recompute, progress, needed=k == 0) for k, subject in enumerate(runs)]
    correction = _Correction(viscosity, runs[0])
    first = _measured(known, r_reach, progress)
    first_motion = reduce(
        Motion.joined,
        (motion(s.used, s.bonds, scales, correction=correction(s), progress=progress) for s in moved),
    )
    chosen = _bands(bands, first_motion)
    compared = []
    for subject, (recomputed, notes) in zip(runs, forces, strict=True):
        found = motion(subject.used, subject.bonds, scales, correction=correction(subject), progress=progress)
        measured = (_measured(subject, r_reach, progress), first)
        part = _hold(subject, known, measured, (found, first_motion), chosen, least)
        part = replace(part, recomputed=recomputed, notes=(*part.notes, *notes))
        compared.append(judge(replace(part, dynamics_source=dynamics.source if dynamics is not None else ())))
    return replace(compared[0], more=tuple(compared[1:]))


def _recomputed(
    subject: Subject, how: Recompute | None, progress: bool, *, needed: bool
) -> tuple[Recomputed | None, list[str]]:
    """The errors of forces along a run, or why there are none."""
    if how is None or (subject.run is None and not needed):
        return None, []
    if subject.run is None:
        raise DualityError(
            f"{subject.name} is no run of a model, so there are no forces to recompute; give a run first"
        )
    try:
        find_model(subject.run, how.models)
    except DualityError as error:
        if needed:
            raise
        return None, [f"Forces along {subject.name} were not recomputed: {error}."]
    return recomputing.recompute(subject.run, subject.used, subject.name, how, progress=progress), []


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
    samples = [Sample(t, s.used.duration, len(s.used.species)) for s, t in zip((subject, known), tallies, strict=True)]
    held = Held(samples[0], samples[1], BLOCK_TIME if least is None else least)
    rdf, rdf_whole = held.curves("rdf", "g(r) {}"), held.curves("rdf_whole", "g(r) {}, bonds too")
    lengths, angles = (
        held.distributions(part, f"{{}} {word}") for part, word in (("lengths", "length"), ("angles", "angle"))
    )
    order, around = held.distributions("order", "tetrahedral order of {}"), held.distributions("around", "{} angle")
    coordination, shells = held.curves("coordination", "neighbours {}"), held.shells()
    hydrogen_bonds = held.hydrogen_bonds()
    windows = [
        _window(s, t, {word: memories[k].time for word, memories in held.memories.items()}, held.least)
        for k, (s, t) in enumerate(zip((subject, known), tallies, strict=True))
    ]
    n_blocks = NOTHING_KEPT.blocks_in(len(subject.used), subject.used.duration, held.least)
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
        block_time=held.least,
        rdf=rdf,
        rdf_whole=rdf_whole,
        coordination=coordination,
        shells=shells,
        bond_length=lengths,
        angle=angles,
        order=order,
        around=around,
        hydrogen_bonds=hydrogen_bonds,
        motion=motions[0],
        reference_motion=motions[1],
        diffusion=_numbers(*(m.diffusion_seen for m in motions)),
        reorientation=_numbers(*(m.reorientation_seen for m in motions)),
        bands={band: _band(motions, band, centroids) for band in bands},
        band_shares={band: _band(motions, band, shares) for band in bands},
        energetics=None if subject.run is None else energetics(subject.run, _log_rows(subject), n_blocks),
        integrity=None if subject.run is None else integrity(subject.run, tallies[1].cut(1).shortest),
        notes=tuple(notes),
    )


def _window(subject: Subject, found: Tally, correlation_times: dict[str, float], least: float) -> Window:
    used = subject.used
    return Window(
        atoms=len(used.species),
        frames=len(used),
        structure_frames=found.n_frames,
        duration=used.duration,
        discarded=subject.discarded,
        enough=NOTHING_KEPT.allows(found.n_fine, used.duration, least),
        correlation_times=correlation_times,
    )


def _numbers(run: dict[str, Seen], reference: dict[str, Seen]) -> dict[str, Quantity]:
    """Numbers side by side with their own errors, tested with the larger noise of both."""
    found = {}
    for name in sorted({*run, *reference}):
        one, other = (part.get(name, (None, 0.0)) for part in (run, reference))
        if one[0] is not None or other[0] is not None:
            found[name] = Quantity(one[0], other[0], _difference(one, other))
    return found


def _difference(run: Seen, reference: Seen) -> MeanDifference | None:
    (first, one), (second, other) = run, reference
    if first is None or second is None:
        return None
    difference = compare_estimates(*in_common(first, second, (one, other)))
    noises = first.error**2 * one, second.error**2 * other
    return withdrawn(difference) if noisier(noises, (first.n_blocks, second.n_blocks)) else difference


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
