"""The tables of the page: all runs beside the reference, one row per observable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from openmm_duality.observables.decisions import one_way_round
from openmm_duality.observables.density import DensityRecord
from openmm_duality.observables.findings import Finding, Measured, Name, Observable
from openmm_duality.observables.results import Comparison
from openmm_duality.observables.statistics import Estimate, Reason
from openmm_duality.observables.time_correlations import LaggedFit
from openmm_duality.report.formatting import (
    FORMULAS,
    NOTHING,
    ORIGINS,
    SHOWN,
    UNTESTED,
    dash,
    formula,
    number,
    plus_minus,
    printed,
    subscripts,
    tested,
)

_INTEGRATORS = {
    "VerletLearningIntegrator": "velocity Verlet",
    "NoseHooverLearningIntegrator": "Nosé–Hoover chain",
    "LangevinLearningIntegrator": "Langevin",
    "DescentLearningIntegrator": "damped descent",
    "EnergyConservingDescentLearningIntegrator": "energy conserving descent",
}
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Cell:
    """The value of one run in one row, whether the run fails in it, and its p value or why there is none."""

    text: str
    bad: bool = False
    test: str = "not compared"


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
    """Tabulate everything that was compared.

    Parameters
    ----------
    comparison : Comparison
    """
    order = Observable.TETRAHEDRAL_ORDER, Observable.NEIGHBOUR_ANGLE, Observable.HYDROGEN_BONDS
    groups = [
        Group("Conditions", _conditions(comparison)),
        Group("Liquid structure", [*_rdf(comparison), *_shells(comparison), *_means(comparison, *order)]),
        Group("Molecules", _molecules(comparison)),
        Group("Vibrations", _bands(comparison)),
        Group("Motion", _motion(comparison)),
        Group("Reactions", _all(comparison, Observable.POPULATION, Observable.HOPS, Observable.LIFETIME)),
        Group("Own observables", _all(comparison, Observable.OWN)),
        Group("Forces along the run", _forces(comparison)),
        Group("Run", _run(comparison)),
    ]
    return [group for group in groups if group.rows]


def facts(c: Comparison) -> list[tuple[str, str]]:
    """Describe the run by names and values, without those that its record lacks."""
    window = c.run_window
    if c.run is None:
        found = [("System", formula(c.species)), ("Data", _files(c.source))]
    else:
        settings, model = c.run.settings, c.run.model
        form = ", ".join(f"{model[k]}{tail}" for k, tail in (("form", ""), ("gradient", " gradient")) if model.get(k))
        sha, integrator = str(model.get("sha256", "")), str(settings.get("integrator", ""))
        cost = settings.get("ms_per_step")
        found = [
            ("Model", str(model.get("name", "")) + (f" ({sha[:12]}…)" if sha else "")),
            ("Loss", form),
            ("System", f"{formula(c.species)} at {settings['temperature']:g} K, {c.run.ensemble}"),
            ("Integrator", f"{_INTEGRATORS.get(integrator, integrator)}, {1e3 * settings['timestep']:g} fs"),
            ("Platform", _hardware(settings)),
            ("Cost of a step", "" if cost is None else f"{float(cost):.3g} ms, reports included"),
        ]
    thinned = "" if window.structure_frames == window.frames else f" ({window.structure_frames} for structure)"
    discarded = f", after {window.discarded:.2g} ps left out" if window.discarded else ""
    found.append(("Analysed", f"{window.duration:.3g} ps, {window.frames} frames{thinned}{discarded}"))
    found.append(("Correlation time", _slowest(window.slowest)))
    return [(name, value) for name, value in found if value.strip()]


def reference_facts(c: Comparison) -> list[tuple[str, str]]:
    """Describe the reference by names and values."""
    window = c.reference_window
    found = [
        ("Data", _files(c.reference_source)),
        ("For motion", _files(c.dynamics_source)),
        ("Analysed", f"{window.duration:.3g} ps, {window.frames} frames of {window.atoms} atoms"),
        ("Correlation time", _slowest(window.slowest)),
    ]
    return [(name, value) for name, value in found if value.strip()]


def force_errors(comparison: Comparison) -> list[dict[str, Any]]:
    """One row per set of data and kind of force: RMSE, MAE and the share of the RMSE in the RMS for every run."""
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
    """Platform and precision of a run: the losses' own arithmetic is not that of the platform."""
    platform, precision, losses = (settings.get(key) for key in ("platform", "precision", "loss_precision"))
    if not losses:
        return " ".join(str(word) for word in (platform, precision) if word)
    forces = [kind for kind in settings.get("forces", ()) if kind != "CMMotionRemover" and "Barostat" not in kind]
    if len(forces) == 1 and platform in ("Reference", "CPU"):  # they integrate in double precision
        return f"{platform}, forces in {losses} precision"
    return f"{platform} {precision}, forces of the losses in {losses} precision"


