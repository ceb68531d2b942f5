"""A comparison in sentences a chemist would write: failures first, then what agrees, then the doubts."""

from __future__ import annotations

import math
from collections.abc import Callable

from openmm_duality.observables.correlation_times import SHORT
from openmm_duality.observables.findings import Conclusion, Finding, Observable
from openmm_duality.observables.results import Comparison
from openmm_duality.observables.statistics import FEWEST_BLOCKS, SIGNIFICANCE, Estimate, Reason
from openmm_duality.report.formatting import SHOWN, UNTESTED, dash, half_width, listed, printed, signed, subscripts
from openmm_duality.report.notes import drift_of

_HEADLINES = {
    Conclusion.AGREES: "The run agrees with the reference",
    Conclusion.AGREES_WHERE_TESTED: "The run agrees with the reference, as far as it could be tested",
    Conclusion.DIFFERS: "The run differs from the reference",
    Conclusion.NOT_STATIONARY: "The run is not stationary, so agreement cannot be assessed",
    Conclusion.TOO_SHORT: "Too short to test",
}
_STANDING = {True: "agrees", False: "differs", None: UNTESTED[Reason.TOO_SHORT]}
_COARSE = 30.0  # cm⁻¹: a resolution above this is mentioned


def verdict(comparison: Comparison) -> tuple[str, ...]:
    """Summarise a comparison: failures first; doubts first where they leave the answer open.

    Parameters
    ----------
    comparison : Comparison
        What `compare` gives, of which the other columns are left alone.
    """
    failures = [_SENTENCES[finding.observable](comparison, finding) for finding in comparison.failures]
    others = [*_integrity(comparison), *_alike(comparison)]
    others += [
        _SENTENCES[finding.observable](comparison, finding)
        for finding in comparison.findings
        if finding.observable not in _TOGETHER and not finding.failed
    ]
    doubts = _doubts(comparison)
    return (*doubts, *others) if comparison.agrees is None else (*failures, *others, *doubts)


def headline(comparison: Comparison) -> str:
    """The conclusion, in one line."""
    if not comparison.more:
        return _HEADLINES[comparison.conclusion]
    alike = sum(c.agrees is True for c in comparison.columns)
    total = len(comparison.columns)
    if alike == 0:
        return f"None of {total} runs agrees with the reference"
    return f"{alike} of {total} runs {'agrees' if alike == 1 else 'agree'} with the reference"


def standing(column: Comparison) -> str:
    """The conclusion for one of several runs, in a few words."""
    changes = column.conclusion is Conclusion.NOT_STATIONARY
    return UNTESTED[Reason.NOT_STATIONARY] if changes else _STANDING[column.agrees]


def recomputed_frames(comparison: Comparison) -> str:
    """Which frames CP2K computed again."""
    runs = [(c.name, c.force_errors) for c in comparison.columns if c.force_errors is not None]
    counts = {
        name: f"{len(r.times)} {'frame' if len(r.times) == 1 else 'frames'}"
        + (f" ({len(r.refused)} refused)" if r.refused else "")
        for name, r in runs
    }
    methods = ", ".join(dict.fromkeys(r.method for _, r in runs))
    if len(counts) > 1 and len(set(counts.values())) == 1:
        which = f"{next(iter(counts.values()))} each of {listed(list(counts))}"
    else:
        which = "; ".join(f"{count} of {name}" for name, count in counts.items())
    return f"Recomputed by CP2K ({methods}): {which}."


def limitations(comparison: Comparison) -> list[str]:
    """Limitations of a comparison."""
    found = []
    bands = [
        f"{d.band_half_width:.2f} for {dash(pair)}"
        for pair, c in comparison.rdf.items()
        if (d := c.difference).band_half_width is not None
    ]
    if bands:
        found.append(f"Differences of g(r) smaller than {', '.join(bands)} would not be detected in so short a time.")
    for name, q in comparison.diffusion.items():
        if q.difference is not None and q.difference.interval is not None and q.reference is not None:
            share = 100 * q.difference.interval / abs(q.reference.mean)
            found.append(
                f"Diffusion of {subscripts(name)} that differs by less than {share:.0f} % would not be detected."
            )
    spectra = comparison.reference_motion.spectra
    if spectra is not None and spectra.resolution > _COARSE:
        found.append(f"Spectra are resolved to {spectra.resolution:.0f} cm⁻¹: finer features are not compared.")
    if all(c.run_window.atoms == comparison.reference_window.atoms for c in comparison.columns):
        found.append("Run and reference share one cell size, so neither describes a larger system.")
    else:
        found.append("Run and reference differ in size; part of a difference may come from the smaller cell.")
    found.append("Agreement with the reference is not agreement with experiment: the reference has errors of its own.")
    tests = sum(
        len(part) for part in (comparison.rdf, comparison.bond_length, comparison.angle, comparison.tetrahedral_order)
    )
    tests += len(comparison.bands) + len(comparison.diffusion) + len(comparison.reorientation)
    found.append(
        f"Each of about {tests} tests a run fails by chance once in {1 / SIGNIFICANCE:.0f} times: one failure near "
        f"p = {SIGNIFICANCE} among many that pass says little."
    )
    if any(not c.enough for c in comparison.columns):
        found.append(
            "Where the time is too short, the blocks miss slow fluctuations, and the error bars are too small."
        )
    runs = [c.run for c in comparison.columns if c.run is not None and not c.run.has_potential]
    for gradient in sorted({run.model["gradient"] for run in runs}):
        found.append(
            f"The {gradient} gradient has no potential energy: energies shown are sums of losses, for information."
        )
    return found


