"""The figure of a learning curve."""

from __future__ import annotations

from matplotlib.figure import Figure

from openmm_duality.inference.learning_curve import LearningCurve
from openmm_duality.report.figures import MUTED, REFERENCE, RUN, house_style

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
