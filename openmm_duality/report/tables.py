"""The tables of the page: all runs beside the reference, one row per observable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from openmm_duality.observables.findings import Measured, Name, Observable
from openmm_duality.observables.results import Comparison, DistributionComparison, Quantity
from openmm_duality.observables.time_correlations import Diffusion
from openmm_duality.observables.trajectory import counts
from openmm_duality.report.formatting import NOTHING, dash, formula, plus_minus, printed, subscripts

_INTEGRATORS = {
    "VerletLearningIntegrator": "velocity Verlet",
    "NoseHooverLearningIntegrator": "Nosé–Hoover chain",
    "LangevinLearningIntegrator": "Langevin",
    "DescentLearningIntegrator": "damped descent",
}


@dataclass(frozen=True)
class Cell:
    """The value of one run in one row, and whether the run fails in it."""

    text: str
    bad: bool = False


@dataclass(frozen=True)
class Row:
    """One observable: its name and unit, the reference's value, and a cell per run."""

    name: str
    unit: str
    reference: str
    cells: list[Cell]


@dataclass(frozen=True)
class Group:
    """Rows that belong together under a heading."""

    title: str
    rows: list[Row]


def glance(comparison: Comparison) -> list[Group]:
    """Everything that was compared, in one table.

    Parameters
    ----------
    comparison : Comparison
    """
    groups = [
        Group("Liquid structure", [*_rdf(comparison), *_shells(comparison), *_order(comparison)]),
        Group("Molecules", _molecules(comparison)),
        Group("Vibrations", _bands(comparison)),
        Group("Motion", _motion(comparison)),
        Group("Forces along the run", _forces(comparison)),
        Group("Run", _run(comparison)),
    ]
    return [group for group in groups if group.rows]


def facts(c: Comparison) -> list[tuple[str, str]]:
    """What was run, as names and values; what the run does not say is left out."""
    window = c.run_window
    if c.run is None:
        found = [
            ("System", formula(c.species)),
            ("Data", " · ".join(source.split(" sha256")[0] for source in c.source)),
        ]
    else:
        settings, model = c.run.settings, c.run.model
        form = ", ".join(f"{model[k]}{tail}" for k, tail in (("form", ""), ("gradient", " gradient")) if model.get(k))
        sha, integrator = str(model.get("sha256", "")), str(settings.get("integrator", ""))
        cost = settings.get("ms_per_step")
        found = [
            ("Model", str(model.get("name", "")) + (f" ({sha[:12]}…)" if sha else "")),
            ("Loss", form),
            ("System", f"{formula(c.species)} at {settings['temperature']:g} K, {settings['ensemble']}"),
            ("Integrator", f"{_INTEGRATORS.get(integrator, integrator)}, {1e3 * settings['timestep']:g} fs"),
            ("Platform", _hardware(settings)),
            ("Cost of a step", "" if cost is None else f"{float(cost):.3g} ms, reports included"),
        ]
    thinned = "" if window.structure_frames == window.frames else f" ({window.structure_frames} for structure)"
    left_out = f", after {window.discarded:.2g} ps left out" if window.discarded else ""
    found.append(("Analysed", f"{window.duration:.3g} ps, {window.frames} frames{thinned}{left_out}"))
    found.append(("Correlation time", _slowest(window.slowest)))
    return [(name, value) for name, value in found if value.strip()]


def reference_facts(c: Comparison) -> list[tuple[str, str]]:
    """The same of the reference."""
    window = c.reference_window
    found = [
        ("Data", _files(c.reference_source)),
        ("For motion", _files(c.dynamics_source)),
        ("Analysed", f"{window.duration:.3g} ps, {window.frames} frames of {window.atoms} atoms"),
        ("Correlation time", _slowest(window.slowest)),
    ]
    return [(name, value) for name, value in found if value.strip()]


def force_errors(comparison: Comparison) -> list[dict[str, Any]]:
    """One row per set of data and kind of force, with RMSE and its share of the RMS for every run that has them."""
    tables = [_errors_of({} if c.run is None else c.run.model) for c in comparison.columns]
    keys = list(dict.fromkeys(key for table in tables for key in table))
    return [
        {"set": key[0], "kind": key[1], "cells": [table.get(key, (None, None, None)) for table in tables]}
        for key in keys
    ]


def _files(source: tuple[str, ...]) -> str:
    """The names of files without their hashes, which stand at the foot of the page."""
    return " · ".join(name.split(" sha256")[0] for name in source)


def _slowest(slowest: tuple[Measured, float] | None) -> str:
    return f"up to {slowest[1]:.2g} ps ({printed(slowest[0])})" if slowest is not None and slowest[1] > 0 else ""


