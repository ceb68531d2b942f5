"""The figure of the lowest energies that methods of descent find."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from openmm_duality.report.style import MUTED, RULE, colour, house_style

_PANELS = 3


def descent_figure(content: Mapping[str, Any]) -> Figure:
    """Mean of the lowest energy so far against the number of force evaluations, for up to three sizes.

    Parameters
    ----------
    content : mapping
        What ``scripts/descent_comparison.py`` writes: ``evaluations``, and ``sizes`` with the means of every method.
    """
    sizes = content["sizes"]
    chosen = sorted({round(k * (len(sizes) - 1) / (_PANELS - 1)) for k in range(_PANELS)})
    with house_style():
        figure = Figure(figsize=(7.4, 3.0), layout="constrained")
        panels = figure.subplots(1, len(chosen), squeeze=False)[0]
        for axes, size in zip(panels, (sizes[k] for k in chosen), strict=True):
            for number, (name, found) in enumerate(size["methods"].items()):
                above, error = found["mean_above_lowest"], found["error_of_mean"]
                line = {"color": colour(number), "linewidth": 1.4, "elinewidth": 0.7, "label": name}
                axes.errorbar(content["evaluations"], above, error, **line)
            axes.set(xscale="log", title=f"{size['molecules']} molecules", ylim=(0.0, None))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.set_xlabel("force evaluations", color=MUTED)
            axes.grid(axis="y", color=RULE, linewidth=0.6)
        panels[0].set_ylabel("above the lowest / kJ/mol", color=MUTED)
        handles, names = panels[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=2, fontsize=8)
    return figure
