"""The page of a comparison: one HTML file that needs nothing beside it, the figures as PNG, the numbers as JSON."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from openmm_duality.errors import DualityError
from openmm_duality.files import atomic_write
from openmm_duality.observables.results import Comparison
from openmm_duality.observables.trajectory import counts
from openmm_duality.observables.verdict import SIGNIFICANCE, dash
from openmm_duality.report.figures import figures, png, svg

_HEADLINES = {
    True: "The run agrees with the reference",
    False: "The run differs from the reference",
    None: "Too short to tell",
}
_INTEGRATORS = {
    "VerletLearningIntegrator": "velocity Verlet",
    "NoseHooverLearningIntegrator": "Nosé–Hoover chain",
    "LangevinLearningIntegrator": "Langevin",
    "DescentLearningIntegrator": "damped descent",
}


def write_report(comparison: Comparison, directory: str | Path, *, overwrite: bool = False) -> Path:
    """Write `compare.json`, `report.html` and the figures as PNG.

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
    for path in (page, directory / "compare.json", *(directory / f"{name}.png" for name in drawn)):
        if path.exists() and not overwrite:
            raise DualityError(f"{path} exists already and would be overwritten; choose another folder, or overwrite")
    with atomic_write(directory / "compare.json", overwrite) as path:
        path.write_text(json.dumps(comparison.to_dict(), allow_nan=False, indent=1) + "\n", encoding="utf-8")
    for name, figure in drawn.items():
        with atomic_write(directory / f"{name}.png", overwrite) as path:
            path.write_bytes(png(figure))
    with atomic_write(page, overwrite) as path:
        path.write_text(render(comparison, {name: svg(figure, name) for name, figure in drawn.items()}), "utf-8")
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
    environment.filters |= {"dash": dash, "pm": _plus_minus, "p": _p_value, "number": _number, "tie": _tie}
    return environment.get_template("page.html").render(
        c=comparison,
        headline=_HEADLINES[comparison.agrees],
        substance=_formula(comparison.run.trajectory.species),
        facts=_facts(comparison),
        errors=_force_errors(comparison.run.model),
        figures={name: Markup(text) for name, text in drawn.items()},
        significance=SIGNIFICANCE,
        limits=_limits(comparison),
    )


def _formula(species: tuple[str, ...]) -> str:
    """How many atoms of each species, as `128 H, 64 O`."""
    return ", ".join(f"{number} {kind}" for kind, number in counts(species).items())


def _facts(comparison: Comparison) -> list[tuple[str, str]]:
    """What was run, as a table of names and values; what the run does not say is left out."""
    settings, model = comparison.run.settings, comparison.run.model
    atoms = _formula(comparison.run.trajectory.species)
    run, reference = comparison.run_window, comparison.reference_window
    form = ", ".join(f"{model[key]}{tail}" for key, tail in (("form", ""), ("gradient", " gradient")) if model.get(key))
    sha = str(model.get("sha256", ""))
    integrator = str(settings.get("integrator", ""))
    cost = settings.get("ms_per_step")
    facts = [
        ("Model", str(model.get("name", "")) + (f" ({sha[:12]}…)" if sha else "")),
        ("Loss", form),
        ("System", f"{atoms} at {settings['temperature']:g} K, {settings['ensemble']}"),
        ("Integrator", f"{_INTEGRATORS.get(integrator, integrator)}, {1e3 * settings['timestep']:g} fs"),
        ("Platform", _hardware(settings)),
        ("Cost of a step", "" if cost is None else f"{float(cost):.3g} ms"),
        ("Run analysed", f"{run.duration:.3g} ps, {run.frames} frames, after {run.discarded:.2g} ps left out"),
        ("Reference", f"{reference.duration:.3g} ps, {reference.frames} frames of {reference.atoms} atoms"),
        ("Blocks", f"{run.n_blocks} of {run.duration / run.n_blocks:.2g} ps (run), {reference.n_blocks} of "
                   f"{reference.duration / reference.n_blocks:.2g} ps (reference)"),
    ]  # fmt: skip
    return [(name, value) for name, value in facts if value.strip()]


def _hardware(settings: dict[str, Any]) -> str:
    """Where the run was, and at what precision: the losses' own arithmetic is not that of the platform."""
    platform, precision, losses = (settings.get(key) for key in ("platform", "precision", "loss_precision"))
    if not losses:
        return " ".join(str(word) for word in (platform, precision) if word)
    forces = [kind for kind in settings.get("forces", ()) if kind != "CMMotionRemover" and "Barostat" not in kind]
    if len(forces) == 1 and platform in ("Reference", "CPU"):  # they integrate in double precision
        return f"{platform}, forces in {losses} precision"
    return f"{platform} {precision}, forces of the losses in {losses} precision"


def _force_errors(model: dict[str, Any]) -> list[dict[str, Any]]:
    """One row per set of data and kind of force: RMSE, RMS and their ratio, as `evaluate` wrote them."""
    errors = model.get("errors")
    if not isinstance(errors, dict):
        return []
    sets = {"": errors} if "force_rmse" in errors else {k: v for k, v in errors.items() if isinstance(v, dict)}
    rows = []
    for name, measured in sets.items():
        rms = measured.get("force_rms", {})
        for kind, value in measured.get("force_rmse", {}).items():
            scale = rms.get(kind)
            share = 100 * value / scale if scale else None
            rows.append({"set": name, "kind": kind, "rmse": value, "rms": scale, "share": share})
    return rows


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
    if comparison.run_window.atoms == comparison.reference_window.atoms:
        limits.append("Run and reference share one cell size, so neither speaks of a larger system.")
    else:
        limits.append("Run and reference differ in size; part of a difference may come from the smaller cell.")
    limits.append("Agreement with the reference is not agreement with experiment: the reference has errors of its own.")
    limits.append("Diffusion, spectra and the order of hydrogen bonds were not compared.")
    if not comparison.enough:
        limits.append("Error bars come from blocks too short to be independent, and are smaller than the true errors.")
    if comparison.run.model.get("gradient") == "agent":
        limits.append("The agent gradient has no potential energy: energies shown are sums of losses, for information.")
    return limits


def _plus_minus(estimate: Any, scale: float = 1.0, digits: int = 2) -> str:
    """A mean with the half-width of its 95 % interval."""
    if math.isnan(estimate.mean):
        return "–"
    half = scale * estimate.interval
    mean = f"{scale * estimate.mean:.{digits}f}".replace("-", "−")
    return mean if math.isnan(half) else f"{mean} ± {half:.{digits}f}"


def _p_value(value: float | None) -> str:
    if value is None:
        return "too short to tell"
    return "< 0.001" if value < 1e-3 else f"{value:.3f}"


def _number(value: float | None, digits: int = 2) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.{digits}f}".replace("-", "−")


def _tie(sentence: str) -> str:
    """Numbers kept on one line with their errors and units."""
    return re.sub(r" (?=±|[<=] |Å|K\b|ps\b|J/mol)|(?<=[±<=]) ", "\u00a0", sentence)
