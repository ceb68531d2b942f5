"""The figure of the pump: measured against predicted, and the error of forces against it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from openmm_duality.report.style import MUTED, RULE, colour, house_style

_LEAST = 1e-3  # kJ/mol per atom and ps, below which no run of picoseconds shows a pump


def pump_figure(content: Mapping[str, Any]) -> Figure:
    """Measured pump against the predicted one, and error of forces against the predicted pump, by form and gradient.

    Parameters
    ----------
    content : mapping
        What ``scripts/pump.py`` writes: ``points``, each with ``form``, ``gradient``, ``eta``,
        ``force_rmse_mev_per_angstrom``, ``predicted`` and, of a run that was whole, ``measured`` with its
        ``standard_error``.
    """
    points = content["points"]
    families = list(dict.fromkeys((point["form"], point["gradient"]) for point in points))
    with house_style():
        figure = Figure(figsize=(7.4, 3.4), layout="constrained")
        measured, errors = figure.subplots(1, 2)
        for number, family in enumerate(families):
            mine = [point for point in points if (point["form"], point["gradient"]) == family]
            shade, name = colour(number), ", ".join(family)
            whole = [point for point in mine if point.get("measured") is not None]
            x, y = [p["predicted"] for p in whole], [max(p["measured"], _LEAST) for p in whole]
            low = [min(p["standard_error"], 0.9 * value) for p, value in zip(whole, y, strict=True)]
            high = [p["standard_error"] for p in whole]
            measured.errorbar(x, y, yerr=(low, high), fmt="o", color=shade, markersize=4.5, linewidth=1.0, label=name)
            line = sorted((p["predicted"], p["force_rmse_mev_per_angstrom"]) for p in mine)
            errors.plot(*zip(*line, strict=True), "o-", color=shade, markersize=4.5, linewidth=1.2, label=name)
        ends = [min(p["predicted"] for p in points), max(p["predicted"] for p in points)]
        measured.plot(ends, ends, color=MUTED, linewidth=0.8)
        measured.set(title="Measured pump", xscale="log", yscale="log")
        errors.set(title="Force RMSE / meV/Å", xscale="log", yscale="log")
        for axes in (measured, errors):
            axes.set_xlabel("predicted pump / kJ/mol per atom and ps", color=MUTED)
            axes.grid(color=RULE, linewidth=0.6)
        measured.legend(loc="upper left", fontsize=8)
    return figure
