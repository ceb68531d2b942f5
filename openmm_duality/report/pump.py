"""The figure of the pump: measured against predicted, and the error of forces against the penalty and against it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from openmm_duality.report.style import MUTED, RULE, colour, house_style

UPPER_LIMIT = "upper limit, measured ≤ 0"
_PUMP = "predicted pump\nkJ/mol per atom and ps"
_TICKS = (10, 20, 30, 50, 100, 200, 300, 500)  # meV/Å
_FACTOR = 2.0  # of the band about the predictions
_ERRORS = 2.0  # standard errors from a measured value at or below zero to the upper limit


def pump_figure(content: Mapping[str, Any]) -> Figure:
    """Measured against predicted pump, and error of forces against the strength of the penalty and the predicted pump.

    A measured value at or below zero is drawn as an upper limit, two standard errors above it; an error bar that
    reaches zero goes down to the axis.

    Parameters
    ----------
    content : mapping
        What ``scripts/pump.py`` writes: ``points``, each with ``form``, ``gradient``, ``eta``,
        ``force_rmse_mev_per_angstrom``, ``predicted`` (zero of losses with a potential, whose error is a dashed line)
        and, of a run that was whole, ``measured`` with its ``standard_error``.
    """
    pumping = [point for point in content["points"] if point["predicted"] > 0.0]
    families = list(dict.fromkeys(map(_family, pumping)))
    with house_style():
        figure = Figure(figsize=(7.6, 3.8), layout="constrained")
        measured, *errors = figure.subplots(1, 3, width_ratios=(1.3, 1.0, 1.0))
        errors[1].sharey(errors[0])
        _draw_predictions(measured, pumping)
        for number, family in enumerate(families):
            mine = [point for point in pumping if _family(point) == family]
            _draw_measured(measured, [point for point in mine if "measured" in point], colour(number), family)
            for axes, key in zip(errors, ("eta", "predicted"), strict=True):
                line = sorted((point[key], point["force_rmse_mev_per_angstrom"]) for point in mine)
                axes.plot(*zip(*line, strict=True), "o-", color=colour(number), markersize=4.5, linewidth=1.2)
        for point in (point for point in content["points"] if point["predicted"] <= 0.0):
            for axes in errors:
                axes.axhline(point["force_rmse_mev_per_angstrom"], color=MUTED, linewidth=0.9, linestyle="--", zorder=1)
            measured.plot([], [], color=MUTED, linewidth=0.9, linestyle="--", label=_family(point))
        if any(point.get("measured", 1.0) <= 0.0 for point in pumping):
            measured.plot([], [], "v", color=MUTED, markersize=5.5, label=UPPER_LIMIT)
        measured.set(title="Measured pump", xlabel=_PUMP)
        errors[0].set(title="Force RMSE / meV/Å", xlabel="strength η\nof the penalty", xscale="log", yscale="log")
        errors[1].set(xlabel=_PUMP, xscale="log")
        errors[1].tick_params(labelleft=False)
        low, high = errors[0].get_ylim()
        errors[0].set_yticks([tick for tick in _TICKS if low < tick < high], minor=False)
        errors[0].yaxis.set_major_formatter("{x:g}")
        errors[0].yaxis.set_minor_formatter(NullFormatter())
        for axes in (measured, *errors):
            axes.xaxis.label.set_color(MUTED)
            axes.grid(color=RULE, linewidth=0.6)
        handles, names = measured.get_legend_handles_labels()
        named = dict(zip(names, handles, strict=True))
        shown = [*families, *(name for name in names if name not in families)]
        figure.legend([named[name] for name in shown], shown, loc="outside lower center", ncols=4, fontsize=8)
    return figure


def _family(point: Mapping[str, Any]) -> str:
    return f"{point['form']}, {point['gradient']}"


def _draw_predictions(axes: Axes, points: Sequence[Mapping[str, Any]]) -> None:
    """Draw the line on which measured values are as predicted, and a band about it."""
    predicted = [point["predicted"] for point in points]
    ends = np.array([0.5 * min(predicted), 2.0 * max(predicted)])
    axes.fill_between(
        ends,
        ends / _FACTOR,
        ends * _FACTOR,
        color=RULE,
        alpha=0.5,
        linewidth=0.0,
        label=f"within a factor of {_FACTOR:g}",
    )
    axes.plot(ends, ends, color=MUTED, linewidth=0.8)
    shown = [_height(point) for point in points if "measured" in point]
    axes.set(xscale="log", xlim=ends, ylim=(0.5 * min(*ends, *shown), 2.0 * max(*ends, *shown)))
    axes.set_yscale("log", nonpositive="clip")


def _draw_measured(axes: Axes, points: Sequence[Mapping[str, Any]], shade: str, name: str) -> None:
    """Draw measured values with their standard errors, those at or below zero as upper limits."""
    above = [point for point in points if point["measured"] > 0.0]
    x, y, error = ([point[key] for point in above] for key in ("predicted", "measured", "standard_error"))
    axes.errorbar(x, y, error, fmt="o", color=shade, markersize=4.5, linewidth=1.1, label=name)
    for point in points:
        if point["measured"] <= 0.0:
            axes.plot(point["predicted"], _height(point), "v", color=shade, markersize=5.5)


def _height(point: Mapping[str, Any]) -> float:
    """Where a measured value is drawn."""
    mean = float(point["measured"])
    return mean if mean > 0.0 else mean + _ERRORS * float(point["standard_error"])