def _hardware(settings: dict[str, Any]) -> str:
    """Where the run was, and at what precision: the losses' own arithmetic is not that of the platform."""
    platform, precision, losses = (settings.get(key) for key in ("platform", "precision", "loss_precision"))
    if not losses:
        return " ".join(str(word) for word in (platform, precision) if word)
    forces = [kind for kind in settings.get("forces", ()) if kind != "CMMotionRemover" and "Barostat" not in kind]
    if len(forces) == 1 and platform in ("Reference", "CPU"):  # they integrate in double precision
        return f"{platform}, forces in {losses} precision"
    return f"{platform} {precision}, forces of the losses in {losses} precision"


def _errors_of(model: dict[str, Any]) -> dict[tuple[str, str], tuple[float | None, float | None, float | None]]:
    """RMSE, RMS and their ratio in per cent by set and kind of force, as `evaluate` wrote them."""
    errors = model.get("errors")
    if not isinstance(errors, dict):
        return {}
    sets = {"": errors} if "force_rmse" in errors else {k: v for k, v in errors.items() if isinstance(v, dict)}
    found = {}
    for name, measured in sets.items():
        rms = measured.get("force_rms", {})
        for kind, value in measured.get("force_rmse", {}).items():
            scale = rms.get(kind)
            found[name, kind] = (value, scale, 100 * value / scale if scale else None)
    return found


def _rdf(comparison: Comparison) -> list[Row]:
    rows = []
    for pair, c in comparison.rdf.items():
        cells = []
        for other in comparison.columns:
            d = other.rdf[pair].difference
            allowed = "" if d.band_half_width is None else f" ({d.band_half_width:.2f})"
            cells.append(Cell(f"{d.max_difference:.2f}{allowed}", other.failed(Observable.RDF, pair)))
        rows.append(Row(f"g(r) {dash(pair)}, largest difference", "", f"halves {c.halves.max_difference:.2f}", cells))
    return rows


def _shells(comparison: Comparison) -> list[Row]:
    """One way round of every pair: around the species that is rarer."""
    number = counts(comparison.species)
    rows = []
    for name, shell in comparison.shells.items():
        a, b = name.split("-")
        if (number[a], a) > (number[b], b):
            continue
        quantities = [c.shells[name].number if name in c.shells else None for c in comparison.columns]
        cells = [Cell(plus_minus(None if q is None else q.run)) for q in quantities]
        title = f"{b} around {a}, within {10 * shell.edge:.2f} Å"
        rows.append(Row(title, "", plus_minus(shell.number.reference), cells))
    return rows


def _order(comparison: Comparison) -> list[Row]:
    rows = _distributions(comparison, Observable.TETRAHEDRAL_ORDER, "Tetrahedral order of {}", "", 1, 3)
    rows += _distributions(comparison, Observable.NEIGHBOUR_ANGLE, "{} angle, four nearest", "°", 1, 2)
    if comparison.hydrogen_bonds is not None:
        quantities = [c.hydrogen_bonds for c in comparison.columns]
        rows.append(
            _quantities(comparison, Observable.HYDROGEN_BONDS, "", "Hydrogen bonds per molecule", "", quantities, 1, 2)
        )
    return rows


def _molecules(comparison: Comparison) -> list[Row]:
    return [
        *_distributions(comparison, Observable.BOND_LENGTH, "{} length", "Å", 10, 4, spreads=True),
        *_distributions(comparison, Observable.ANGLE, "{} angle", "°", 1, 2, spreads=True),
    ]


def _distributions(
    comparison: Comparison,
    observable: Observable,
    title: str,
    unit: str,
    scale: float,
    digits: int,
    *,
    spreads: bool = False,
) -> list[Row]:
    rows = []
    for name, known in getattr(comparison, observable.value).items():
        found: list[DistributionComparison | None] = [
            getattr(c, observable.value).get(name) for c in comparison.columns
        ]
        cells = [
            Cell(NOTHING) if d is None else Cell(plus_minus(d.run.average, scale, digits), c.failed(observable, name))
            for c, d in zip(comparison.columns, found, strict=True)
        ]
        rows.append(Row(title.format(dash(name)), unit, plus_minus(known.reference.average, scale, digits), cells))
        if spreads:
            cells = [Cell(NOTHING if d is None else plus_minus(d.run.spread, scale, digits)) for d in found]
            rows.append(Row("standard deviation", unit, plus_minus(known.reference.spread, scale, digits), cells))
    return rows


def _bands(comparison: Comparison) -> list[Row]:
    rows = []
    for band in comparison.bands:
        centres = [c.bands.get(band) for c in comparison.columns]
        shares = [c.band_shares.get(band) for c in comparison.columns]
        title = f"Band {band[0]:,.0f}–{band[1]:,.0f}, centroid"
        rows.append(_quantities(comparison, Observable.BAND_CENTROID, band, title, "cm⁻¹", centres, 1, 0))
        title = "its share of the spectrum"
        rows.append(_quantities(comparison, Observable.BAND_SHARE, band, title, "%", shares, 100, 1))
    return rows


