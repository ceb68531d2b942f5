"""What a comparison means, in sentences a chemist would write: failures first, then what holds, then the doubts."""

from __future__ import annotations

import math
from dataclasses import replace

from openmm_duality.observables.memory import SHORT
from openmm_duality.observables.results import Comparison, DistributionComparison, Quantity
from openmm_duality.observables.statistics import FEWEST_BLOCKS, SIGNIFICANCE, Why

LENGTH_TOLERANCE = 2e-4  # nm; a smaller difference of mean lengths is told, not held against the run
ANGLE_TOLERANCE = 0.3  # degrees
ORDER_TOLERANCE = 0.01
HYDROGEN_BOND_TOLERANCE = 0.05  # per molecule
BAND_TOLERANCE = 20.0  # cm⁻¹
SHARE_TOLERANCE = 0.03  # of the whole density in a band, which in a few ps is not yet what equipartition makes it
DRIFT_TOLERANCE = 1e-3  # kJ/mol per atom and ps


def judge(comparison: Comparison) -> Comparison:
    """The comparison with its verdict filled in.

    Parameters
    ----------
    comparison : Comparison
        Without a verdict.
    """
    failures, findings = _integrity(comparison)
    for part in (_rdf, _distributions, _order, _bands, _motion, _energetics, _forces):
        bad, good = part(comparison)
        failures += bad
        findings += good
    doubts = _doubts(comparison)
    if failures or (comparison.enough and all(untested.minor for untested in comparison.untested.values())):
        sentences, agrees = (*failures, *findings, *doubts), not failures
    else:
        sentences, agrees = (*doubts, *findings), None
    return replace(comparison, verdict=sentences, agrees=agrees, failures=len(failures))


def _integrity(comparison: Comparison) -> tuple[list[str], list[str]]:
    record, failures = comparison.integrity, list[str]()
    if record is None:
        return [], []
    if record.status == "stopped":
        failures.append(
            f"The run stopped itself after {record.time:.4g} ps: {record.reason.rstrip('.') or 'no reason'}."
        )
    if record.most_left:
        whose = "its" if record.most_left == 1 else "their"
        failures.append(
            f"Molecules broke: up to {_atoms(record.most_left)} away from {whose} molecule at "
            f"once, first seen at {record.first_left:.4g} ps."
        )
    for pair, closest in record.shortest.items():
        if closest.collapsed and closest.reference is not None:
            failures.append(
                f"{dash(pair)} came as close as {10 * closest.run:.3f} Å (at {closest.time:.4g} ps); the reference "
                f"never goes below {10 * closest.reference:.3f} Å."
            )
    if failures:
        return failures, []
    whole = "No molecule broke and no atoms collapsed" if comparison.bond_length else "No atoms collapsed"
    running = " so far; the run is not finished" if record.status == "running" else ""
    return [], [f"{whole} in {record.time:.4g} ps{running}."]


def _rdf(comparison: Comparison) -> tuple[list[str], list[str]]:
    failures, alike = [], []
    for pair, c in comparison.rdf.items():
        d = c.difference
        if d.p_value is None or d.band_half_width is None:
            continue
        where = 10 * c.run.centres[d.at]
        if d.p_value < SIGNIFICANCE:
            failures.append(
                f"The {dash(pair)} g(r) is not the reference's: at {where:.2f} Å it differs by {d.max_difference:.2f}, "
                f"where chance stays below {d.band_half_width:.2f} 19 times in 20 (p {_p(d.p_value)})."
            )
        else:
            alike.append(f"{d.max_difference:.2f} for {dash(pair)} ({d.band_half_width:.2f})")
    if not alike:
        return failures, []
    which = "The other g(r) agree" if failures else "g(r) agrees"
    told = f"largest difference {_listed(alike)}, in brackets what chance stays below 19 times in 20"
    return failures, [f"{which} with the reference within the errors (p above {SIGNIFICANCE:g}); {told}."]


def _distributions(comparison: Comparison) -> tuple[list[str], list[str]]:
    failures: list[str] = []
    findings: list[str] = []
    distributions = (
        (comparison.bond_length, "length", 10, "Å", 4, LENGTH_TOLERANCE),
        (comparison.angle, "angle", 1, "°", 2, ANGLE_TOLERANCE),
    )
    for compared, word, scale, sign, digits, tolerance in distributions:
        for name, c in compared.items():
            text = _means(name, c, word, scale, sign, digits)
            p = c.mean.p_value
            bad = p is not None and p < SIGNIFICANCE and abs(c.mean.difference) > tolerance
            (failures if bad else findings).append(text)
    return failures, findings


