"""The page of a comparison: one HTML file that needs nothing beside it, with figures as PNG and SVG and JSON."""

from __future__ import annotations

import json
import re
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from openmm_duality.errors import DualityError
from openmm_duality.files import atomic_write
from openmm_duality.observables.results import Comparison
from openmm_duality.observables.statistics import SIGNIFICANCE, CurveDifference, MeanDifference
from openmm_duality.observables.verdict import dash, hides_a_difference, subscripts
from openmm_duality.report.figures import figures, inline, png, svg
from openmm_duality.report.tables import (
    facts,
    force_errors,
    formula,
    glance,
    number,
    plus_minus,
    reference_facts,
)

_HEADLINES = {
    True: "The run agrees with the reference",
    False: "The run differs from the reference",
    None: "Too short to tell",
}
_IN_PART = "The run agrees with the reference, as far as can be told"
_CHANGES = "The run changes along its way, too much to tell"
_COARSE = 30.0  # cm⁻¹: of a spectrum, worth a word
_STANDING = {True: "agrees", False: "differs", None: "too short to tell"}
_UNTESTED = {"changes": "changes along the run", "seldom": "seen too seldom", "short": "too short to tell"}


def write_report(comparison: Comparison, directory: str | Path, *, overwrite: bool = False) -> Path:
    """Write `compare.json`, `report.html` and the figures as PNG and SVG.

    Parameters
    ----------
    comparison : Comparison
        What `compare` gives.
    directory : str or Path
        Made if it is missing.
    overwrite : bool
        Whether an earlier report there may be replaced.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    DualityError
        If a file is there already and may not be replaced.
    """
    directory = Path(directory)
    drawn = figures(comparison)
    page = directory / "report.html"
    files = [directory / f"{name}.{kind}" for name in drawn for kind in ("png", "svg")]
    for path in (page, directory / "compare.json", *files):
        if path.exists() and not overwrite:
            raise DualityError(f"{path} exists already and would be overwritten; choose another folder, or overwrite")
    with atomic_write(directory / "compare.json", overwrite) as path:
        path.write_text(json.dumps(comparison.to_dict(), allow_nan=False, indent=1) + "\n", encoding="utf-8")
    drawings = {name: svg(figure, name) for name, figure in drawn.items()}
    for name, figure in drawn.items():
        with atomic_write(directory / f"{name}.png", overwrite) as path:
            path.write_bytes(png(figure))
        with atomic_write(directory / f"{name}.svg", overwrite) as path:
            path.write_text(drawings[name], encoding="utf-8")
    with atomic_write(page, overwrite) as path:
        path.write_text(render(comparison, {name: inline(text) for name, text in drawings.items()}), "utf-8")
    return page


