"""The conclusion of a comparison in one line, and its limitations."""

from __future__ import annotations

from collections import Counter

from openmm_duality.observables.conditions import same_cell
from openmm_duality.observables.differences import SIGNIFICANCE
from openmm_duality.observables.findings import Conclusion, Finding, Observable
from openmm_duality.observables.results import Comparison
from openmm_duality.report.formatting import dash, listed, printed, subscripts
from openmm_duality.report.sentences import INTEGRITY

_STANDINGS = {
    Conclusion.NO_DIFFERENCE: f"no difference found at p < {SIGNIFICANCE:g} (joint)",
    Conclusion.DIFFERS: "differs",
    Conclusion.TOO_SHORT: "too short to tell",
    Conclusion.NOT_STATIONARY: "too short to tell: something changes along the run",
}
_CHECKS = (*INTEGRITY, Observable.ENERGY_DRIFT, Observable.TEMPERATURE, Observable.KINETIC_VARIANCE)
_MOST = 4  # names in a line
_COARSE = 30.0  # cm⁻¹: a resolution above this is mentioned


def headline(comparison: Comparison) -> str:
    """The conclusion, in one line."""
    if not comparison.more:
        words = standing(comparison)
        return f"The run {words}" if comparison.failures else words[0].upper() + words[1:]
    number = Counter(c.agrees for c in comparison.columns)
    said = {
        True: f"with {_STANDINGS[Conclusion.NO_DIFFERENCE]}",
        False: "that differs" if number[False] == 1 else "that differ",
        None: _STANDINGS[Conclusion.TOO_SHORT],
    }
    parts = [f"{number[agrees]} {text}" for agrees, text in said.items() if number[agrees]]
    return f"Of {len(comparison.columns)} runs: {listed(parts)}"


def standing(column: Comparison) -> str:
    """The conclusion for one of several runs, in a few words."""
    words, untested = _STANDINGS[column.conclusion], len(column.untested)
    if column.conclusion is Conclusion.DIFFERS:
        return _differs(column.failures)
    if column.conclusion is Conclusion.NO_DIFFERENCE and untested:
        return f"{words}; {untested} of {untested + len(column.tests)} not tested"
    return words


def _differs(failures: tuple[Finding, ...]) -> str:
    """What the run differs in, and which of its own checks it fails."""
    parts = []
    for verb, found in (
        ("differs in", [printed(f) for f in failures if f.observable not in _CHECKS]),
        ("fails its own checks of", [printed(f) for f in failures if f.observable in _CHECKS]),
    ):
        if found:
            more = len(found) - _MOST
            names = [*found[:_MOST], f"{more} more"] if more > 1 else found
            parts.append(f"{verb} {listed(names)}")
    return " and ".join(parts)


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
    found.append(_cells(comparison))
    found.append("No difference from the reference is no agreement with experiment: the reference has errors too.")
    if tests := len(comparison.tests):
        found.append(
            f"{tests} tests are judged together: of equal sources, {100 * SIGNIFICANCE:.0f} % of pages are to find a "
            "difference; what was measured about that stands in docs/comparison.md. No difference found is no proof "
            "that there is none."
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


def _cells(comparison: Comparison) -> str:
    """How the cells of run and reference compare."""
    known = comparison.reference_conditions
    if any(c.run_window.atoms != comparison.reference_window.atoms for c in comparison.columns):
        return "Run and reference differ in size; part of a difference may come from the smaller cell."
    if known.cell is None or any(c.conditions.cell is None for c in comparison.columns):
        return "Run or reference has no cell, so that their densities are not compared."
    if not all(same_cell(c.conditions.cell, known.cell) for c in comparison.columns):
        return "Run and reference hold the same number of atoms in cells that differ."
    return "Run and reference share one cell, so neither describes a larger system."
