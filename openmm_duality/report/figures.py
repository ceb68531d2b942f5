"""The figures of a comparison: structure, motion and energy, all runs over the reference."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from openmm_duality.observables.findings import Observable
from openmm_duality.observables.results import Comparison
from openmm_duality.observables.run_log import conserved_energy
from openmm_duality.observables.trajectory import counts
from openmm_duality.report.drawing import Line, draw, key, lines, moving_lines, panel, smooth
from openmm_duality.report.formatting import dash, subscripts
from openmm_duality.report.notes import CONSERVED
from openmm_duality.report.style import MUTED, REFERENCE, RULE, WIDTH, colour, house_style, png

__all__ = ["figures", "png"]

_MOST_PEAKS = 1.12  # of the highest peak between molecules: those inside a molecule run off the top
_SEEN = 1e-3  # of the highest density: the tails beyond are not shown
_SHOWN = 0.01  # of the highest density of a spectrum


def figures(comparison: Comparison) -> dict[str, Figure]:
    """All figures of a comparison, by the name of their file.

    Parameters
    ----------
    comparison : Comparison
        What `compare` gives.
    """
    drawn: dict[str, Figure] = {}
    with house_style():
        for pair in comparison.rdf:
            drawn[f"rdf-{pair}"] = _rdf(comparison, pair)
            drawn[f"coordination-{pair}"] = _coordination(comparison, pair)
        distributions = (
            (Observable.BOND_LENGTH, "length", "length", 10.0, "length / Å", "density / Å⁻¹"),
            (Observable.ANGLE, "angle", "angle", 1.0, "angle / °", "density / °⁻¹"),
            (Observable.NEIGHBOUR_ANGLE, "around", "angle of neighbours", 1.0, "angle / °", "density / °⁻¹"),
            (Observable.TETRAHEDRAL_ORDER, "order", "tetrahedral order", 1.0, "q", "density"),
        )
        for observable, file, word, scale, x_label, y_label in distributions:
            for name in getattr(comparison, observable.value):
                curves = lines(comparison, observable, name, scale)
                drawn[f"{file}-{name}"] = _distribution(f"{dash(name)} {word}", curves, scale, x_label, y_label)
        drawn |= _motions(comparison)
        drawn |= {f"hops-{name}": _hops(comparison, name) for name in comparison.hop_counts}
        for number, name in enumerate(comparison.own):
            curves = lines(comparison, Observable.OWN, name)
            drawn[f"own-{number + 1}"] = _distribution(name, curves, 1.0, name, "density")
        recomputed = {kind for c in comparison.columns if c.force_errors is not None for kind in c.force_errors.rmse}
        for kind in ("all", "molecular"):
            if kind in recomputed:
                drawn[f"forces-{kind}"] = _forces(comparison, kind)
        if any(c.run is not None for c in comparison.columns):
            drawn["temperature"], drawn["energy"] = _temperature(comparison), _energy(comparison)
        for figure in drawn.values():  # laid out once, or every file it is written to would do it anew
            figure.draw_without_rendering()
            figure.set_layout_engine("none")
    return drawn


def _rdf(comparison: Comparison, pair: str) -> Figure:
    figure = Figure(figsize=(WIDTH, 3.5), layout="constrained")
    top, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    whole = lines(comparison, Observable.RDF_WHOLE, pair, 10.0)
    between = lines(comparison, Observable.RDF, pair, 10.0)
    draw(top, whole)
    top.axhline(1, color=RULE, linewidth=0.7, zorder=0)
    top.set_ylim(0, max(1.2, _MOST_PEAKS * max(float(blocks.mean(axis=0).max()) for *_, blocks in between)))
    top.set(ylabel="g(r)", title=dash(pair))
    key(figure, top, whole)
    reference = between[0][3].mean(axis=0)
    for zorder, (_, shade, r, blocks) in enumerate(between[1:], start=2):
        below.plot(r, blocks.mean(axis=0) - reference, color=shade, linewidth=1.1, zorder=zorder)
    half = comparison.rdf[pair].difference.band_half_width
    if half is not None:
        below.axhspan(-half, half, color=REFERENCE, alpha=0.12, linewidth=0, zorder=0)
    below.axhline(0, color=MUTED, linewidth=0.7, zorder=1)
    reach = 1.25 * max([half or 0.0, *(c.rdf[pair].difference.max_difference for c in comparison.columns)])
    below.set(ylim=(-reach or -1, reach or 1), ylabel="difference", xlabel="r / Å")
    below.yaxis.set_major_locator(MaxNLocator(3, symmetric=True))
    r = whole[0][2]
    seen = np.flatnonzero(np.max([blocks.mean(axis=0) for *_, blocks in whole], axis=0))
    below.set_xlim(max(0.0, r[seen[0]] - 0.4) if len(seen) else 0.0, r[-1])
    figure.align_ylabels()
    return figure


def _coordination(comparison: Comparison, pair: str) -> Figure:
    """Choose the order of a pair that counts around the rarer species, which has the larger numbers."""
    number = counts(comparison.species)
    centre, other = sorted(pair.split("-"), key=lambda name: number[name])
    name = f"{centre}-{other}"
    figure, axes = panel(2.3)
    drawn = lines(comparison, Observable.COORDINATION, name, 10.0)
    draw(axes, drawn)
    shell = comparison.shells.get(name)
    last = drawn[0][2][-1]
    if shell is not None:
        axes.axvline(10 * shell.edge, color=MUTED, linewidth=0.8, linestyle=(0, (2, 2)), zorder=1)
        last = min(last, 10 * shell.edge * 1.35)
    inside = [blocks.mean(axis=0)[x <= last].max(initial=0.0) for _, _, x, blocks in drawn]
    top = max(inside) or 1.0
    first = min((x[np.argmax(blocks.mean(axis=0) > 0.01 * top)] for _, _, x, blocks in drawn), default=0.0)
    axes.set(
        xlim=(max(0.0, first - 0.2), last),
        ylim=(0, 1.05 * top),
        title=f"{other} around {centre}",
        xlabel="r / Å",
        ylabel="neighbours within r",
    )
    key(figure, axes, drawn)
    return figure


def _distribution(title: str, drawn: list[Line], scale: float, x_label: str, y_label: str) -> Figure:
    figure, axes = panel(2.5)
    draw(axes, drawn, 1 / scale)
    means = [blocks.mean(axis=0) for *_, blocks in drawn]
    x = drawn[0][2]
    seen = np.flatnonzero(np.max(means, axis=0) > _SEEN * means[0].max())
    margin = 0.06 * (x[seen[-1]] - x[seen[0]]) or 0.5 * (x[1] - x[0])
    axes.set_xlim(x[seen[0]] - margin, x[seen[-1]] + margin)
    axes.set(ylim=(0, None), title=title, xlabel=x_label, ylabel=y_label)
    key(figure, axes, drawn)
    return figure


def _hops(comparison: Comparison, name: str) -> Figure:
    """Number of hops against time, the reference first."""
    drawn: list[Line] = []
    for column, c in enumerate(comparison.columns):
        if name in c.hop_counts:
            run, reference = c.hop_counts[name]
            if not drawn:
                drawn.append(("reference", REFERENCE, reference.centres, reference.blocks))
            drawn.append((c.name, colour(column), run.centres, run.blocks))
    return _against_lag(drawn, f"Hops of {name}", "number of hops")[0]


def _motions(comparison: Comparison) -> dict[str, Figure]:
    motions = [comparison.reference_motion, *(c.motion for c in comparison.columns)]
    spectra = [motion.spectra for motion in motions]
    displacements = [{name: fit.curve for name, fit in motion.diffusion.items()} for motion in motions]
    correlations = [{name: fit.curve for name, fit in motion.reorientation.items()} for motion in motions]
    densities = [{} if s is None else s.density for s in spectra]
    autocorrelations = [{} if s is None else s.autocorrelation for s in spectra]
    drawn: dict[str, Figure] = {}
    for name, curves in moving_lines(comparison, displacements).items():
        title = f"Displacement of {subscripts(name)}"
        drawn[f"displacement-{name}"], _ = _against_lag(curves, title, "mean square / Å²", 100.0)
    for name, curves in moving_lines(comparison, correlations).items():
        drawn[f"reorientation-{name}"], axes = _against_lag(curves, f"Reorientation of {dash(name)}", "C₂")
        axes.set_ylim(0, 1)
    for name, curves in moving_lines(comparison, densities).items():
        drawn[f"spectrum-{name}"] = _spectrum(comparison, name, curves)
    for name, curves in moving_lines(comparison, autocorrelations).items():
        title, curves = f"Velocity autocorrelation of {name}", [(n, k, 1e3 * x, blocks) for n, k, x, blocks in curves]
        drawn[f"autocorrelation-{name}"], axes = _against_lag(curves, title, "", bottom=None)
        axes.axhline(0, color=MUTED, linewidth=0.7, zorder=1)
        axes.set(xlabel="t / fs", xlim=(0, 300))
        axes.xaxis.set_major_formatter(lambda t, _: f"{t:g}")
    return drawn


def _against_lag(
    drawn: list[Line], title: str, y_label: str, scale: float = 1.0, bottom: float | None = 0
) -> tuple[Figure, Axes]:
    figure, axes = panel(2.5)
    draw(axes, drawn, scale)
    last = max(x[-1] for _, _, x, _ in drawn)
    axes.set(xlim=(0, last), ylim=(bottom, None), title=title, xlabel="t / ps", ylabel=y_label)
    key(figure, axes, drawn)
    return figure, axes


def _spectrum(comparison: Comparison, name: str, drawn: list[Line]) -> Figure:
    figure, axes = panel(2.5)
    draw(axes, drawn, 1e3)
    for band in comparison.bands:
        axes.axvspan(*band, color=REFERENCE, alpha=0.06, linewidth=0, zorder=0)
    last = max(x[np.flatnonzero(b.mean(axis=0) > _SHOWN * b.mean(axis=0).max())[-1]] for _, _, x, b in drawn)
    axes.set(
        xlim=(0, 1.05 * last),
        ylim=(0, None),
        title=f"Vibrations of {name}",
        xlabel="wavenumber / cm⁻¹",
        ylabel="density / 10⁻³ cm",
    )
    key(figure, axes, drawn)
    return figure


def _forces(comparison: Comparison, kind: str) -> Figure:
    """Errors of the forces in the frames that were recomputed, beside those of the frames held out at inference."""
    figure, axes = panel(2.3)
    drawn: list[Line] = []
    for column, c in enumerate(comparison.columns):
        found, shade = c.force_errors, colour(column)
        if found is None or kind not in found.rmse:
            continue
        axes.plot(found.times, found.rmse[kind], color=shade, linewidth=0.9, marker="o", markersize=3.2, zorder=10)
        held_out = None if c.run is None else c.run.held_out_error(kind)
        if held_out is not None:
            axes.axhline(held_out, color=shade, linewidth=0.8, linestyle=(0, (4, 2)), zorder=2)
        drawn.append((c.name, shade, found.times, found.rmse[kind][None]))
    highest = max(float(values.max()) for *_, values in drawn)
    title = "Force error" if kind == "all" else "Error of the net force on molecules"
    axes.set(title=title, ylabel="RMSE / meV Å⁻¹", ylim=(0, 1.15 * highest))
    _time_axis(figure, axes, comparison, drawn)
    axes.set(xlim=(0, 1.01 * axes.get_xlim()[1]), ylim=(0, None))  # room for the last marker
    return figure


def _temperature(comparison: Comparison) -> Figure:
    figure, axes = panel(2.3)
    drawn: list[Line] = []
    for column, c in enumerate(comparison.columns):
        if c.run is None or c.energetics is None:
            continue
        times, values, shade = c.run.log["time_ps"], c.run.log["temperature_K"], colour(column)
        if not comparison.more:
            axes.plot(times, values, color=shade, linewidth=0.5, alpha=0.35)
        axes.plot(times, smooth(values), color=shade, linewidth=1.4)
        if c.energetics.canonical_mean is not None:
            axes.axhline(c.energetics.target, color=REFERENCE, linewidth=0.8, linestyle=(0, (4, 2)))
        drawn.append((c.name, shade, times, (smooth(values) if comparison.more else values)[None]))
    axes.set(title="Temperature, smoothed" if comparison.more else "Temperature", ylabel="T / K")
    _time_axis(figure, axes, comparison, drawn)
    return figure


def _energy(comparison: Comparison) -> Figure:
    """Conserved energy, or the potential energy where nothing is conserved; every run less its median."""
    figure, axes = panel(2.3)
    drawn: list[Line] = []
    titles = []
    for column, c in enumerate(comparison.columns):
        run = c.run
        if run is None:
            continue
        conserved, energy = conserved_energy(run, run.log)
        width = 0.5 if energy is None else 0.9
        title = CONSERVED[conserved].capitalize()
        if energy is None:
            energy = run.log["potential_energy"]
            title = "Potential energy" if run.has_potential else "Sum of losses"
        titles.append(title)
        times, shade = run.log["time_ps"], colour(column)
        per_atom = 1e3 * (energy - np.median(energy)) / len(c.species)
        if comparison.more:
            per_atom = smooth(per_atom)
        axes.plot(times, per_atom, color=shade, linewidth=width, zorder=10 - column)
        drawn.append((c.name, shade, times, per_atom[None]))
    title = f"{titles[0] if len(set(titles)) == 1 else 'Energy'}, less its median"
    axes.set(title=title, ylabel="J/mol per atom")
    _time_axis(figure, axes, comparison, drawn)
    return figure


def _time_axis(figure: Figure, axes: Axes, comparison: Comparison, drawn: list[Line]) -> None:
    """The whole run in ps, with the discarded beginning shaded, and the names of several runs."""
    axes.set(xlim=(0, max(times[-1] for _, _, times, _ in drawn)), xlabel="time / ps")
    sound = {c.name for c in comparison.columns if c.integrity is not None and c.integrity.status != "stopped"}
    shown = [values for name, _, _, values in drawn if name in sound]
    if shown and len(shown) < len(drawn):  # a run that broke down would press the others flat
        low, high = (np.min([v.min() for v in shown]), np.max([v.max() for v in shown]))
        axes.set_ylim(low - 0.1 * (high - low), high + 0.1 * (high - low))
    if comparison.run_window.discarded > 0:
        axes.axvspan(0, comparison.run_window.discarded, color=REFERENCE, alpha=0.10, linewidth=0, zorder=0)
    if comparison.more:
        key(figure, axes, drawn)
