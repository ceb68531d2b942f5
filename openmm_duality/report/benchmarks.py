"""The figures of a benchmark: cost against size, cost in units of TIP3P, and error against cost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from openmm_duality.benchmark.cases import FLEXIBLE_PME
from openmm_duality.benchmark.results import Costs, Row
from openmm_duality.benchmark.table import three_digits
from openmm_duality.errors import DualityError
from openmm_duality.files import atomic_write
from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.report.style import MUTED, REFERENCE, RULE, RUN, house_style, png

_LABELS = {
    FLEXIBLE_PME: "flexible TIP3P, PME",
    "tip3p-flexible-rf": "flexible TIP3P, reaction field",
    "tip3p-rigid-pme": "rigid TIP3P, PME (2 fs)",
    "cp2k-nnp": "CP2K, committee network",
    "cp2k-dft": "CP2K, PBE-D3",
}
_MARKERS = "osD^vPX*"


def benchmark_figures(costs: Costs) -> dict[str, Figure]:
    """All figures of a benchmark, by the name of their file.

    ``cost-<platform>``: ms per step against the number of atoms. ``relative-<platform>-<atoms>``: cost in units of
    flexible TIP3P with PME, at the smallest size and wherever CP2K was timed.

    Parameters
    ----------
    costs : Costs
    """
    drawn: dict[str, Figure] = {}
    timed = [row for row in costs.rows if row.ms_per_step is not None]
    cp2k_rows = [row for row in timed if row.backend == "cp2k"]
    with house_style():
        for platform in dict.fromkeys(row.platform for row in timed if row.backend != "cp2k"):
            rows = [row for row in timed if row.platform == platform]
            on_cpu = cp2k_rows if platform == "CPU" else []
            drawn[f"cost-{platform}"] = _against_size(platform, [*rows, *on_cpu])
            smallest = min(row.atoms for row in rows)
            for atoms in sorted({smallest, *(row.atoms for row in on_cpu)}):
                chosen = [row for row in (*rows, *on_cpu) if row.atoms == atoms and row.relative is not None]
                if chosen:
                    drawn[f"relative-{platform}-{atoms}"] = _relative(platform, chosen)
    return drawn


def check_figures(directory: Path, overwrite: bool) -> None:
    """Refuse a folder that is a file, or holds figures of a benchmark that may not be replaced.

    Raises
    ------
    DualityError
        Naming what is there.
    """
    if directory.exists() and not directory.is_dir():
        raise DualityError(f"{directory} is a file, and a folder is needed for the figures; choose another name")
    existing = [path for kind in ("cost-*.png", "relative-*.png") for path in sorted(directory.glob(kind))]
    if existing and not overwrite:
        raise DualityError(f"{existing[0]} exists already; choose another folder, or give --overwrite")


def write_benchmark_figures(costs: Costs, directory: str | Path, *, overwrite: bool = False) -> list[Path]:
    """Write `benchmark_figures` as PNG.

    Parameters
    ----------
    costs : Costs
    directory : path
        Created if it is missing.
    overwrite : bool
        Whether earlier figures there may be replaced.

    Returns
    -------
    list of Path

    Raises
    ------
    DualityError
        If there are figures already and they may not be replaced.
    """
    directory = Path(directory)
    check_figures(directory, overwrite)
    paths = []
    for name, figure in benchmark_figures(costs).items():
        paths.append(directory / f"{name}.png")
        with atomic_write(paths[-1], overwrite) as temporary:
            temporary.write_bytes(png(figure))
    return paths


def cost_figure(points: Sequence[tuple[str, float, float, int]], tip3p: float | None = None) -> Figure:
    """Force error against the cost of a step.

    Parameters
    ----------
    points : sequence of (str, float, float, int)
        Name, error in meV/Å, ms per step and number of coefficients of every model.
    tip3p : float, optional
        Milliseconds of a step of flexible TIP3P with PME, drawn as a line.
    """
    with house_style():
        figure = Figure(figsize=(5.6, 3.4), layout="constrained")
        axes = figure.subplots()
        errors, costs = [point[1] for point in points], [point[2] for point in points]
        axes.loglog(costs, errors, "o", color=RUN, markersize=6, zorder=3)
        ends = [*costs, *([] if tip3p is None else [tip3p])]
        axes.set(
            xlim=(0.85 * min(ends), 1.15 * max(ends)),
            ylim=(0.6 * min(errors), 1.5 * max(errors)),
            xlabel="cost of a step / ms",
            ylabel="force RMSE / meV Å⁻¹",
            title="Error against cost",
        )
        if tip3p is not None:
            axes.axvline(tip3p, color=REFERENCE, linewidth=1.0, zorder=1)
            at: dict[str, Any] = {
                "xy": (tip3p, 1.0),
                "xycoords": axes.get_xaxis_transform(),
                "ha": "right",
                "va": "top",
            }
            axes.annotate("flexible\nTIP3P, PME", color=REFERENCE, fontsize=8, **at, **_offset(-4, -2))
        places = _names_at_edge(axes, [(cost, error, name, RUN) for name, error, cost, _ in points], 0.11)
        for (_, error, cost, coefficients), place in zip(points, places, strict=True):
            axes.annotate(
                f"{three_digits(error)} meV/Å, {three_digits(cost)} ms, {coefficients:,} coefficients",
                (1.02, place),
                xycoords=axes.get_yaxis_transform(),
                color=MUTED,
                fontsize=7.5,
                va="center",
                annotation_clip=False,
                **_offset(0, -9),
            )
        for axis, digits in ((axes.xaxis, (1, 2, 3, 4, 5, 6, 8)), (axes.yaxis, (1, 2, 5))):
            axis.set_major_locator(LogLocator(subs=digits))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_formatter(NullFormatter())
        axes.grid(color=RULE, linewidth=0.6)
    return figure


def _against_size(platform: str, rows: Sequence[Row]) -> Figure:
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    sizes = np.array(sorted({row.atoms for row in rows}))
    ends: list[tuple[float, float, str, str]] = []
    for n, name in enumerate(dict.fromkeys(_label(row, rows) for row in rows)):
        chosen = sorted((row for row in rows if _label(row, rows) == name), key=lambda row: row.atoms)
        atoms, cost = [row.atoms for row in chosen], [float(row.ms_per_step or 0.0) for row in chosen]
        colour, learned = _colour(chosen[0]), chosen[0].what.startswith("duality:")
        style: dict[str, Any] = {"color": colour, "marker": _MARKERS[n % len(_MARKERS)], "markersize": 4.5}
        axes.plot(atoms, cost, linewidth=1.5 if learned else 1.0, zorder=3 if learned else 2, **style)
        if atoms[-1] == sizes[-1]:
            ends.append((atoms[-1], cost[-1], name, colour))
        else:
            axes.annotate(name, (atoms[-1], cost[-1]), color=colour, fontsize=8, va="center", **_offset(8))
    axes.set(xscale="log", yscale="log", xlim=(0.75 * sizes[0], 1.3 * sizes[-1]))
    if len(sizes) > 1:
        _linear_scaling(axes, sizes, min(float(row.ms_per_step or 0.0) for row in rows if row.atoms == sizes[-1]))
    _names_at_edge(axes, ends, 0.052)
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.grid(axis="y", color=RULE, linewidth=0.6)
    axes.set(xlabel="atoms", ylabel="ms per step", title=f"Cost of a step, {platform} platform")
    return figure


def _names_at_edge(axes: Axes, points: Sequence[tuple[float, float, str, str]], spacing: float) -> list[float]:
    """Name points at the right edge of axes, with a line to each.

    Parameters
    ----------
    axes : Axes
        Logarithmic, their limits set.
    points : sequence of (x, y, name, colour)
    spacing : float
        Least distance of two names, as a fraction of the height.

    Returns
    -------
    list of float
        The heights of the names.
    """
    low, high = axes.get_ylim()
    places = [10**place for place in _spread([np.log10(y) for _, y, _, _ in points], spacing * np.log10(high / low))]
    line = {"arrowstyle": "-", "linewidth": 0.4, "alpha": 0.6, "shrinkB": 4, "relpos": (0, 0.5)}
    for place, (x, y, name, colour) in zip(places, points, strict=True):
        axes.annotate(
            name,
            (x, y),
            xytext=(1.02, place),
            textcoords=axes.get_yaxis_transform(),
            color=colour,
            fontsize=8,
            va="center",
            annotation_clip=False,
            arrowprops={**line, "color": colour},
        )
    return places


def _linear_scaling(axes: Axes, sizes: FloatArray, cheapest: float) -> None:
    """The slope of a cost in proportion to the number of atoms, drawn below all data."""
    ends = sizes[-1] * np.array([max(1 / 60, sizes[0] / sizes[-1]), 1.0])
    costs = 0.4 * cheapest * ends / sizes[-1]
    axes.plot(ends, costs, color=MUTED, linewidth=0.8, linestyle=(0, (3, 3)), zorder=1)
    axes.annotate("in proportion to the atoms", (ends[0], costs[0]), color=MUTED, fontsize=7.5, **_offset(8, -4))


def _relative(platform: str, rows: Sequence[Row]) -> Figure:
    ordered = sorted(rows, key=lambda row: float(row.relative or 0.0), reverse=True)
    figure = Figure(figsize=(6.0, 0.7 + 0.3 * len(ordered)), layout="constrained")
    axes = figure.subplots()
    values = [float(row.relative or 0.0) for row in ordered]
    base = 0.5 * min(values)
    axes.barh(
        range(len(ordered)), [v - base for v in values], left=base, height=0.62, color=list(map(_colour, ordered))
    )
    for place, value in enumerate(values):
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
        axes.annotate(three_digits(value), (value, place), va="center", bbox=box, **_offset(4))
    axes.set(xscale="log", xlim=(base, 3 * max(values)))
    axes.set_yticks(range(len(ordered)), [_label(row, rows) for row in ordered])
    axes.tick_params(axis="y", length=0)
    axes.axvline(1.0, color=MUTED, linewidth=0.8, zorder=0)
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.set_xlabel("cost of a step in units of flexible TIP3P with PME")
    axes.set_title(f"{ordered[0].molecules:,} molecules, {platform} platform")
    return figure


def _label(row: Row, rows: Iterable[Row]) -> str:
    if not row.what.startswith("duality:"):
        return _LABELS.get(row.what, row.what)
    same = [other for other in rows if other.what == row.what]
    model = f" {row.model.removesuffix('.safetensors')}" if len({other.model for other in same}) > 1 else ""
    return f"{row.what.removeprefix('duality:')}{model}, {row.backend}"


def _colour(row: Row) -> str:
    if row.what.startswith("duality:"):
        return RUN
    return REFERENCE if row.what == FLEXIBLE_PME or row.backend == "cp2k" else MUTED


def _spread(places: Sequence[float], minimum: float) -> list[float]:
    """Move places apart where two are closer than the minimum, the mean of a cluster unchanged."""
    found = np.array(places, dtype=np.float64)
    order = np.argsort(found, kind="stable")
    for _ in range(50 * len(found)):
        for below, above in pairwise(order):
            push = 0.5 * max(0.0, minimum - (found[above] - found[below]))
            found[below] -= push
            found[above] += push
    return [float(place) for place in found]


def _offset(right: float, up: float = 0.0) -> dict[str, Any]:
    """Offset of a label in points from the point it names."""
    return {"xytext": (right, up), "textcoords": "offset points"}