def _errors_of(model: dict[str, Any]) -> dict[tuple[str, str], tuple[float | None, float | None, float | None]]:
    """RMSE, MAE and the ratio of RMSE and RMS in per cent by set and kind of force, as `evaluate` wrote them."""
    errors = model.get("errors")
    if not isinstance(errors, dict):
        return {}
    sets = {"": errors} if "force_rmse" in errors else {k: v for k, v in errors.items() if isinstance(v, dict)}
    found = {}
    for name, measured in sets.items():
        rms, mae = (measured.get(key, {}) for key in ("force_rms", "force_mae"))
        for kind, value in measured.get("force_rmse", {}).items():
            scale = rms.get(kind)
            found[name, kind] = (value, mae.get(kind), 100 * value / scale if scale else None)
    return found


def _rdf(comparison: Comparison) -> list[Row]:
    rows = []
    for pair, c in comparison.rdf.items():
        cells = []
        for other in comparison.columns:
            d = other.rdf[pair].difference
            allowed = "" if d.band_half_width is None else f" ({d.band_half_width:.2f})"
            found = other.finding(Observable.RDF, pair)
            cells.append(Cell(f"{d.max_difference:.2f}{allowed}", found is not None and found.failed, _test(found)))
        rows.append(Row(f"g(r) {dash(pair)}, largest difference", "", f"halves {c.halves.max_difference:.2f}", cells))
    return rows


def _shells(comparison: Comparison) -> list[Row]:
    """One way round of every pair: around the species that is rarer."""
    rows = []
    for name in one_way_round(comparison.shells, comparison.species):
        a, b = name.split("-")
        title = f"{b} around {a}, within {10 * comparison.shells[name].edge:.2f} Å"
        rows.append(_quantity(comparison, Observable.FIRST_SHELL, name, title))
    return rows


def _means(comparison: Comparison, *observables: Observable) -> list[Row]:
    return [
        _quantity(comparison, observable, name)
        for observable in observables
        for name in comparison.quantities(observable)
    ]


def _all(comparison: Comparison, *observables: Observable) -> list[Row]:
    """Rows of observables with subjects that not every run has."""
    return [
        _quantity(comparison, observable, name)
        for observable in observables
        for name in dict.fromkeys(name for c in comparison.columns for name in c.quantities(observable))
    ]


def _molecules(comparison: Comparison) -> list[Row]:
    return [
        _quantity(comparison, observable, name)
        for both in (
            (Observable.BOND_LENGTH, Observable.BOND_LENGTH_SPREAD),
            (Observable.ANGLE, Observable.ANGLE_SPREAD),
        )
        for name in comparison.quantities(both[0])
        for observable in both
    ]


def _conditions(comparison: Comparison) -> list[Row]:
    """Ensemble, what is set, and what was measured, with its source."""
    points = [c.state_point for c in (comparison.reference_conditions, *(c.conditions for c in comparison.columns))]
    known, *runs = (UNKNOWN if point is None else point.ensemble for point in points)
    rows = [Row("Ensemble", "", known, [Cell(text, test="no number") for text in runs])]
    for observable in dict.fromkeys(key for c in comparison.columns for key in c.state):
        title = SHOWN[observable].title
        if observable is Observable.MEAN_TEMPERATURE and comparison.reference_conditions.origin is not None:
            title += f" (reference: {ORIGINS[comparison.reference_conditions.origin]})"
        if observable is Observable.SET_TEMPERATURE and comparison.reference_conditions.state_point is not None:
            title += " (reference: its input)"
        rows.append(_quantity(comparison, observable, "", title))
    return rows


