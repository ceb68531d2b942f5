"""The figures of an inference: learning curves, Δ-learning, and the calibration of predicted errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from openmm_duality.inference.learning_curves import LearningCurve
from openmm_duality.inference.uncertainty.calibration import Calibration
from openmm_duality.report.style import INK, MUTED, REFERENCE, RULE, RUN, colour, house_style

BAND = 1.25  # an actual error within this factor of the predicted one is as good as predicted
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
        axes.set(xlabel="training frames", ylabel="RMSE / meV Å⁻¹", title="Error on frames held out by time")
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
            axes.set(xscale="log", yscale="log", xlabel="frames of the high level", title=title)
            frames = [point["frames"] for point in content["curves"][0]["points"]]
            axes.set_xticks(frames, [str(count) for count in frames])
            low, high = axes.get_ylim()
            ticks = [tick for tick in (40, 50, 60, 80, 100, 150, 200, 300, 400, 600) if low <= tick <= high]
            axes.set_yticks(ticks, [str(tick) for tick in ticks])
            axes.minorticks_off()
            axes.grid(axis="y", color=RULE, linewidth=0.6)
        figure.axes[0].set_ylabel("RMSE on held-out frames / meV Å⁻¹", color=INK)
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8)
    return figure


def calibration_figure(calibration: Calibration) -> Figure:
    """Force errors found against those predicted, by fifths of the predicted ones, both on logarithmic axes.

    Parameters
    ----------
    calibration : Calibration
    """
    values = [x for mine in calibration.species.values() for x in (*mine.predicted, *mine.found)]
    low, high = 0.8 * min(values), 1.25 * max(values)
    with house_style():
        figure = Figure(figsize=(4.0, 3.8), layout="constrained")
        axes = figure.subplots()
        axes.fill_between([low, high], [low / BAND, high / BAND], [low * BAND, high * BAND], color=RULE, linewidth=0.0)
        axes.plot([low, high], [low, high], color=REFERENCE, linewidth=1.0)
        for number, (name, mine) in enumerate(calibration.species.items()):
            one, two = (f"{100.0 * share:.0f} %" for share in mine.within)
            label = f"{name}: {one} within σ, {two} within 2 σ"
            axes.plot(mine.predicted, mine.found, "o-", color=colour(number), linewidth=1.4, markersize=5, label=label)
        axes.set(
            xscale="log",
            yscale="log",
            xlim=(low, high),
            ylim=(low, high),
            aspect="equal",
            xlabel="predicted force error / meV Å⁻¹",
            ylabel="actual / meV Å⁻¹",
            title="Calibration of the predicted force error",
        )
        ticks = [tick for tick in (2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000) if low <= tick <= high]
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.set_yticks(ticks, [str(tick) for tick in ticks])
        axes.minorticks_off()
        axes.legend(loc="upper left", fontsize=8)
    return figure
