"""The parts that the figures of a comparison are drawn with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from openmm_duality.geometry.arrays import FloatArray
from openmm_duality.observables.curves import Curve
from openmm_duality.observables.findings import Observable
from openmm_duality.observables.results import Comparison
from openmm_duality.observables.statistics import curve_error
from openmm_duality.report.style import REFERENCE, RUN, WIDTH, colour

_COLUMNS, _LEGEND_ROW = 3, 0.16  # of a legend below a figure, and inches
_BESIDE = 36  # letters of a title and the names beside it

Line = tuple[str, str, FloatArray, FloatArray]  # name, colour, x, blocks of y


def panel(height: float) -> tuple[Figure, Axes]:
    """A figure with one pair of axes, as wide as a phone."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.subplots()


def lines(comparison: Comparison, observable: Observable, name: str, scale: float = 1.0) -> list[Line]:
    """A curve of the reference and of every run that has it, the reference first.

    Parameters
    ----------
    comparison : Comparison
    observable : Observable
        Whose curves or distributions the comparison holds under its name.
    name : str
        Species, as "O-O".
    scale : float
        Of the abscissa; densities are divided by it where the values are distributions.
    """
    found: list[Line] = []
    for column, c in enumerate(comparison.columns):
        pair = getattr(c, observable.value).get(name)
        if pair is None:
            continue
        if not found:
            found.append(("reference", REFERENCE, scale * pair.reference.centres, pair.reference.blocks))
        found.append((c.name, colour(column), scale * pair.run.centres, pair.run.blocks))
    return found


def moving_lines(comparison: Comparison, curves: Sequence[Mapping[str, Curve]]) -> dict[str, list[Line]]:
    """Curves of the motion of the reference and of every run, which `curves` holds in that order, by name."""
    names = ["reference", *(c.name for c in comparison.columns)]
    colours = [REFERENCE, *(colour(column) for column in range(len(comparison.columns)))]
    return {
        name: [
            (owner, shade, own[name].centres, own[name].blocks)
            for owner, shade, own in zip(names, colours, curves, strict=True)
            if name in own
        ]
        for name in sorted({name for own in curves for name in own})
    }


def draw(axes: Axes, drawn: list[Line], scale: float = 1.0) -> None:
    """Every line with its 95 % band: the first run on top, the reference below it, the other runs at the bottom."""
    for place, (_, shade, x, blocks) in enumerate(drawn):
        zorder = 20 if place == 0 else 22 if shade == RUN else 2 + place
        mean, half = scale * blocks.mean(axis=0), scale * curve_error(blocks)
        if np.isfinite(half).all():
            axes.fill_between(x, mean - half, mean + half, color=shade, alpha=0.2, linewidth=0, zorder=zorder - 0.5)
        axes.plot(x, mean, color=shade, linewidth=1.3, zorder=zorder)


def key(figure: Figure, axes: Axes, drawn: list[Line]) -> None:
    """Names in the colour of their lines, in place of a legend box: beside the title, or below where they are many."""
    beside = len(axes.get_title(loc="left")) + sum(len(name) for name, *_ in drawn)
    if len(drawn) <= 2 and beside < _BESIDE:
        for place, (name, shade, *_) in enumerate(reversed(drawn)):
            axes.annotate(
                name,
                (1.0, 1.0),
                xytext=(-sum(6 * len(n) + 10 for n, *_ in drawn[::-1][:place]), 4),
                xycoords="axes fraction",
                textcoords="offset points",
                ha="right",
                va="bottom",
                color=shade,
                fontsize=9,
                fontweight="bold",
            )
        return
    handles = [axes.plot([], [], color=shade, linewidth=1.8, label=name)[0] for name, shade, *_ in drawn]
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + _LEGEND_ROW * -(-len(handles) // _COLUMNS))
    figure.legend(
        handles=handles, loc="outside lower center", ncols=_COLUMNS, fontsize=8, labelcolor="linecolor",
        handlelength=0.9, columnspacing=1.2, handletextpad=0.5,
    )  # fmt: skip


def smooth(values: FloatArray) -> FloatArray:
    """A running mean over a fortieth of the trace, shortened at both ends."""
    half = max(1, len(values) // 80)
    total = np.concatenate([[0.0], np.cumsum(values)])
    low = np.maximum(np.arange(len(values)) - half, 0)
    high = np.minimum(np.arange(len(values)) + half + 1, len(values))
    return np.asarray((total[high] - total[low]) / (high - low))