def _motion(comparison: Comparison) -> list[Row]:
    rows = []
    for name in sorted({name for c in comparison.columns for name in c.diffusion}):
        quantities = [c.diffusion.get(name) for c in comparison.columns]
        title = f"Diffusion of {subscripts(name)}"
        rows.append(_quantities(comparison, Observable.DIFFUSION, name, title, "Å²/ps", quantities, 100, 2))
        found = [c.motion.diffusion.get(name) for c in comparison.columns]
        known = comparison.reference_motion.diffusion.get(name)
        if any(d is not None and d.correction is not None for d in (known, *found)):
            cells = [Cell(_corrected(d)) for d in found]
            rows.append(Row("for an infinite cell", "Å²/ps", _corrected(known), cells))
    for name in sorted({name for c in comparison.columns for name in c.reorientation}):
        quantities = [c.reorientation.get(name) for c in comparison.columns]
        title = f"τ₂ of {dash(name)}"
        rows.append(_quantities(comparison, Observable.REORIENTATION, name, title, "ps", quantities, 1, 2))
    return rows


def _forces(comparison: Comparison) -> list[Row]:
    """Errors of the forces in frames that CP2K computed again."""
    keys = dict.fromkeys(key for c in comparison.columns if c.force_errors is not None for key in c.force_errors.rmse)

    def cell(c: Comparison, key: str) -> Cell:
        if c.force_errors is None or key not in c.force_errors.rmse:
            return Cell(NOTHING)
        rmse, rms = c.force_errors.error(key)
        return Cell(f"{rmse:,.1f}" + (f" ({100 * rmse / rms:.1f} %)" if rms else ""))

    names = {"all": "all atoms", "molecular": "net on molecules"}
    return [
        Row(f"Force error, {names.get(key, key)}", "meV/Å", "", [cell(c, key) for c in comparison.columns])
        for key in keys
    ]


def _corrected(d: Diffusion | None) -> str:
    return NOTHING if d is None or d.correction is None else f"{100 * (d.coefficient.mean + d.correction):.2f}"


def _quantities(
    comparison: Comparison,
    observable: Observable,
    subject: Name,
    title: str,
    unit: str,
    quantities: list[Quantity | None],
    scale: float,
    digits: int,
) -> Row:
    known = next((q.reference for q in quantities if q is not None and q.reference is not None), None)
    cells = [
        Cell(NOTHING) if q is None else Cell(plus_minus(q.run, scale, digits), c.failed(observable, subject))
        for c, q in zip(comparison.columns, quantities, strict=True)
    ]
    return Row(title, unit, plus_minus(known, scale, digits), cells)


def _run(comparison: Comparison) -> list[Row]:
    def cells(of: Callable[[Comparison], Cell]) -> list[Cell]:
        return [Cell(NOTHING) if c.run is None else of(c) for c in comparison.columns]

    def cost(c: Comparison) -> Cell:
        value = None if c.run is None else c.run.settings.get("ms_per_step")
        return Cell(NOTHING if value is None else f"{float(value):.3g}")

    def temperature(c: Comparison) -> Cell:
        return Cell(NOTHING if c.energetics is None else plus_minus(c.energetics.temperature, 1, 1))

    def fluctuation(c: Comparison) -> Cell:
        e = c.energetics
        if e is None or not e.canonical_variance:
            return Cell(NOTHING)
        return Cell(plus_minus(e.kinetic_variance, 1 / e.canonical_variance, 2))

    def drift(c: Comparison) -> Cell:
        e = c.energetics
        return Cell(NOTHING if e is None or e.drift is None else plus_minus(e.drift, 1000, 3))

    def momentum(c: Comparison) -> Cell:
        if c.motion.spectra is None:
            return Cell(NOTHING)
        speed = 1000 * c.motion.spectra.drift  # 1 nm/ps is 1,000 m/s
        return Cell("< 0.001" if speed < 1e-3 else f"{speed:.2g}")

    def broken(c: Comparison) -> Cell:
        left = 0 if c.integrity is None else c.integrity.most_left
        return Cell(str(left), c.failed(Observable.WHOLE_MOLECULES))

    def came(c: Comparison) -> Cell:
        record = c.integrity
        if record is None:
            return Cell(NOTHING)
        return Cell(f"{record.time:.4g}, {record.status}", c.failed(Observable.COMPLETION))

    if all(c.run is None for c in comparison.columns):
        return []
    return [
        Row("Came to", "ps", "", cells(came)),
        Row("Atoms away from their molecule", "", "", cells(broken)),
        Row("Temperature", "K", "", cells(temperature)),
        Row("Variance of the kinetic energy / canonical", "", "1", cells(fluctuation)),
        Row("Drift of what is conserved", "J/mol per atom and ps", "0", cells(drift)),
        Row("Speed of the centre of mass, at most", "m/s", "0", cells(momentum)),
        Row("Cost of a step", "ms", "", cells(cost)),
    ]