def render(comparison: Comparison, drawn: dict[str, str]) -> str:
    """The page as HTML.

    Parameters
    ----------
    comparison : Comparison
        What `compare` gives.
    drawn : dict of str to str
        SVG of every figure, by name.
    """
    environment = Environment(
        loader=PackageLoader("openmm_duality.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"dash": dash, "pm": plus_minus, "p": _p_value, "number": number, "tie": _tie}
    return environment.get_template("page.html").render(
        c=comparison,
        headline=_headline(comparison),
        standing=_standing,
        substance=formula(comparison.species),
        groups=glance(comparison),
        facts=[(column, facts(column)) for column in comparison.columns],
        reference_facts=reference_facts(comparison),
        errors=force_errors(comparison),
        sections=_sections({name: Markup(text) for name, text in drawn.items()}),
        recomputed=_recomputed(comparison),
        significance=SIGNIFICANCE,
        limits=_limits(comparison),
        notes=list(dict.fromkeys(note for column in comparison.columns for note in column.notes)),
    )


def _headline(comparison: Comparison) -> str:
    if not comparison.more:
        if comparison.agrees is None and comparison.changes:
            return _CHANGES
        tested = any(c.difference.p_value is not None for c in comparison.rdf.values())
        if comparison.agrees is None and comparison.enough and tested and not hides_a_difference(comparison):
            return _IN_PART
        return _IN_PART if comparison.agrees and comparison.untested else _HEADLINES[comparison.agrees]
    alike = sum(c.agrees is True for c in comparison.columns)
    total = len(comparison.columns)
    if alike == 0:
        return f"None of {total} runs agrees with the reference"
    return f"{alike} of {total} runs {'agrees' if alike == 1 else 'agree'} with the reference"


def _standing(column: Comparison) -> str:
    return _UNTESTED["changes"] if column.agrees is None and column.changes else _STANDING[column.agrees]


def _sections(drawn: dict[str, Markup]) -> dict[str, list[Markup]]:
    """The figures by the section of the page they stand in."""
    places = {
        "pairs": ("rdf", "coordination"),
        "order": ("order", "around"),
        "molecules": ("length", "angle"),
        "motion": ("displacement", "reorientation"),
        "vibrations": ("spectrum", "autocorrelation"),
        "energy": ("temperature", "energy"),
        "forces": ("forces",),
    }
    return {
        section: [figure for start in starts for name, figure in drawn.items() if name.split("-")[0] == start]
        for section, starts in places.items()
    }


def _recomputed(comparison: Comparison) -> str:
    """Which frames CP2K computed again."""
    runs = [(c.name, c.recomputed) for c in comparison.columns if c.recomputed is not None]
    counts = {
        name: f"{len(r.times)} {'frame' if len(r.times) == 1 else 'frames'}"
        + (f" ({len(r.refused)} refused)" if r.refused else "")
        for name, r in runs
    }
    methods = ", ".join(dict.fromkeys(r.method for _, r in runs))
    if len(counts) > 1 and len(set(counts.values())) == 1:
        which = f"{next(iter(counts.values()))} each of {', '.join(list(counts)[:-1])} and {list(counts)[-1]}"
    else:
        which = "; ".join(f"{count} of {name}" for name, count in counts.items())
    return f"Computed again by CP2K ({methods}): {which}."


def _limits(comparison: Comparison) -> list[str]:
    """What this comparison cannot say."""
    limits = []
    bands = [
        f"{d.band_half_width:.2f} for {dash(pair)}"
        for pair, c in comparison.rdf.items()
        if (d := c.difference).band_half_width is not None
    ]
    if bands:
        limits.append(f"Differences of g(r) smaller than {', '.join(bands)} would not be seen in so little time.")
    for name, q in comparison.diffusion.items():
        if q.difference is not None and q.difference.interval is not None and q.reference is not None:
            share = 100 * q.difference.interval / abs(q.reference.mean)
            limits.append(f"Diffusion of {subscripts(name)} that differs by less than {share:.0f} % would not be seen.")
    spectra = comparison.reference_motion.spectra
    if spectra is not None and spectra.resolution > _COARSE:
        limits.append(f"Spectra are resolved to {spectra.resolution:.0f} cm⁻¹: finer features are not compared.")
    if all(c.run_window.atoms == comparison.reference_window.atoms for c in comparison.columns):
        limits.append("Run and reference share one cell size, so neither speaks of a larger system.")
    else:
        limits.append("Run and reference differ in size; part of a difference may come from the smaller cell.")
    limits.append("Agreement with the reference is not agreement with experiment: the reference has errors of its own.")
    tests = sum(len(part) for part in (comparison.rdf, comparison.bond_length, comparison.angle, comparison.order))
    tests += len(comparison.bands) + len(comparison.diffusion) + len(comparison.reorientation)
    limits.append(
        f"Each of about {tests} tests a run fails by chance once in {1 / SIGNIFICANCE:.0f} times: one failure near "
        f"p = {SIGNIFICANCE} among many that pass says little."
    )
    if any(not c.enough for c in comparison.columns):
        limits.append(
            "Where time is too short, blocks know too little of slow changes, and their error bars are too small."
        )
    if any(c.run is not None and c.run.model.get("gradient") == "agent" for c in comparison.columns):
        limits.append("The agent gradient has no potential energy: energies shown are sums of losses, for information.")
    return limits


def _p_value(difference: CurveDifference | MeanDifference) -> str:
    value = difference.p_value
    if value is None:
        return _UNTESTED[difference.why or "short"]
    return "< 0.001" if value < 1e-3 else f"{value:.3f}"


def _tie(sentence: str) -> str:
    """Numbers kept on one line with their errors and units."""
    return re.sub(r" (?=±|[<=] |Å|K\b|ps\b|cm⁻¹|%|J/mol)|(?<=[±<=]) ", "\u00a0", sentence)
