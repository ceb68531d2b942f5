"""A comparison in sentences a chemist would write: failures first, then what agrees, then the doubts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from openmm_duality.dynamics.integrity import changed_bonds
from openmm_duality.dynamics.monitoring import mostly_unknown
from openmm_duality.observables.correlation_times import SHORT
from openmm_duality.observables.findings import Finding, Observable, Outcome
from openmm_duality.observables.results import Comparison
from openmm_duality.observables.statistics import FEWEST_BLOCKS, Estimate, Reason
from openmm_duality.report.formatting import (
    SHOWN,
    dash,
    enough,
    half_width,
    listed,
    plus_minus,
    printed,
    signed,
    stated,
    tested,
)
from openmm_duality.report.notes import drift_of


def verdict(comparison: Comparison) -> tuple[str, ...]:
    """Summarise a comparison: failures first; doubts first where they leave the answer open.

    Parameters
    ----------
    comparison : Comparison
        What `compare` gives, of which the other columns are left alone.
    """
    failures = [sentence(comparison, finding) for finding in comparison.failures]
    others = [*_integrity(comparison), *_alarms(comparison), *_alike(comparison)]
    others += [
        sentence(comparison, finding)
        for finding in comparison.findings
        if finding.observable not in _TOGETHER and finding.outcome is not Outcome.UNTESTED and not finding.failed
    ]
    others += [*_jointly(comparison), *_noticed(comparison)]
    doubts = _doubts(comparison)
    return (*doubts, *others) if comparison.agrees is None else (*failures, *others, *doubts)


def sentence(comparison: Comparison, finding: Finding) -> str:
    """Put a finding into words."""
    return _SENTENCES.get(finding.observable, _compared)(comparison, finding)


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
    if record.unknown_bonds:
        whole = f"At the end {changed_bonds(record.unknown_bonds)}, but no atoms left their molecule or collapsed"
    running = " so far; the run is not finished" if record.status in ("running", "interrupted") else ""
    return [f"{whole} in {record.time:.4g} ps{running}."]


def _alarms(comparison: Comparison) -> list[str]:
    """One sentence on the alarms of the monitor."""
    record = comparison.integrity
    if record is None or not record.alarms:
        return []
    plural = "" if record.alarms == 1 else "s"
    often = "; the model does not know what the run shows" if mostly_unknown(record.alarms, record.checks) else ""
    checks = f" in {record.checks} checks" if record.alarms <= record.checks else ""  # else it was changed on the way
    return [f"The monitor raised {record.alarms} alarm{plural}{checks}{often}."]


def _rdf(comparison: Comparison, finding: Finding) -> str:
    c = comparison.rdf[str(finding.subject)]
    return (
        f"The {dash(finding.subject)} g(r) differs from the reference: by {finding.difference:.2f} at "
        f"{10 * c.run.centres[c.difference.at]:.2f} Å, where the 95 % band of chance is {finding.interval:.2f} "
        f"({tested(finding)})."
    )


def _alike(comparison: Comparison) -> list[str]:
    """One sentence on all g(r) in which no difference was found."""
    found = [f for f in comparison.findings if f.observable is Observable.RDF and f.p_value is not None]
    alike = [f"{f.difference:.2f} for {dash(f.subject)} ({f.interval:.2f}, {tested(f)})" for f in found if not f.failed]
    if not alike:
        return []
    which = "The other g(r) show" if len(alike) < len(found) else "g(r) shows"
    return [
        f"{which} no difference from the reference; the largest are {listed(alike)}, in brackets the 95 % band of "
        "chance."
    ]


def _jointly(comparison: Comparison) -> list[str]:
    """What all tests say together."""
    joint, tests = comparison.joint_p_value, comparison.tests
    if joint is None:
        return []
    smallest = min(tests, key=lambda finding: finding.p_value or 0.0)
    if len(tests) == 1:
        return [f"One test was made, of the {printed(smallest)} ({tested(smallest)})."]
    return [
        f"All {len(tests)} tests together (Cauchy combination): {stated(joint)}; the smallest p value is that of the "
        f"{printed(smallest)} ({tested(smallest)})."
    ]


def _noticed(comparison: Comparison) -> list[str]:
    """One sentence on differences beyond their own 95 % intervals that so many tests may show by chance."""
    noticed = [f"the {printed(f)} ({tested(f)})" for f in comparison.findings if f.noticeable]
    if not noticed:
        return []
    expected = 0.05 * len(comparison.tests)
    return [
        f"Beyond the 95 % interval of chance, and no difference among so many tests, of which {expected:.1f} are "
        f"expected to be so: {listed(noticed)}. A longer run tells."
    ]


def _compared(comparison: Comparison, finding: Finding) -> str:
    """One number beside the other, whether they differ, and by what test."""
    name = _NAMES.get(finding.observable, "{}").format(printed(finding))
    verb = "differs:" if finding.failed else "is"
    if finding.reason is Reason.SET:
        return f"The {name} {verb} {_numbers(finding)}."
    assert finding.difference is not None
    if finding.reason in (Reason.CONSTANT, Reason.IMPLIED):
        return f"The {name} {verb} {_numbers(finding)} ({tested(finding)})."
    shown = SHOWN[finding.observable]
    width = None if finding.interval is None else shown.scale * finding.interval
    digits = shown.digits if shown.digits is None else enough(shown.digits, width)
    difference = f"{signed(shown.scale * finding.difference, digits)}{half_width(width, digits)}{shown.sign}"
    return f"The {name} {verb} {_numbers(finding)} (difference {difference}, {tested(finding)}){_sensitivity(finding)}."


def _sensitivity(finding: Finding) -> str:
    """The smallest difference that wide errors allow to detect."""
    if finding.failed or finding.interval is None or finding.reference is None or not finding.reference.mean:
        return ""
    share = finding.interval / abs(finding.reference.mean)
    return f"; differences below {100 * share:.0f} % would not be detected" if share > 0.1 else ""


def _numbers(finding: Finding) -> str:
    """One number beside the other, each with its error."""
    shown = SHOWN[finding.observable]

    def text(e: Estimate | None) -> str:
        return plus_minus(e, shown.scale, shown.digits) + shown.sign

    return f"{text(finding.run)}, in the reference {text(finding.reference)}"


def _temperature(comparison: Comparison, finding: Finding) -> str:
    assert finding.run is not None
    mean = f"The mean temperature of the run is {finding.run.mean:.1f}{half_width(finding.run.interval, 1)} K"
    if finding.reference is None:
        return f"{mean}."
    if finding.failed:
        return f"{mean}, which differs from the {finding.reference.mean:.4g} K of its heat bath ({tested(finding)})."
    return f"{mean}, its heat bath is set to {finding.reference.mean:.4g} K ({tested(finding)})."


def _kinetic_variance(comparison: Comparison, finding: Finding) -> str:
    assert finding.run is not None
    assert finding.reference is not None
    ratio, width = (x / finding.reference.mean for x in (finding.run.mean, finding.run.interval))
    times = f"{ratio:.2f}{half_width(width, 2)} times the canonical variance ({tested(finding)})"
    if finding.failed:
        return f"The fluctuation of the kinetic energy differs from the canonical one: {times}."
    return f"The kinetic energy fluctuates with {times}."


def _drift(comparison: Comparison, finding: Finding) -> str:
    assert comparison.energetics is not None
    energy = drift_of(comparison.energetics)
    if finding.run is None:
        return f"No drift of an energy can be given: {energy}."
    if math.isnan(finding.run.mean):
        return f"There are too few reports to see a drift of the {energy}."
    rate = f"{1e3 * finding.run.mean:.2g}{half_width(1e3 * finding.run.interval, None)}".replace("-", "−")
    allowed = f", more than the {1e3 * finding.tolerance:.2g} that are allowed" if finding.failed else ""
    return f"The {energy} drifts by {rate} J/mol per atom and ps{allowed}."


def _pump(comparison: Comparison, finding: Finding) -> str:
    assert finding.run is not None
    if math.isnan(finding.run.mean):
        return "There are too few reports to see the power that the forces feed into the motion."
    power = f"{finding.run.mean:.2g}{half_width(finding.run.interval, None)}".replace("-", "−")
    predicted = "" if finding.reference is None else f"; {finding.reference.mean:.2g} was predicted for 300 K"
    return f"The forces, which have no potential, feed {power} kJ/mol per atom and ps into the motion{predicted}."


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
        doubts.append(_too_short(slow))
    rare = [f"the {printed(f)}" for reason in (Reason.TOO_RARE, None) for f in by_reason.get(reason, ())]
    if rare:
        doubts.append(f"Too rare or too constant to be tested: {listed(rare)}.")
    return doubts


def _too_short(findings: Sequence[Finding]) -> str:
    """What decorrelates slowly, with times where they could be estimated."""
    times = [finding.correlation_time for finding in findings]
    known = [f" ({time:.2g} ps)" if time else "" for time in times]
    names = [f"the {printed(finding)}{time}" for finding, time in zip(findings, known, strict=True)]
    least = FEWEST_BLOCKS * SHORT * max(times)
    return (
        f"Run and reference are too short to test what decorrelates slowly, {listed(names)}"
        f"{f': one of them must last {least:.2g} ps at least' if least else ''}."
    )


INTEGRITY = (Observable.COMPLETION, Observable.WHOLE_MOLECULES, Observable.SHORTEST_DISTANCE)
# what has a sentence of its own only where it fails
_TOGETHER = (
    *INTEGRITY,
    Observable.SET_TEMPERATURE,
    Observable.SET_PRESSURE,
    Observable.RDF,
    Observable.FIRST_SHELL,
    Observable.BOND_LENGTH_SPREAD,
    Observable.ANGLE_SPREAD,
    Observable.NEIGHBOUR_ANGLE,
    Observable.BAND_SHARE,
)
_NAMES = {
    Observable.SET_TEMPERATURE: "temperature of the heat bath",
    Observable.MEAN_TEMPERATURE: "mean kinetic temperature",
    Observable.SET_PRESSURE: "pressure of the barostat",
    Observable.BOND_LENGTH: "mean {}",
    Observable.ANGLE: "mean {}",
    Observable.FIRST_SHELL: "number of neighbours in the {}",
    Observable.HYDROGEN_BONDS: "number of hydrogen bonds per molecule",
    Observable.BAND_CENTROID: "{} cm⁻¹",
    Observable.BAND_SHARE: "{} cm⁻¹ of the spectrum",
    Observable.REORIENTATION: "reorientation time τ₂, {},",
}
_SENTENCES: dict[Observable, Callable[[Comparison, Finding], str]] = {
    Observable.COMPLETION: _stopped,
    Observable.WHOLE_MOLECULES: _broken,
    Observable.SHORTEST_DISTANCE: _collapsed,
    Observable.RDF: _rdf,
    Observable.TEMPERATURE: _temperature,
    Observable.KINETIC_VARIANCE: _kinetic_variance,
    Observable.ENERGY_DRIFT: _drift,
    Observable.PUMP: _pump,
    Observable.FORCE_ERROR: _forces,
}
