"""The figures of learning curves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from openmm_duality.inference.learning_curves import LearningCurve
from openmm_duality.report.style import INK, MUTED, REFERENCE, RULE, RUN, colour, house_style

_NAMES = {"all": "all forces", "molecular": "net force on molecules"}


def learning_curve_figure(curve: LearningCurve) -> Figure:
    """Force error on held-out frames against the number of training frames, the number on a logarithmic axis.

    Parameters
    ----------
    curve : LearningCurve
    """
    with house_style():
        figure = Figure(figsize=(4.4, 3.4), layout="constrained")
        axes = figure.subplots()
        for key, colour in zip(("all", "molecular"), (RUN, REFERENCE), strict=True):
            if key in curve.tables[-1].force_rmse:
                errors = [table.force_rmse[key] for table in curve.tables]
                axes.semilogx(curve.frames, errors, "o-", color=colour, linewidth=1.4, markersize=4)
                axes.annotate(
                    _NAMES[key],
                    (curve.frames[0], errors[0]),
                    xytext=(0, 7),
                    textcoords="offset points",
                    color=colour,
                    fontweight="bold",
                )
        axes.set_xticks(curve.frames, [str(count) for count in curve.frames])
        axes.minorticks_off()
        axes.set_ylim(bottom=0.0, top=1.12 * axes.get_ylim()[1])
        axes.grid(axis="y", color=MUTED, alpha=0.15, linewidth=0.7)
        axes.set_xlabel("training frames")
        axes.set_ylabel("RMSE / meV Å⁻¹")
        axes.set_title("Error on frames held out by time")
    return figure


def delta_learning_figure(content: Mapping[str, Any]) -> Figure:
    """Force error on held-out frames against the number of frames of the high level of theory.

    By Δ-learning, by inference from these frames alone, and of the model of the low level as it is.

    Parameters
    ----------
    content : mapping
        What ``scripts/delta_learning.py`` writes: ``low`` by form, and ``curves``.
    """
    forms = list(dict.fromkeys(curve["form"] for curve in content["curves"]))
    with house_style():
        figure = Figure(figsize=(7.4, 4.2), layout="constrained")
        for axes, key, title in zip(figure.subplots(1, 2), ("all", "H"), ("All forces", "Forces on H"), strict=True):
            for curve in content["curves"]:
                points = curve["points"]
                axes.errorbar(
                    [point["frames"] for point in points],
                    [point["force_rmse"][key] for point in points],
                    [point["error"].get(key, 0.0) for point in points],
                    fmt="o-" if curve["what"] == "corrected" else "o--",
                    color=colour(forms.index(curve["form"])),
                    markersize=4 if curve["what"] == "corrected" else 3,
                    linewidth=1.6 if curve["what"] == "corrected" else 1.0,
                    capsize=2.5,
                    label=f"{curve['form']}, {curve['what']}",
                )
            low_level = min(entry["force_rmse"][key] for entry in content["low"].values())
            axes.axhline(low_level, color=REFERENCE, linewidth=1.0, linestyle=":", label="not corrected")
            axes.set_xscale("log")
            axes.set_yscale("log")
            frames = [point["frames"] for point in content["curves"][0]["points"]]
            axes.set_xticks(frames, [str(count) for count in frames])
            low, high = axes.get_ylim()
            ticks = [tick for tick in (40, 50, 60, 80, 100, 150, 200, 300, 400, 600) if low <= tick <= high]
            axes.set_yticks(ticks, [str(tick) for tick in ticks])
            axes.minorticks_off()
            axes.grid(axis="y", color=RULE, linewidth=0.6)
            axes.set_xlabel("frames of the high level")
            axes.set_title(title)
        figure.axes[0].set_ylabel("RMSE on held-out frames / meV Å⁻¹", color=INK)
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8)
    return figure