def _stopped(comparison: Comparison, finding: Finding) -> str:
    record = comparison.integrity
    assert record is not None
    return f"The run stopped itself after {record.time:.4g} ps: {record.reason.rstrip('.') or 'no reason'}."


def _broken(comparison: Comparison, finding: Finding) -> str:
    record = comparison.integrity
    assert record is not None
    atoms, whose = ("1 atom was", "its") if record.most_left == 1 else (f"{record.most_left} atoms were", "their")
    return (
        f"Molecules broke: up to {atoms} away from {whose} molecule at once, first seen at {record.first_left:.4g} ps."
    )


def _collapsed(comparison: Comparison, finding: Finding) -> str:
    assert comparison.integrity is not None
    closest = comparison.integrity.shortest[str(finding.subject)]
    assert closest.reference is not None
    return (
        f"{dash(finding.subject)} came as close as {10 * closest.run:.3f} Å (at {closest.time:.4g} ps); the "
        f"reference never goes below {10 * closest.reference:.3f} Å."
    )


def _integrity(comparison: Comparison) -> list[str]:
    """One sentence on a run that kept its integrity."""
    record = comparison.integrity
    if record is None or any(finding.observable in INTEGRITY for finding in comparison.failures):
        return []
    whole = "No molecule broke and no atoms collapsed" if comparison.bond_length else "No atoms collapsed"
    running = " so far; the run is not finished" if record.status in ("running", "interrupted") else ""
    return [f"{whole} in {record.time:.4g} ps{running}."]


def _rdf(comparison: Comparison, finding: Finding) -> str:
    c = comparison.rdf[str(finding.subject)]
    p = finding.p_value
    assert p is not None
    return (
        f"The {dash(finding.subject)} g(r) differs from the reference: by {finding.difference:.2f} at "
        f"{10 * c.run.centres[c.difference.at]:.2f} Å, where the 95 % band of chance is {finding.interval:.2f} "
        f"(p {'< 0.001' if p < 1e-3 else f'= {p:.3f}'})."
    )


def _alike(comparison: Comparison) -> list[str]:
    """One sentence on all g(r) that pass."""
    tested = [f for f in comparison.findings if f.observable is Observable.RDF and f.p_value is not None]
    alike = [f"{f.difference:.2f} for {dash(f.subject)} ({f.interval:.2f})" for f in tested if not f.failed]
    if not alike:
        return []
    which = "The other g(r) agree" if len(alike) < len(tested) else "g(r) agrees"
    return [
        f"{which} with the reference within the errors (p above {SIGNIFICANCE:g}); largest difference "
        f"{listed(alike)}, in brackets the 95 % band of chance."
    ]


def _mean(comparison: Comparison, finding: Finding) -> str:
    assert finding.run is not None
    assert finding.reference is not None
    assert finding.difference is not None
    shown = SHOWN[finding.observable]
    scale, digits, sign = shown.scale, shown.digits, shown.sign
    width = None if finding.interval is None else scale * finding.interval
    return (
        f"The mean {printed(finding)} is {scale * finding.run.mean:.{digits}f}{sign}, in the reference "
        f"{scale * finding.reference.mean:.{digits}f}{sign} (difference "
        f"{signed(scale * finding.difference, digits)}{half_width(width, digits)}{sign})."
    )


def _diffusion(comparison: Comparison, finding: Finding) -> str:
    whose = f" of {subscripts(finding.subject)}" if len(comparison.diffusion) > 1 else ""
    return f"The diffusion coefficient{whose} is {_numbers(finding)}{_sensitivity(finding)}."


def _reorientation(comparison: Comparison, finding: Finding) -> str:
    bonds = dash(finding.subject)
    return f"The reorientation time τ₂ of {bonds} bonds is {_numbers(finding)}{_sensitivity(finding)}."


def _sensitivity(finding: Finding) -> str:
    """The smallest difference that wide errors allow to detect."""
    if finding.interval is None or finding.reference is None:
        return ""
    share = finding.interval / abs(finding.reference.mean)
    return f"; differences below {100 * share:.0f} % would not be detected" if share > 0.1 else ""


def _numbers(finding: Finding) -> str:
    """One number beside the other, each with its error."""
    shown = SHOWN[finding.observable]

    def text(e: Estimate | None) -> str:
        assert e is not None
        width = half_width(shown.scale * e.interval, shown.digits)
        return f"{shown.scale * e.mean:,.{shown.digits}f}{width}{shown.sign}"

    return f"{text(finding.run)}, in the reference {text(finding.reference)}"


