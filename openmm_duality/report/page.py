"""The page of a comparison: one HTML file that needs nothing beside it, with figures as PNG and SVG and JSON."""

from __future__ import annotations

import json
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from openmm_duality.errors import DualityError
from openmm_duality.files import staged
from openmm_duality.observables.differences import SIGNIFICANCE
from openmm_duality.observables.findings import Observable
from openmm_duality.observables.results import Comparison
from openmm_duality.report.figures import figures
from openmm_duality.report.formatting import dash, formula, number, p_value, plus_minus, tied
from openmm_duality.report.headlines import headline, limitations, standing
from openmm_duality.report.notes import drift_of, note_sentence
from openmm_duality.report.plain import comparison_to_dict
from openmm_duality.report.sentences import recomputed_frames, verdict
from openmm_duality.report.style import inline, png, svg
from openmm_duality.report.tables import facts, force_errors, glance, reference_facts


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
    drawings = {name: svg(figure, name) for name, figure in drawn.items()}
    with staged(directory, overwrite) as place:
        content = json.dumps(comparison_to_dict(comparison), allow_nan=False, indent=1)
        (place / "compare.json").write_text(content + "\n", encoding="utf-8")
        for name, figure in drawn.items():
            (place / f"{name}.png").write_bytes(png(figure))
            (place / f"{name}.svg").write_text(drawings[name], encoding="utf-8")
        (place / page.name).write_text(
            render(comparison, {name: inline(text) for name, text in drawings.items()}), encoding="utf-8"
        )
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
    environment.filters |= {"dash": dash, "pm": plus_minus, "p": p_value, "number": number, "tie": tied}
    environment.filters["drift_of"] = drift_of
    return environment.get_template("page.html").render(
        c=comparison,
        headline=headline(comparison),
        standing=standing,
        verdict=verdict,
        observable=Observable,
        substance=formula(comparison.species),
        groups=glance(comparison),
        facts=[(column, facts(column)) for column in comparison.columns],
        reference_facts=reference_facts(comparison),
        errors=force_errors(comparison),
        sections=_sections({name: Markup(text) for name, text in drawn.items()}),
        recomputed=recomputed_frames(comparison),
        significance=SIGNIFICANCE,
        limitations=limitations(comparison),
        notes=list(dict.fromkeys(note_sentence(note) for column in comparison.columns for note in column.notes)),
    )


def _sections(drawn: dict[str, Markup]) -> dict[str, list[Markup]]:
    """The figures by the section of the page they stand in."""
    places = {
        "pairs": ("rdf", "coordination"),
        "order": ("order", "around"),
        "molecules": ("length", "angle"),
        "motion": ("displacement", "reorientation"),
        "reactions": ("hops",),
        "own": ("own",),
        "vibrations": ("spectrum", "autocorrelation"),
        "energy": ("temperature", "energy"),
        "forces": ("forces",),
    }
    return {
        section: [figure for start in starts for name, figure in drawn.items() if name.split("-")[0] == start]
        for section, starts in places.items()
    }
