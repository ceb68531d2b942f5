"""The figure of a calibration: the errors that were found against those that were predicted."""

from __future__ import annotations

from matplotlib.figure import Figure

from openmm_duality.inference.uncertainty.calibration import Calibration
from openmm_duality.report.style import INK, REFERENCE, RULE, colour, house_style

BAND = 1.25  # a found error within this factor of the predicted one is as good as predicted


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
        axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high), aspect="equal")
        ticks = [tick for tick in (2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000) if low <= tick <= high]
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.set_yticks(ticks, [str(tick) for tick in ticks])
        axes.minorticks_off()
        axes.set_xlabel("predicted force error / meV Å⁻¹", color=INK)
        axes.set_ylabel("actual / meV Å⁻¹", color=INK)
        axes.set_title("Calibration of the predicted force error")
        axes.legend(loc="upper left", fontsize=8)
    return figure