def _order(comparison: Comparison) -> tuple[list[str], list[str]]:
    failures: list[str] = []
    findings: list[str] = []
    for kind, c in comparison.order.items():
        p = c.mean.p_value
        bad = p is not None and p < SIGNIFICANCE and abs(c.mean.difference) > ORDER_TOLERANCE
        order = Quantity(c.run.average, c.reference.average, c.mean)
        (failures if bad else findings).append(f"The tetrahedral order of {kind} is {_numbers(order, 3)}.")
    q = comparison.hydrogen_bonds
    if q is not None:
        bad = _differs(q, HYDROGEN_BOND_TOLERANCE)
        (failures if bad else findings).append(f"Hydrogen bonds per molecule: {_numbers(q, 2)}.")
    return failures, findings


def _bands(comparison: Comparison) -> tuple[list[str], list[str]]:
    failures: list[str] = []
    findings: list[str] = []
    for (low, high), q in comparison.bands.items():
        if q.run is None or q.reference is None:
            continue
        name, share = f"band at {low:,.0f}–{high:,.0f} cm⁻¹", comparison.band_shares[low, high]
        if _differs(share, SHARE_TOLERANCE):
            failures.append(f"The {name} holds {_numbers(share, 1, ' %', 100)} of the spectrum.")
        (failures if _differs(q, BAND_TOLERANCE) else findings).append(
            f"The centroid of the {name} is {_numbers(q, 0, ' cm⁻¹')}."
        )
    return failures, findings


def _motion(comparison: Comparison) -> tuple[list[str], list[str]]:
    failures: list[str] = []
    findings: list[str] = []
    several = len(comparison.diffusion) > 1
    for name, q in _known(comparison.diffusion).items():
        whose = f" of {subscripts(name)}" if several else ""
        text = f"The diffusion coefficient{whose} is {_numbers(q, 2, ' Å²/ps', 100)}"
        (failures if _differs(q) else findings).append(f"{text}{_half_known(q)}.")
    for name, q in _known(comparison.reorientation).items():
        text = f"The {dash(name)} bonds turn in τ₂ = {_numbers(q, 2, ' ps')}"
        (failures if _differs(q) else findings).append(f"{text}{_half_known(q)}.")
    return failures, findings


def _known(found: dict[str, Quantity]) -> dict[str, Quantity]:
    return {name: q for name, q in found.items() if q.run is not None and q.reference is not None}


def _half_known(q: Quantity) -> str:
    """A word on how little the errors allow to see, where they are wide."""
    d = q.difference
    if d is None or d.interval is None or q.reference is None:
        return ""
    share = d.interval / abs(q.reference.mean)
    return f"; differences below {100 * share:.0f} % would not be seen" if share > 0.1 else ""


def _differs(q: Quantity, tolerance: float = 0.0) -> bool:
    d = q.difference
    return d is not None and d.p_value is not None and d.p_value < SIGNIFICANCE and abs(d.difference) > tolerance


def _numbers(q: Quantity, digits: int, sign: str = "", scale: float = 1.0) -> str:
    """One number beside the other, each with its error, as far as they are known."""
    run, reference = (
        "not known" if e is None else f"{scale * e.mean:,.{digits}f}{_pm(scale * e.interval, digits)}{sign}"
        for e in (q.run, q.reference)
    )
    return f"{run}, in the reference {reference}"


def _pm(width: float | None, digits: int) -> str:
    return "" if width is None else _half(width, digits)


def _energetics(comparison: Comparison) -> tuple[list[str], list[str]]:
    e = comparison.energetics
    failures: list[str] = []
    findings: list[str] = []
    if e is None:
        return failures, findings
    nvt = e.canonical_mean is not None
    kept = f"The mean temperature is {e.temperature.mean:.1f}{_half(e.temperature.interval, 1)} K"
    p = e.temperature.p_value(e.target)
    off = nvt and comparison.run_window.enough and p is not None and p < SIGNIFICANCE
    (failures if off else findings).append(
        f"{kept}, {'against' if off else 'for'} {e.target:.4g} K asked." if nvt else f"{kept}."
    )
    if nvt and e.canonical_variance:
        ratio, width = (x / e.canonical_variance for x in (e.kinetic_variance.mean, e.kinetic_variance.interval))
        p = e.kinetic_variance.p_value(e.canonical_variance)
        off = comparison.run_window.enough and p is not None and p < SIGNIFICANCE
        (failures if off else findings).append(
            f"The kinetic energy fluctuates with {ratio:.2f}{_half(width, 2)} times the canonical variance."
        )
    if e.drift is None:
        findings.append(f"No drift of an energy can be given: {e.drift_of}.")
    elif math.isnan(e.drift.mean):
        findings.append(f"There are too few reports to see a drift of the {e.drift_of}.")
    else:
        rate = f"{1e3 * e.drift.mean:.2g}{_half(1e3 * e.drift.interval, None)}".replace("-", "−")
        drifts = comparison.run_window.enough and abs(e.drift.mean) - e.drift.interval > DRIFT_TOLERANCE
        (failures if drifts else findings).append(f"The {e.drift_of} drifts by {rate} J/mol per atom and ps.")
    return failures, findings