def _bands(comparison: Comparison) -> list[Row]:
    return [
        _quantity(comparison, observable, band)
        for band in comparison.bands
        for observable in (Observable.BAND_CENTROID, Observable.BAND_SHARE)
    ]


def _motion(comparison: Comparison) -> list[Row]:
    rows = []
    for observable in (Observable.DIFFUSION, Observable.REORIENTATION):
        motions = [
            getattr(m, observable.value) for m in (comparison.reference_motion, *(c.motion for c in comparison.columns))
        ]
        for name in sorted({name for c in comparison.columns for name in getattr(c, observable.value)}):
            rows.append(_quantity(comparison, observable, name))
            fits = [motion.get(name) for motion in motions]
            if any(fit is not None and fit.correction is not None for fit in fits):
                known, *runs = map(_corrected, fits)
                rows.append(Row("for an infinite cell", "Å²/ps", known, [Cell(text) for text in runs]))
    return rows


def _forces(comparison: Comparison) -> list[Row]:
    """Errors of the forces in frames that CP2K computed again."""
    keys = dict.fromkeys(key for c in comparison.columns if c.force_errors is not None for key in c.force_errors.rmse)

    def cell(c: Comparison, key: str) -> Cell:
        if c.force_errors is None or key not in c.force_errors.rmse:
            return Cell(NOTHING)
        rmse, rms = c.force_errors.error(key)
        return Cell(f"{rmse:,.1f}" + (f" ({100 * rmse / rms:.1f} %)" if rms else ""))

    def mean(c: Comparison, key: str) -> Cell:
        known = c.force_errors is not None and key in c.force_errors.mae
        return Cell(f"{c.force_errors.mean_error(key):,.1f}" if known and c.force_errors is not None else NOTHING)

    names = {"all": "all atoms", "molecular": "net on molecules"}
    rows = []
    for key in keys:
        name = f"Force error, {names.get(key, key)}"
        rows.append(Row(name, "meV/Å", "", [cell(c, key) for c in comparison.columns]))
        rows.append(Row("mean absolute error", "meV/Å", "", [mean(c, key) for c in comparison.columns]))
    errors = [None if c.force_errors is None else c.force_errors.pressure_error for c in comparison.columns]
    if any(error is not None for error in errors):
        rows.append(Row("Error of the pressure", "MPa", "", [Cell(plus_minus(error, 1.0, 1)) for error in errors]))
    return rows


def _corrected(fit: LaggedFit | None) -> str:
    if fit is None or fit.value is None or fit.correction is None:
        return NOTHING
    return f"{100 * (fit.value.mean + fit.correction):.2f}"


def _quantity(comparison: Comparison, observable: Observable, subject: Name, title: str = "") -> Row:
    """A number of the reference and of every run that has it, as its observable is printed."""
    shown = SHOWN[observable]
    quantities = [c.quantities(observable).get(subject) for c in comparison.columns]
    known = next((q.reference for q in quantities if q is not None and q.reference is not None), None)
    cells = []
    for c, q in zip(comparison.columns, quantities, strict=True):
        found = c.finding(observable, subject)
        text = plus_minus(None if q is None else q.run, shown.scale, shown.digits)
        cells.append(Cell(text, found is not None and found.failed, _test(found)))
    name = str(subject) if observable is Observable.OWN else (subscripts if observable in FORMULAS else dash)(subject)
    return Row(title or shown.title.format(name), shown.unit, plus_minus(known, shown.scale, shown.digits), cells)


def _test(finding: Finding | None) -> str:
    """The p value of a finding, or why there is none."""
    return UNTESTED[Reason.ONE_SIDED] if finding is None else tested(finding)


def _run(comparison: Comparison) -> list[Row]:
    if all(c.run is None for c in comparison.columns):
        return []
    titles = (
        ("Simulated time", "ps", ""),
        ("Atoms away from their molecule", "", ""),
        ("Temperature, against that of the heat bath", "K", ""),
        ("Temperature of each species", "K", ""),
        ("Variance of the kinetic energy / canonical", "", "1"),
        ("Drift of the conserved energy", "J/mol per atom and ps", "0"),
        ("Speed of the centre of mass, at most", "m/s", "0"),
        ("Cost of a step", "ms", ""),
    )
    columns = [_run_cells(c) for c in comparison.columns]
    rows = [Row(*title, list(cells)) for title, cells in zip(titles, zip(*columns, strict=True), strict=True)]
    return rows + _pump(comparison) + _constant_pressure(comparison)


