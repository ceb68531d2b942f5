"""Formatting of numbers and names."""

from __future__ import annotations

import math
import re
from typing import NamedTuple

from openmm_duality.observables.conditions import Origin
from openmm_duality.observables.differences import CurveDifference, MeanDifference
from openmm_duality.observables.findings import Finding, Measured, Name, Observable
from openmm_duality.observables.statistics import Estimate, Reason
from openmm_duality.observables.trajectory import counts

NOTHING = "–"
UNTESTED = {
    Reason.NOT_STATIONARY: "changes along the run",
    Reason.TOO_RARE: "too rare to test",
    Reason.TOO_SHORT: "too short to test",
    Reason.SET: "set, not measured",
    Reason.CONSTANT: "never changes in either",
    Reason.IMPLIED: "follows from the others",
    Reason.ONE_SIDED: "not in both",
}


ORIGINS = {
    Origin.LOG: "from its log",
    Origin.ENERGY_FILE: "from its .ener file",
    Origin.VELOCITIES: "from its velocities",
}


class Shown(NamedTuple):
    """Format of an observable.

    Parameters
    ----------
    label, title : str
        Its name in plain letters and in tables, with the place of the subject.
    unit : str
    scale : float
        From the unit that a comparison gives the observable.
    digits : int or None
        None for as many as the error of a number asks for.
    """

    label: str
    title: str = ""
    unit: str = ""
    scale: float = 1.0
    digits: int | None = 2

    @property
    def sign(self) -> str:
        """The unit behind its number."""
        return self.unit if self.unit in ("", "°") else f" {self.unit}"


SHOWN = {
    Observable.SET_TEMPERATURE: Shown("temperature set", "Temperature, set", "K", 1, 1),
    Observable.MEAN_TEMPERATURE: Shown("mean temperature", "Temperature, mean", "K", 1, 1),
    Observable.DENSITY: Shown("density", "Density", "g/cm³", 1, 4),
    Observable.SET_PRESSURE: Shown("pressure set", "Pressure, set", "bar", 1, 1),
    Observable.PRESSURE: Shown("pressure", "Pressure, mean", "bar", 1, 0),
    Observable.RDF: Shown("g(r) {}", "g(r) {}, largest difference"),
    Observable.RDF_WHOLE: Shown("g(r) {}, bonds too"),
    Observable.COORDINATION: Shown("neighbours {}"),
    Observable.FIRST_SHELL: Shown("first shell of {}", "{} within the first shell"),
    Observable.BOND_LENGTH: Shown("{} length", "{} length", "Å", 10, 4),
    Observable.BOND_LENGTH_SPREAD: Shown("spread of the {} length", "standard deviation", "Å", 10, 4),
    Observable.ANGLE: Shown("{} angle", "{} angle", "°", 1, 2),
    Observable.ANGLE_SPREAD: Shown("spread of the {} angle", "standard deviation", "°", 1, 2),
    Observable.TETRAHEDRAL_ORDER: Shown("tetrahedral order of {}", "Tetrahedral order of {}", "", 1, 3),
    Observable.NEIGHBOUR_ANGLE: Shown("{} angle", "{} angle, four nearest", "°", 1, 2),
    Observable.HYDROGEN_BONDS: Shown("hydrogen bonds", "Hydrogen bonds per molecule", "", 1, 2),
    Observable.POPULATION: Shown("number of {} molecules", "{} molecules", "", 1, 3),
    Observable.HOPS: Shown("hops of {}", "Hops of {}", "1/ps", 1, 2),
    Observable.LIFETIME: Shown("lifetime of {}", "Lifetime of {}", "ps", 1, 3),
    Observable.OWN: Shown("{}", "{}", "", 1, None),
    Observable.BAND_CENTROID: Shown("centroid of the band {}", "Band {}, centroid", "cm⁻¹", 1, 0),
    Observable.BAND_SHARE: Shown("share of the band {}", "its share of the spectrum", "%", 100, 1),
    Observable.DIFFUSION: Shown("diffusion of {}", "Diffusion of {}", "Å²/ps", 100, 2),
    Observable.REORIENTATION: Shown("turning of {} bonds", "τ₂ of {}", "ps", 1, 2),
    Observable.TEMPERATURE: Shown("temperature against its heat bath", "Temperature", "K", 1, 1),
    Observable.KINETIC_VARIANCE: Shown("variance of the kinetic energy"),
    Observable.COMPLETION: Shown("completion"),
    Observable.WHOLE_MOLECULES: Shown("whole molecules"),
    Observable.SHORTEST_DISTANCE: Shown("shortest distance {}"),
    Observable.ENERGY_DRIFT: Shown("drift of the energy"),
    Observable.PUMP: Shown("power pumped into the motion"),
    Observable.FORCE_ERROR: Shown("force error, {}"),
}