def _forces(comparison: Comparison) -> tuple[list[str], list[str]]:
    """What the forces were off by along the run: no failure, for nobody said how much would be one."""
    found = comparison.recomputed
    if found is None:
        return [], []
    rmse, rms = found.error("all")
    known = held_out_error(comparison)
    beside = "" if known is None else f"; on the frames held out at inference it was {known:.1f}"
    frames = "one frame" if len(found.times) == 1 else f"{len(found.times)} frames"
    return [], [
        f"Along the run, forces differ from CP2K’s ({found.method}, {frames} recomputed) by {rmse:.1f} meV/Å, "
        f"{100 * rmse / rms:.1f} % of their RMS{beside}."
    ]


def held_out_error(comparison: Comparison, kind: str = "all") -> float | None:
    """RMSE of forces in meV/Å on the first of the sets that inference held out, where the run's record has it."""
    errors = comparison.run.model.get("errors") if comparison.run is not None else None
    table = errors.get("test") if isinstance(errors, dict) else None
    value = table.get("force_rmse", {}).get(kind) if isinstance(table, dict) else None
    return float(value) if isinstance(value, int | float) else None


def _doubts(comparison: Comparison) -> list[str]:
    windows = ((comparison.run_window, "The run"), (comparison.reference_window, "The reference"))
    doubts = [
        f"{name} is too short to tell: {window.duration:.3g} ps were analysed, and {FEWEST_BLOCKS} independent blocks "
        f"of {comparison.block_time:.2g} ps are the least for a test."
        for window, name in windows
        if not window.enough
    ]
    if doubts:
        return doubts
    names: dict[Why | None, list[str]] = {}
    for word, untested in comparison.untested.items():
        names.setdefault(untested.why, []).append(word)
    if "changes" in names:
        doubts.append(
            "The run is not the same all along. This changes along the run by more than the reference’s fluctuations "
            f"allow, so its mean says little: {_listed([f'the {_printed(word)}' for word in names['changes']])}."
        )
    if "short" in names:
        shorter, name = min(windows, key=lambda item: item[0].duration)
        times = {word: comparison.untested[word].time for word in names["short"]}
        slow = [f"the {_printed(word)} ({time:.2g} ps)" for word, time in times.items()]
        doubts.append(
            f"{name} is too short to tell of what forgets slowly, {_listed(slow)}: {shorter.duration:.3g} ps were "
            f"analysed, and {FEWEST_BLOCKS * SHORT * max(times.values()):.2g} ps are the least for a test."
        )
    seldom = [f"the {_printed(word)}" for why in ("seldom", None) for word in names.get(why, ())]
    if seldom:
        doubts.append(f"This is seen too seldom to be tested: {_listed(seldom)}.")
    return doubts


def hides_a_difference(comparison: Comparison) -> bool:
    """Whether a mean length or angle that could not be tested differs by more than matters."""
    return any(
        c.mean.p_value is None and abs(c.mean.difference) > tolerance
        for part, tolerance in ((comparison.bond_length, LENGTH_TOLERANCE), (comparison.angle, ANGLE_TOLERANCE))
        for c in part.values()
    )


def dash(name: str) -> str:
    """A pair or triple of species as printed, with en dashes."""
    return name.replace("-", "–")


def _printed(word: str) -> str:
    return subscripts(word) if word.startswith("diffusion") else dash(word)


def subscripts(formula: str) -> str:
    """A formula as printed, with its numbers below the line."""
    return formula.translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))


def _means(name: str, c: DistributionComparison, word: str, scale: int, sign: str, digits: int) -> str:
    space = "" if sign == "°" else " "
    interval = "" if c.mean.interval is None else f" ± {scale * c.mean.interval:.{digits}f}"
    return (
        f"The mean {dash(name)} {word} is {scale * c.run.average.mean:.{digits}f}{space}{sign}, in the reference "
        f"{scale * c.reference.average.mean:.{digits}f}{space}{sign} (difference "
        f"{_signed(scale * c.mean.difference, digits)}{interval}{space}{sign})."
    )


def _signed(value: float, digits: int) -> str:
    return f"{value:+.{digits}f}".replace("-", "−")


def _half(width: float, digits: int | None) -> str:
    if math.isnan(width):
        return ""
    return f" ± {width:.2g}" if digits is None else f" ± {width:.{digits}f}"


def _p(value: float) -> str:
    return "< 0.001" if value < 1e-3 else f"= {value:.3f}"


def _atoms(number: int) -> str:
    return "1 atom was" if number == 1 else f"{number} atoms were"


def _listed(items: list[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
