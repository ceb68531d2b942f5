"""The figure of sizes and costs against the number of species."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from openmm_duality.report.style import MUTED, RULE, colour, house_style

_PANELS = {
    "coefficients": "Coefficients",
    "memory_mib": "Memory of inference / MiB",
    "cpu_seconds": "Processor time of inference / s",
    "fastest": "Cost of a step / µs per atom",
}


def species_figure(content: Mapping[str, Any]) -> Figure:
    """Coefficients, memory, time of inference and cost of a step against the number of species, by form.

    Parameters
    ----------
    content : mapping
        What ``scripts/species_scaling.py`` writes: ``points``, each with a ``form``, a number of ``species`` and what
        was measured. Numbers of coefficients of models that were not inferred are drawn hollow.
    """
    points = content["points"]
    forms = list(dict.fromkeys(point["form"] for point in points))
    species = sorted({point["species"] for point in points})
    with house_style():
        figure = Figure(figsize=(7.4, 5.2), layout="constrained")
        for axes, (key, title) in zip(figure.subplots(2, 2, sharex=True).flat, _PANELS.items(), strict=True):
            for number, form in enumerate(forms):
                found = [p for p in points if p["form"] == form and p.get(key) is not None]
                x, y = [p["species"] for p in found], [p[key] for p in found]
                axes.plot(x, y, color=colour(number), linewidth=1.4, label=form)
                for p in found:
                    face = colour(number) if "seconds" in p else "white"
                    axes.plot(p["species"], p[key], "o", color=colour(number), markerfacecolor=face, markersize=4.5)
            axes.set(title=title, xticks=species)
            if key in ("memory_mib", "fastest"):
                axes.set_ylim(bottom=0.0, top=1.1 * max(p[key] for p in points if p.get(key) is not None))
                axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
            else:
                axes.set_yscale("log")
                axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
                axes.yaxis.set_minor_formatter(NullFormatter())
            axes.grid(axis="y", color=RULE, linewidth=0.6)
        for axes in figure.axes[2:]:
            axes.set_xlabel("species", color=MUTED)
        figure.axes[0].legend(loc="upper left", fontsize=8)
    return figure
