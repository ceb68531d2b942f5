"""The figures of the page: the reference in near-black with a grey band, the run in one accent colour.

Every figure is drawn once, at the width of a phone, and written twice: as PNG for a talk, and as SVG whose colours are
variables of the page's style, so that it follows light and dark.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from openmm_duality.observables.energetics import conserved
from openmm_duality.observables.results import Comparison, CurveComparison, DistributionComparison
from openmm_duality.observables.statistics import FloatArray, curve_error
from openmm_duality.observables.verdict import dash

INK, MUTED, RULE = "#1c1c20", "#6b6b74", "#d9d9de"
REFERENCE, RUN = "#2d2d33", "#c2410c"
_VARIABLES = {INK: "--ink", MUTED: "--muted", RULE: "--rule", REFERENCE: "--reference", RUN: "--run"}
_STYLE = {
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "font.family": "sans-serif",
    "font.size": 9,
    "legend.frameon": False,
    "lines.solid_capstyle": "round",
    "svg.fonttype": "none",
    "text.color": INK,
    "xtick.color": MUTED,
    "xtick.labelcolor": INK,
    "xtick.major.width": 0.7,
    "ytick.color": MUTED,
    "ytick.labelcolor": INK,
    "ytick.major.width": 0.7,
}
_WIDTH = 3.7  # inches


def figures(comparison: Comparison) -> dict[str, Figure]:
    """All figures of a comparison, by the name of their file.

    Parameters
    ----------
    comparison : Comparison
        What `compare` gives.
    """
    drawn: dict[str, Figure] = {}
    with house_style():
        for pair, c in comparison.rdf.items():
            drawn[f"rdf-{pair}"] = _rdf(pair, c, comparison.rdf_whole[pair])
        for name, d in comparison.bond_length.items():
            drawn[f"length-{name}"] = _distribution(f"{dash(name)} length", d, 10.0, "length / Å", "density / Å⁻¹")
        for name, d in comparison.angle.items():
            drawn[f"angle-{name}"] = _distribution(f"{dash(name)} angle", d, 1.0, "angle / °", "density / °⁻¹")
        drawn["temperature"] = _temperature(comparison)
        drawn["energy"] = _energy(comparison)
    return drawn


def svg(figure: Figure, name: str) -> str:
    """A figure as SVG to stand inside a page: colours as variables, identifiers of its own, no fixed size."""
    buffer = io.StringIO()
    with house_style(), matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="((?:figure|axes|patch|line2d|text|xtick|ytick|matplotlib|FillBetween)[\w.]*)"', "", text)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = re.sub(r"font: ([\d.]+px|[a-z\d ]+ [\d.]+px) '[^;\"]*", r"font: \1 var(--sans)", text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    return text


def png(figure: Figure) -> bytes:
    """A figure as PNG on white, 200 dots per inch."""
    buffer = io.BytesIO()
    with house_style():
        figure.savefig(buffer, format="png", dpi=200, facecolor="white")
    return buffer.getvalue()


@contextmanager
def house_style() -> Iterator[None]:
    """The style in which every figure is drawn and written."""
    with matplotlib.rc_context(_STYLE):
        yield


def _rdf(pair: str, between: CurveComparison, whole: CurveComparison) -> Figure:
    figure = Figure(figsize=(_WIDTH, 3.5), layout="constrained")
    top, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    r = 10 * whole.run.centres
    ceiling = 1.12 * float(max(between.run.mean.max(), between.reference.mean.max()))
    for curve, colour, zorder in ((whole.reference.blocks, REFERENCE, 2), (whole.run.blocks, RUN, 3)):
        _banded(top, r, curve, colour, zorder)
    top.axhline(1, color=RULE, linewidth=0.7, zorder=0)
    top.set_ylim(0, ceiling)
    top.set_ylabel("g(r)")
    top.set_title(f"{dash(pair)}")
    _key(top)
    difference = between.run.mean - between.reference.mean
    half = between.difference.band_half_width
    if half is not None:
        below.axhspan(-half, half, color=REFERENCE, alpha=0.12, linewidth=0, zorder=0)
    below.axhline(0, color=MUTED, linewidth=0.7, zorder=1)
    below.plot(r, difference, color=RUN, linewidth=1.1, zorder=2)
    reach = 1.25 * max(half or 0.0, between.difference.max_difference)
    below.set_ylim(-reach, reach)
    below.yaxis.set_major_locator(MaxNLocator(3, symmetric=True))
    below.set_ylabel("difference")
    below.set_xlabel("r / Å")
    nearest = r[np.flatnonzero(np.maximum(whole.run.mean, whole.reference.mean))[0]]
    below.set_xlim(max(0.0, nearest - 0.4), r[-1])
    figure.align_ylabels()
    return figure


def _distribution(title: str, d: DistributionComparison, scale: float, x_label: str, y_label: str) -> Figure:
    figure = Figure(figsize=(_WIDTH, 2.5), layout="constrained")
    axes = figure.subplots()
    x = scale * d.run.centres
    for curve, colour, zorder in ((d.reference, REFERENCE, 2), (d.run, RUN, 3)):
        _banded(axes, x, curve.blocks / scale, colour, zorder)
        axes.axvline(scale * curve.average.mean, color=colour, linewidth=0.8, linestyle=(0, (2, 2)), zorder=1)
    seen = np.flatnonzero(np.maximum(d.run.mean, d.reference.mean) > 1e-3 * d.reference.mean.max())
    margin = 0.06 * (x[seen[-1]] - x[seen[0]])
    axes.set_xlim(max(0.0, x[seen[0]] - margin), x[seen[-1]] + margin)
    axes.set_ylim(0, None)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.set_title(title)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    _key(axes)
    return figure


def _temperature(comparison: Comparison) -> Figure:
    log = comparison.run.log
    figure = Figure(figsize=(_WIDTH, 2.3), layout="constrained")
    axes = figure.subplots()
    times, values = log["time_ps"], log["temperature_K"]
    axes.plot(times, values, color=RUN, linewidth=0.5, alpha=0.35)
    axes.plot(times, _smooth(values), color=RUN, linewidth=1.4)
    if comparison.energetics.canonical_mean is not None:
        axes.axhline(comparison.energetics.target, color=REFERENCE, linewidth=0.8, linestyle=(0, (4, 2)))
    axes.set_title("Temperature")
    axes.set_ylabel("T / K")
    _time_axis(axes, comparison)
    return figure


def _energy(comparison: Comparison) -> Figure:
    run = comparison.run
    kept, name = conserved(run, run.log)
    losses = "Sum of losses" if run.model.get("gradient") == "agent" else "Potential energy"
    values, title = (run.log["potential_energy"], losses) if kept is None else (kept, name.capitalize())
    atoms = len(run.trajectory.species)
    figure = Figure(figsize=(_WIDTH, 2.3), layout="constrained")
    axes = figure.subplots()
    per_atom = 1e3 * (values - np.median(values)) / atoms
    axes.plot(run.log["time_ps"], per_atom, color=RUN, linewidth=0.5 if kept is None else 0.9)
    axes.set_title(f"{title}, less its median")
    axes.set_ylabel("J/mol per atom")
    _time_axis(axes, comparison)
    return figure


def _time_axis(axes: Axes, comparison: Comparison) -> None:
    """The whole run in ps, with the discarded beginning shaded."""
    times = comparison.run.log["time_ps"]
    axes.set_xlim(0, times[-1])
    axes.set_xlabel("time / ps")
    if comparison.run_window.discarded > 0:
        axes.axvspan(0, comparison.run_window.discarded, color=REFERENCE, alpha=0.10, linewidth=0, zorder=0)


def _banded(axes: Axes, x: FloatArray, blocks: FloatArray, colour: str, zorder: int) -> None:
    mean, half = blocks.mean(axis=0), curve_error(blocks)
    if np.isfinite(half).all():
        axes.fill_between(x, mean - half, mean + half, color=colour, alpha=0.22, linewidth=0, zorder=zorder - 0.5)
    axes.plot(x, mean, color=colour, linewidth=1.3, zorder=zorder)


def _key(axes: Axes) -> None:
    """Names in the colour of their lines, in place of a legend box."""
    for place, (word, colour) in enumerate((("run", RUN), ("reference", REFERENCE))):
        axes.text(
            1.0 - 0.27 * (1 - place),
            1.03,
            word,
            transform=axes.transAxes,
            ha="right",
            va="bottom",
            color=colour,
            fontsize=9,
            fontweight="bold",
        )


def _smooth(values: FloatArray) -> FloatArray:
    """A running mean over a fortieth of the trace, shortened at both ends."""
    half = max(1, len(values) // 80)
    total = np.concatenate([[0.0], np.cumsum(values)])
    low = np.maximum(np.arange(len(values)) - half, 0)
    high = np.minimum(np.arange(len(values)) + half + 1, len(values))
    return np.asarray((total[high] - total[low]) / (high - low))