def _temperature(comparison: Comparison, finding: Finding) -> str:
    assert finding.run is not None
    mean = f"The mean temperature is {finding.run.mean:.1f}{half_width(finding.run.interval, 1)} K"
    if finding.reference is None:
        return f"{mean}."
    return f"{mean}; the target is {finding.reference.mean:.4g} K."


def _kinetic_variance(comparison: Comparison, finding: Finding) -> str:
    assert finding.run is not None
    assert finding.reference is not None
    ratio, width = (x / finding.reference.mean for x in (finding.run.mean, finding.run.interval))
    return f"The kinetic energy fluctuates with {ratio:.2f}{half_width(width, 2)} times the canonical variance."


def _drift(comparison: Comparison, finding: Finding) -> str:
    assert comparison.energetics is not None
    energy = drift_of(comparison.energetics)
    if finding.run is None:
        return f"No drift of an energy can be given: {energy}."
    if math.isnan(finding.run.mean):
        return f"There are too few reports to see a drift of the {energy}."
    rate = f"{1e3 * finding.run.mean:.2g}{half_width(1e3 * finding.run.interval, None)}".replace("-", "−")
    return f"The {energy} drifts by {rate} J/mol per atom and ps."


def _forces(comparison: Comparison, finding: Finding) -> str:
    found = comparison.force_errors
    assert found is not None
    rmse, rms = found.error("all")
    known = finding.reference
    beside = "" if known is None else f"; on the frames held out at inference it was {known.mean:.1f}"
    frames = "one frame" if len(found.times) == 1 else f"{len(found.times)} frames"
    return (
        f"Along the run, forces differ from CP2K’s ({found.method}, {frames} recomputed) by {rmse:.1f} meV/Å, "
        f"{100 * rmse / rms:.1f} % of their RMS{beside}."
    )


def _doubts(comparison: Comparison) -> list[str]:
    windows = ((comparison.run_window, "The run"), (comparison.reference_window, "The reference"))
    doubts = [
        f"{name} is too short to test: {window.duration:.3g} ps were analysed, and {FEWEST_BLOCKS} independent blocks "
        f"of {comparison.block_time:.2g} ps are the least for a test."
        for window, name in windows
        if not window.enough
    ]
    if doubts:
        return doubts
    by_reason: dict[Reason | None, list[Finding]] = {}
    for finding in comparison.untested:
        by_reason.setdefault(finding.reason, []).append(finding)
    if changing := by_reason.get(Reason.NOT_STATIONARY):
        doubts.append(
            "The run is not stationary. This changes along the run by more than the reference’s fluctuations allow, so "
            f"its mean says little: {listed([f'the {printed(finding)}' for finding in changing])}."
        )
    if slow := by_reason.get(Reason.TOO_SHORT):
        shorter, name = min(windows, key=lambda item: item[0].duration)
        names = [f"the {printed(finding)} ({finding.correlation_time:.2g} ps)" for finding in slow]
        least = FEWEST_BLOCKS * SHORT * max(finding.correlation_time for finding in slow)
        doubts.append(
            f"{name} is too short to test what decorrelates slowly, {listed(names)}: {shorter.duration:.3g} ps were "
            f"analysed, and {least:.2g} ps are the least for a test."
        )
    rare = [f"the {printed(f)}" for reason in (Reason.TOO_RARE, None) for f in by_reason.get(reason, ())]
    if rare:
        doubts.append(f"Too rare to be tested: {listed(rare)}.")
    return doubts


INTEGRITY = (Observable.COMPLETION, Observable.WHOLE_MOLECULES, Observable.SHORTEST_DISTANCE)
# what has a sentence of its own only where it fails
_TOGETHER = (*INTEGRITY, Observable.RDF, Observable.BAND_SHARE)
_SENTENCES: dict[Observable, Callable[[Comparison, Finding], str]] = {
    Observable.COMPLETION: _stopped,
    Observable.WHOLE_MOLECULES: _broken,
    Observable.SHORTEST_DISTANCE: _collapsed,
    Observable.RDF: _rdf,
    Observable.BOND_LENGTH: _mean,
    Observable.ANGLE: _mean,
    Observable.TETRAHEDRAL_ORDER: lambda _, f: f"The tetrahedral order of {f.subject} is {_numbers(f)}.",
    Observable.HYDROGEN_BONDS: lambda _, f: f"Hydrogen bonds per molecule: {_numbers(f)}.",
    Observable.BAND_SHARE: lambda _, f: f"The band at {dash(f.subject)} cm⁻¹ holds {_numbers(f)} of the spectrum.",
    Observable.BAND_CENTROID: lambda _, f: f"The centroid of the band at {dash(f.subject)} cm⁻¹ is {_numbers(f)}.",
    Observable.DIFFUSION: _diffusion,
    Observable.REORIENTATION: _reorientation,
    Observable.TEMPERATURE: _temperature,
    Observable.KINETIC_VARIANCE: _kinetic_variance,
    Observable.ENERGY_DRIFT: _drift,
    Observable.FORCE_ERROR: _forces,
}