def _pump(comparison: Comparison) -> list[Row]:
    """Rows on runs whose forces have no potential, where there are any."""
    pumps = [None if c.energetics is None else c.energetics.pump for c in comparison.columns]
    if not any(pumps):
        return []
    measured = [Cell(NOTHING if pump is None else plus_minus(pump.measured, 1.0, 3)) for pump in pumps]
    predicted = [Cell(NOTHING if pump is None else number(pump.predicted, 3)) for pump in pumps]
    unit = "kJ/mol per atom and ps"
    return [
        Row("Power pumped into the motion", unit, "0", measured),
        Row("the same, predicted at 300 K", unit, "0", predicted),
    ]


def _constant_pressure(comparison: Comparison) -> list[Row]:
    """Rows on runs at constant pressure, where there are any."""
    records = [None if c.energetics is None else c.energetics.density for c in comparison.columns]
    targets = sorted({f"{record.target:g}" for record in records if record is not None})
    if not targets:
        return []
    rows: list[tuple[str, str, str, Callable[[DensityRecord], Estimate | None], float, int]] = [
        ("Density", "g/cm³", "", lambda record: record.density, 1.0, 4),
        ("Isothermal compressibility", "1/GPa", "", lambda record: record.compressibility, 1.0, 3),
        ("Pressure", "MPa", ", ".join(targets), lambda record: record.pressure, 1.0, 1),
    ]
    found = [
        Row(title, unit, known, [Cell(NOTHING if r is None else plus_minus(of(r), scale, digits)) for r in records])
        for title, unit, known, of, scale, digits in rows
    ]
    pressures = [None if r is None else r.uncertainty for r in records]
    densities = [None if r is None else r.density_uncertainty for r in records]
    if any(pressure is not None for pressure in pressures):
        cells = ([Cell(number(x, digits)) for x in values] for values, digits in ((pressures, 1), (densities, 4)))
        titles = (
            ("Error of the pressure, by the committee", "MPa"),
            ("that of the density from it", "g/cm³"),
        )
        found += [Row(title, unit, "", mine) for (title, unit), mine in zip(titles, cells, strict=True)]
    return found


def _run_cells(c: Comparison) -> list[Cell]:
    """Rows on how long a run lasted, and on what it conserved."""
    e, record, spectra = c.energetics, c.integrity, c.motion.spectra
    if c.run is None or e is None or record is None:
        return 8 * [Cell(NOTHING)]
    of_species = ", ".join(f"{name} {plus_minus(t, 1, 1)}" for name, t in e.species_temperatures.items())
    variance = plus_minus(e.kinetic_variance, 1 / e.canonical_variance, 2) if e.canonical_variance else NOTHING
    speed = None if spectra is None else 1000 * spectra.drift  # 1 nm/ps is 1,000 m/s
    cost = c.run.settings.get("ms_per_step")

    def cell(text: str, observable: Observable, unset: str = "no test") -> Cell:
        found = c.finding(observable)
        untested = found is None or found.p_value is None
        return Cell(text, found is not None and found.failed, unset if untested or found is None else tested(found))

    return [
        cell(f"{record.time:.4g}, {record.status}", Observable.COMPLETION, "a check"),
        cell(str(record.most_left), Observable.WHOLE_MOLECULES, "a check"),
        cell(plus_minus(e.temperature, 1, 1), Observable.TEMPERATURE, "no heat bath, or too short"),
        Cell(of_species or NOTHING),
        cell(variance, Observable.KINETIC_VARIANCE, "no heat bath, or too short"),
        cell(plus_minus(e.drift, 1000, 3), Observable.ENERGY_DRIFT, "a check"),
        Cell(NOTHING if speed is None else "< 0.001" if speed < 1e-3 else f"{speed:.2g}"),
        Cell(NOTHING if cost is None else f"{float(cost):.3g}"),
    ]