FORMULAS = (Observable.DIFFUSION, Observable.POPULATION, Observable.LIFETIME)  # whose subjects are formulas


def label(measured: Measured | Finding) -> str:
    """The name of what was measured, in plain letters: "H-O length, spread"."""
    subject = measured.subject
    named = f"{subject[0]:g}-{subject[1]:g}" if isinstance(subject, tuple) else subject
    name = SHOWN[measured.observable].label.format(named)
    statistic = measured.statistic if isinstance(measured, Measured) else "mean"
    return name if statistic == "mean" else f"{name}, {statistic}"


def printed(measured: Measured | Finding) -> str:
    """Print names with typographic care: formulas with subscripts, species with en dashes."""
    if measured.observable is Observable.OWN:
        return label(measured)
    return (subscripts if measured.observable in FORMULAS else dash)(label(measured))


def dash(name: Name) -> str:
    """A pair or triple of species, or the limits of a band, as printed, with en dashes."""
    return f"{name[0]:,.0f}–{name[1]:,.0f}" if isinstance(name, tuple) else name.replace("-", "–")


def subscripts(formula: Name) -> str:
    """A formula as printed, with its numbers below the line."""
    return str(formula).translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))


def formula(species: tuple[str, ...]) -> str:
    """Numbers of atoms by species, as `128 H, 64 O`."""
    return ", ".join(f"{number} {name}" for name, number in counts(species).items())


def listed(items: list[str]) -> str:
    """Items with commas, and "and" before the last."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def plus_minus(estimate: Estimate | None, scale: float = 1.0, digits: int | None = 2) -> str:
    """A mean with the half-width of its 95 % interval, with two digits of that where none are given."""
    if estimate is None or math.isnan(estimate.mean):
        return NOTHING
    if digits is None:
        digits = _digits(scale * estimate.interval)
        if digits is None:
            return f"{scale * estimate.mean:.4g}".replace("-", "−") + half_width(scale * estimate.interval, None)
    digits = enough(digits, scale * estimate.interval)
    mean = f"{scale * estimate.mean:,.{digits}f}".replace("-", "−")
    return mean + half_width(scale * estimate.interval, digits)


def enough(digits: int, width: float | None) -> int:
    """Digits behind the point, more of them where an error of that half-width would be printed as zero."""
    if width is None or math.isnan(width) or width >= 0.5 * 10.0**-digits:
        return digits
    return _digits(width) or digits


def _digits(width: float) -> int | None:
    """Digits behind the point that show an error with two digits; None where there is no error or a large one."""
    if math.isnan(width) or not 1e-6 < width < 1e6:
        return None
    return max(0, 1 - math.floor(math.log10(width)))


def half_width(width: float | None, digits: int | None) -> str:
    """The half-width of an interval behind its number, with two significant digits where none are given."""
    if width is None or math.isnan(width) or width == 0.0:  # what is set has none
        return ""
    return f" ± {width:.2g}" if digits is None else f" ± {width:.{digits}f}"


def number(value: float | None, digits: int = 2) -> str:
    """A number with its sign, or a dash."""
    return NOTHING if value is None or math.isnan(value) else f"{value:.{digits}f}".replace("-", "−")


def signed(value: float, digits: int | None) -> str:
    """A number with its sign, + too, with three digits where none are given."""
    if digits is None:
        return f"{value:+.3g}".replace("-", "−")
    return f"{value:+.{digits}f}".replace("-", "−")


def p_value(difference: CurveDifference | MeanDifference) -> str:
    """The p value of a difference, or why there is none."""
    value = difference.p_value
    return UNTESTED[difference.reason or Reason.TOO_SHORT] if value is None else chance(value)


def chance(p_value: float) -> str:
    """A p value with two digits, or as many zeros as it begins with."""
    if p_value < 1e-6:
        return "< 10⁻⁶"
    return f"{p_value:.2g}" if p_value < 0.1 else f"{p_value:.2f}"


def stated(p_value: float) -> str:
    """A p value that is corrected for the number of tests."""
    text = chance(p_value)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def tested(finding: Finding) -> str:
    """The p value of a finding with its sign, or why there is none."""
    if finding.p_value is None:
        return "no test: " + UNTESTED[finding.reason or Reason.TOO_SHORT]
    return stated(finding.p_value)


def tied(sentence: str) -> str:
    """Numbers kept on one line with their errors and units."""
    return re.sub(r" (?=±|[<=] |Å|K\b|ps\b|cm⁻¹|%|J/mol)|(?<=[±<=]) ", "\u00a0", sentence)
